"""The writing end of a pipe that nobody waits for unless he wants to."""

from __future__ import annotations

import fcntl
import os
import select
import time
from contextlib import suppress

_PIPE_BYTES = 1 << 20
"""What Linux gives to anybody: about a second of video. What the receiver has not taken by then is too old."""


class Pipe:
    """A file object for a muxer. What the pipe has no room for waits here; who writes should `send` first.

    Raises:
        OSError: from all methods: the other end is closed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = bytearray()
        self._moved_s = time.monotonic()
        os.set_blocking(descriptor, False)
        with suppress(OSError):  # an administrator may have allowed less
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def stuck_s(self) -> float:
        """Seconds since something went into the pipe, or since nothing was left to go."""
        return time.monotonic() - self._moved_s

    def write(self, data: bytes) -> int:
        """Take all of `data`, without waiting."""
        self._rest += data
        self.send()
        return len(data)

    def send(self, timeout_s: float = 0.0) -> bool:
        """Move what waits here into the pipe, waiting so long for room; tell whether nothing is left."""
        deadline_s = time.monotonic() + timeout_s
        while self._rest:
            try:
                count = os.write(self._descriptor, self._rest)
            except BlockingIOError:
                remaining_s = deadline_s - time.monotonic()
                if remaining_s <= 0:
                    return False
                select.select([], [self._descriptor], [], remaining_s)
            else:
                del self._rest[:count]
                self._moved_s = time.monotonic()
        self._moved_s = time.monotonic()
        return True
