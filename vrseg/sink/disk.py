"""How much room a disk has left for recordings."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOOK_EVERY_S = 1.0
_MOST_SPARE_BYTES = 100_000_000


def free_bytes(path: Path) -> int | None:
    """Bytes that may be written to the file system of `path`, or of the first folder above it that exists.

    None when the system does not say: then writing itself will tell.
    """
    folder = path
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


class DiskGuard:
    """Says when a disk has too little room left. The disk itself is asked once a second at most."""

    def __init__(
        self,
        folder: Path,
        min_free_bytes: int,
        *,
        ask: Callable[[Path], int | None] = free_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._ask = ask
        self._clock = clock
        self._next_look_s = float("-inf")
        self._hindrance: str | None = None

    def hindrance(self) -> str | None:
        """Tell in one line why nothing may be written; None when something may."""
        now_s = self._clock()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + _LOOK_EVERY_S
            self._look()
        return self._hindrance

    def _look(self) -> None:
        free = self._ask(self._folder)
        # A little more to go on: so that it does not stop and start with every file that comes and goes.
        spare = 0 if self._hindrance is None else min(self._min_free_bytes // 20, _MOST_SPARE_BYTES)
        needed = self._min_free_bytes + spare
        self._hindrance = None
        if free is not None and free < needed:
            self._hindrance = (
                f"{self._folder}: {_spoken(free)} free, less than min_free, {_spoken(self._min_free_bytes)}: "
                "free some space, or keep less"
            )


def _spoken(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
