"""When a frame is shown, how long it lasts, and when a key frame is due: the same for every encoder."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from vrseg.encode.settings import EncodeSettings
    from vrseg.frame import Frame

_USUAL_FRAME_RATE = Fraction(25)

_log = structlog.get_logger(__name__)


class EncoderClock:
    """The clock of a stream's first frame. Every later frame is put on it; frame intervals may vary."""

    def __init__(self, settings: EncodeSettings, first: Frame) -> None:
        self.time_base = first.time_base
        self.rate = _frame_rate(settings, first)
        """Frames per second."""
        self.usual_duration = max(1, round(1 / (self.rate * first.time_base)))
        """In `time_base` units, as all times here."""
        self.gop_frames = max(1, round(settings.gop_s * self.rate))
        """Frames between key frames, were they to come at `rate`."""
        self._gop = settings.gop_s / first.time_base
        self._next_key_pts: float = first.pts
        self._last_pts: int | None = None

    def pts(self, frame: Frame) -> int:
        """Give the frame's time on this clock. Damaged input may repeat a time, which no container can."""
        pts = self._rescale(frame.pts, frame.time_base)
        if self._last_pts is not None and pts <= self._last_pts:
            _log.warning("time does not advance; frame moved", stream=frame.stream, pts=pts, after=self._last_pts)
            pts = self._last_pts + 1
        self._last_pts = pts
        return pts

    def duration(self, frame: Frame) -> int:
        """Give the frame's duration on this clock."""
        return self._rescale(frame.duration, frame.time_base) or self.usual_duration

    def key_due(self, pts: int) -> bool:
        """Tell, once for each `pts`, whether it must be a key frame; counting frames would not do, see above."""
        if pts < self._next_key_pts:
            return False
        self._next_key_pts = pts + self._gop
        return True

    def want_key(self) -> None:
        """Make the next frame a key frame."""
        self._next_key_pts = float("-inf")

    def _rescale(self, ticks: int, time_base: Fraction) -> int:
        return ticks if time_base == self.time_base else round(ticks * time_base / self.time_base)


def _frame_rate(settings: EncodeSettings, frame: Frame) -> Fraction:
    if settings.frame_rate:
        return settings.frame_rate
    if frame.duration:
        return (1 / (frame.duration * frame.time_base)).limit_denominator(1001)
    return _USUAL_FRAME_RATE
