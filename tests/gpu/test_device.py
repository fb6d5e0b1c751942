"""What is said of a device that cannot be used."""

from __future__ import annotations

import sys

import pytest

from vrseg.errors import DeviceError
from vrseg.gpu.device import open_gpu


@pytest.mark.parametrize("library", ["cupy", "cuda.bindings.driver"])
def test_a_library_that_is_missing_is_named_with_what_mends_it(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """At the start: memory that is first freed an hour later needs it too."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DeviceError) as failure:
        open_gpu()
    said = str(failure.value)
    assert said.startswith("device cuda: ")
    assert library in said
    assert said.endswith("; install the extra: pip install 'vrseg[cuda]'")
