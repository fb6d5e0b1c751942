from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from plugins.networks import color_network

from vrseg.config.schema import Model
from vrseg.models.licence import licence_warning
from vrseg.models.load import load_spec

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("licence", "words"),
    [
        ("AGPL-3.0", "source of the whole work"),
        ("AGPL-3.0-or-later", "source of the whole work"),
        ("GPL-3.0", "must pass on the source"),
        ("CC-BY-NC-4.0", "non-commercial use only"),
        ("CC-BY-NC-SA-4.0", "non-commercial use only"),
        ("S-Lab 1.0", "non-commercial use only"),
        ("custom, non-commercial", "non-commercial use only"),
        ("research only", "non-commercial use only"),
        (None, "nobody says"),
        ("", "nobody says"),
        ("unknown", "nobody says"),
        ("Apache-2.0", None),
        ("MIT", None),
        ("BSD-3-Clause", None),
        ("LGPL-2.1", None),
        ("CC-BY-4.0", None),
    ],
)
def test_licences_that_ask_for_much_are_spoken_of(tmp_path: Path, licence: str | None, words: str | None) -> None:
    path = color_network(tmp_path / "body.onnx", [[1.0, 0.0, 0.0]], [0.0])
    spec = replace(load_spec("body", Model(path=path.name), tmp_path), licence=licence)
    warning = licence_warning(spec)
    if words is None:
        assert warning is None
    else:
        assert warning is not None
        assert words in warning
        assert "model body" in warning
