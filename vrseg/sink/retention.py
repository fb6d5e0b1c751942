"""When recordings are old enough, or too many, to be deleted."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vrseg.sink.written import Written, WrittenFiles

SETTLING_S = 60.0
"""A clock that was wrong at the start has been set by then; until then nothing of former runs is too old."""
_JUMP_S = 30.0
"""A clock that is merely slewed does not get so far from the time that passes."""
_LOOK_EVERY_S = 5.0


class Retention:
    """Deletes what is older than `keep_s`, and the oldest while all together exceed `keep_bytes`.

    Ages are what really passed: when the system's clock is set, what is known of the files moves along with it.
    """

    def __init__(
        self,
        files: WrittenFiles,
        *,
        keep_s: float | None,
        keep_bytes: int | None,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._keep_s = keep_s
        self._keep_bytes = keep_bytes
        self._wall_clock = wall_clock
        self._clock = clock
        self._next_look_s = float("-inf")
        self._loaded = False
        self._own: set[str] = set()
        """Names of files that this run has written."""
        self._began_s = clock()
        self._anchor_s = wall_clock() - self._began_s

    def load(self) -> None:
        """Read the index; again after a fault, for a share may not have been there before."""
        self._files.load()
        self._loaded = True

    def begin(self, path: Path) -> None:
        """Note a file that has just been created. Raises OSError."""
        self._own.add(self._files.begin(path).name)

    def complete(self, path: Path) -> None:
        """Note a file that is whole. Raises OSError."""
        self._files.complete(path, self._now_s())

    def discard(self, path: Path) -> None:
        """Strike out a file that was created and came to nothing. Raises OSError."""
        self._files.discard(path)

    def apply(self, current: Path | None, *, at_once: bool = False) -> None:
        """Delete what is due, `current` never; looks every few seconds only, unless `at_once`."""
        if not at_once and self._clock() < self._next_look_s:
            return
        self._next_look_s = self._clock() + _LOOK_EVERY_S
        with suppress(OSError):  # index and anchor are as they were, and agree; what goes now makes room to move both
            self._follow_clock()
        complete = [file for file in self._files if file.size >= 0]
        self._own.intersection_update(file.name for file in self._files)
        if self._keep_s is not None:
            complete = self._delete_old(complete, self._keep_s)
        if self._keep_bytes is not None:
            self._delete_excess(complete, self._keep_bytes, _size(current))

    def delete_due(self) -> None:
        """Delete what is due while nothing is written: no camera may be there for weeks, or no room on the disk."""
        with suppress(OSError):  # the index did not fit either: what was deleted has made room for the next try
            if not self._files.path.exists():
                return  # nothing is written yet, or the share is away, which is not to be taken for files that are gone
            if not self._loaded:
                self.load()
            self.apply(None)

    def _delete_old(self, files: list[Written], keep_s: float) -> list[Written]:
        """Return what is left."""
        oldest_s = self._now_s() - keep_s
        settled = self._clock() - self._began_s >= SETTLING_S

        def due(file: Written) -> bool:
            return file.ended_s < oldest_s and (settled or file.name in self._own)

        return [file for file in files if not (due(file) and self._files.delete(file))]

    def _delete_excess(self, files: list[Written], keep_bytes: int, current_bytes: int) -> None:
        total = current_bytes + sum(file.size for file in files)
        for file in files:
            if total <= keep_bytes:
                return
            if self._files.delete(file):
                total -= file.size

    def _now_s(self) -> float:
        return self._clock() + self._anchor_s

    def _follow_clock(self) -> None:
        jump_s = self._wall_clock() - self._now_s()
        if abs(jump_s) < _JUMP_S:
            return
        # Early on, a clock is set right, and what former runs noted was right before. Later on, whatever happens to the
        # clock, no file has grown older by it. Times from the future were noted by a better clock than this was.
        settling = self._clock() - self._began_s < SETTLING_S
        now_s = self._now_s()
        self._files.shift(jump_s, lambda file: file.ended_s <= now_s and (file.name in self._own or not settling))
        self._anchor_s += jump_s  # only now: where the index could not be written, both are as they were


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0
