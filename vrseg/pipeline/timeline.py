"""One steady clock for a live stream, over reconnects and cameras that jump in time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from vrseg.frame import Frame

# A camera's clock may run ahead of what has really passed by its jitter buffer, but not by this.
MAX_LEAP_S = 5.0


class Timeline:
    """Places the frames of all connections on one line that only goes forward.

    Within a connection the distances between frames stay as the camera says. Where a new connection begins, or the
    camera's clock jumps back or far ahead, the time that really passed takes its place. Pictures that stand in for
    frames have places, too.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._offset: int | None = 0
        self._last_pts: int | None = None
        self._last_s = 0.0
        self._time_base: Fraction | None = None

    def new_connection(self) -> None:
        """The next frame comes from a clock of its own."""
        if self._last_pts is not None:
            self._offset = None

    def place(self, frame: Frame) -> int:
        """Return the frame's presentation time on the line, in its own `time_base` units."""
        now_s = self._clock()
        self._count_in(frame.time_base)
        if self._last_pts is None:
            self._offset = 0
        elif self._offset is None or not self._plausible(frame.pts + self._offset, frame.time_base, now_s):
            self._offset = self._last_pts + self._passed(now_s) - frame.pts
        assert self._offset is not None  # noqa: S101 -- both branches above have set it
        self._last_pts, self._last_s = frame.pts + self._offset, now_s
        return self._last_pts

    def place_now(self) -> int:
        """Return a time on the line for a picture of this moment, in `time_base` units of the last frame."""
        now_s = self._clock()
        assert self._last_pts is not None  # noqa: S101 -- only after the first frame is there one to stand in for
        self._last_pts, self._last_s = self._last_pts + self._passed(now_s), now_s
        return self._last_pts

    def _passed(self, now_s: float) -> int:
        assert self._time_base is not None  # noqa: S101 -- there was a frame
        return max(1, round((now_s - self._last_s) / self._time_base))

    def _count_in(self, time_base: Fraction) -> None:
        """A new connection may count in other units."""
        if self._last_pts is not None and self._time_base not in {None, time_base}:
            self._last_pts = round(self._last_pts * self._time_base / time_base)
            self._offset = None
        self._time_base = time_base

    def _plausible(self, pts: int, time_base: Fraction, now_s: float) -> bool:
        assert self._last_pts is not None  # noqa: S101 -- asked only after the first frame
        step_s = (pts - self._last_pts) * time_base.numerator / time_base.denominator
        return 0 < step_s < now_s - self._last_s + MAX_LEAP_S
