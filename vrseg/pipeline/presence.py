"""Whether a live source gives frames, and what to say while it does not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vrseg.pipeline.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

# What is shorter than this nobody takes for an outage, and players bridge it.
AWAY_AFTER_S = 1.0
# Of its usual distances between frames; a camera that gives one each two seconds is not away in between.
_USUAL_GAPS = 4
# One outage does not make a slow camera.
_LONGEST_GAP_S = 5.0
# How quickly the usual distance follows a change.
_MEMORY = 0.1

STAND_INS_PER_S = 5
"""A still picture with a clock of seconds on it: more would only cost. Never more often than the source's frames."""


class Presence:
    """Shared by what reads a stream's source and what writes its outputs. Lives on the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeline = Timeline(clock)
        self.reconnecting = False
        """The connection is lost, and a new one has not given a frame yet."""
        self._clock = clock
        self._last_s: float | None = None
        self._usual_gap_s = 0.0

    def frame_came(self) -> None:
        """Note a frame of the source."""
        now_s = self._clock()
        if self._last_s is not None and not self.reconnecting:
            gap_s = min(now_s - self._last_s, _LONGEST_GAP_S)
            self._usual_gap_s = (
                self._usual_gap_s + _MEMORY * (gap_s - self._usual_gap_s) if self._usual_gap_s else gap_s
            )
        self._last_s = now_s
        self.reconnecting = False

    @property
    def away_s(self) -> float | None:
        """Seconds since the last frame, when that is too long; None while the source is there, or never was."""
        if self._last_s is None:
            return None
        gap_s = self._clock() - self._last_s
        return gap_s if gap_s >= self._limit_s else None

    @property
    def patience_s(self) -> float:
        """Seconds after which to look again whether a picture must stand in for a frame."""
        if self._last_s is None:
            return AWAY_AFTER_S
        gap_s = self._clock() - self._last_s
        return self._interval_s if gap_s >= self._limit_s else self._limit_s - gap_s

    @property
    def _limit_s(self) -> float:
        return AWAY_AFTER_S if self.reconnecting else max(AWAY_AFTER_S, _USUAL_GAPS * self._usual_gap_s)

    @property
    def _interval_s(self) -> float:
        return max(1 / STAND_INS_PER_S, self._usual_gap_s)

    def stand_in_duration(self, time_base: Fraction) -> int:
        """How long such a picture lasts, in `time_base` units."""
        return max(1, round(self._interval_s / time_base))

    def text(self, away_s: float) -> str:
        """Say what viewers should know."""
        return f"{'reconnecting' if self.reconnecting else 'stalled'}: no signal for {spoken_age(away_s)}"


def spoken_age(seconds: float) -> str:
    """Say how long: `12 s`, `3 min`, `2 h 5 min`, `3 d`."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 120:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d"
