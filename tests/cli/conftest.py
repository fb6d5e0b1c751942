from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Protocol

import pytest

from vrseg.cli import main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


class Vrseg(Protocol):
    def __call__(self, *arguments: object) -> Done: ...


@pytest.fixture
def vrseg(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Vrseg:
    """Run the command line within this process; stdout and stderr are pipes."""

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["vrseg", *map(str, arguments)])
        capfd.readouterr()
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        out, err = capfd.readouterr()
        return Done(code, out, err)

    return call
