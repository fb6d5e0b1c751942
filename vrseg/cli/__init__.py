"""The command line: parse, call, return an exit code. One file per command."""

from __future__ import annotations

from vrseg.cli.main import main

__all__ = ["main"]
