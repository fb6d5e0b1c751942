from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from vrseg.config.load import load
from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from vrseg.config.schema import Config


class Load(Protocol):
    def __call__(self, text: str, *overrides: str, **environment: str) -> Config: ...


class Mistakes(Protocol):
    def __call__(self, text: str, *overrides: str, **environment: str) -> list[str]: ...


def _write(folder: Path, text: str) -> Path:
    path = folder / "vrseg.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    """Load a configuration from text."""

    def call(text: str, *overrides: str, **environment: str) -> Config:
        return load(_write(tmp_path, text), overrides=overrides, environment=environment)

    return call


@pytest.fixture
def mistakes_in(tmp_path: Path) -> Mistakes:
    """The problems of a configuration, each as `LINE: key.path: text` with the folder left out."""

    def call(text: str, *overrides: str, **environment: str) -> list[str]:
        path = _write(tmp_path, text)
        with pytest.raises(ConfigError) as caught:
            load(path, overrides=overrides, environment=environment)
        assert str(caught.value) == "\n".join(caught.value.problems)
        return [problem.replace(f"{path}:", "") for problem in caught.value.problems]

    return call
