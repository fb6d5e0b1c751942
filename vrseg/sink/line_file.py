"""A text file that grows by lines, and starts anew when it is large enough."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrseg.av_errors import output_error
from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

_FLUSH_EVERY_S = 1.0
"""Readers that follow a live file see it no later than this; each line alone would be a system call per frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When a file is full, and what becomes of it: `x.jsonl` becomes `x.jsonl.1`, that `x.jsonl.2`, and so on."""

    max_bytes: int
    """A line that would make the file larger goes to a new one."""
    backups: int
    """Numbered files that are kept."""


class LineFile:
    """Lines of text, in a file or on standard output.

    Args:
        path: a file, or None for standard output.
        whole: True writes beside the name and renames in `commit`, if there was a line; `close` without `commit` leaves
            nothing. False appends as lines come.
        rotation: for files that are not `whole`.

    Raises:
        ConfigError: from `open`, the file cannot be made.
        MediaError: from `write` and `commit`, the disk is full or the reader went away.
    """

    def __init__(self, path: Path | None, *, whole: bool = False, rotation: Rotation | None = None) -> None:
        self._path = path
        self._part = path.with_name(f".{path.stem}.part{path.suffix}") if path is not None and whole else None
        self._rotation = None if whole or path is None else rotation
        self._file: IO[str] | None = None
        self._bytes = 0
        self._flushed_s = 0.0

    def open(self) -> None:
        """Make or continue the file."""
        try:
            if self._path is None:
                self._file = sys.stdout
            elif self._part is not None:
                self._file = self._part.open("w", encoding="utf-8")
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._append_to(self._path)
        except OSError as error:
            raise ConfigError(str(output_error(error, str(self._path), live=False))) from error

    def write(self, line: str, *, now: bool = False) -> None:
        """Add a line; readers see it within a second, or `now`."""
        if self._file is None:
            return
        clock_s = time.monotonic()
        try:
            if line:
                self._make_room(len(line.encode()))
                self._file.write(line)
            if now or clock_s - self._flushed_s >= _FLUSH_EVERY_S:
                self._flushed_s = clock_s
                self._file.flush()
        except OSError as error:
            raise output_error(error, str(self._path or "standard output"), live=False) from error

    def commit(self) -> None:
        """Let readers see all lines, under the file's own name."""
        self.write("", now=True)
        if self._part is not None and self._path is not None and self._file is not None and self._file.tell():
            self._close_file()
            try:
                self._part.replace(self._path)
            except OSError as error:
                raise output_error(error, str(self._path), live=False) from error

    def close(self) -> None:
        """Let go of the file. Always safe."""
        unfinished = self._file is not None
        self._close_file()
        if unfinished and self._part is not None:
            self._part.unlink(missing_ok=True)

    def _append_to(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._bytes = self._file.tell()

    def _make_room(self, more_bytes: int) -> None:
        if self._rotation is None or self._path is None:
            return
        if self._bytes and self._bytes + more_bytes > self._rotation.max_bytes:
            self._close_file()
            _shift(self._path, self._rotation.backups)
            self._append_to(self._path)
        self._bytes += more_bytes

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None and file is not sys.stdout:
            with suppress(OSError):  # a full disk was already told by the write before
                file.close()


def _shift(path: Path, backups: int) -> None:
    """Give the file and its numbered elders the next number each; the eldest goes."""
    for number in range(backups, 0, -1):
        younger = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
        if younger.exists():
            younger.replace(path.with_name(f"{path.name}.{number}"))
