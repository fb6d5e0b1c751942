"""What a container says of a packet, kept while the packet's picture is inside a decoder that forgets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

# Pictures that never come out (hidden ones, damaged ones) would pile up. No decoder holds more pictures back than
# sixteen and the few in its pipeline.
_MOST_KEPT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a picture is shown, in the time base of its stream."""

    pts: int | None
    dts: int | None
    duration: int
    """0 when unknown."""
    shown: bool
    """False for pictures that the container wants decoded only: those before the start of an edit."""


class Tickets:
    """What containers say of pictures that are inside the decoder, given out again in the order of their display.

    The decoder gives pictures in display order, but not which packet each was in: PyNvVideoCodec 2.2 sorts the
    timestamps that it was given and deals them out to the pictures that come (seen on hardware: numbers in decoding
    order came back in that order, on pictures in display order). So the picture that comes next is taken to be the one
    with the earliest time.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[int, Timing]] = {}
        """By number: what display is ordered by, and the timing."""
        self.last = 0
        """Number that was given last."""
        self._last_time = 0

    def give(self, packet: av.Packet[Any]) -> int:
        """Note what the container says of `packet`; return a number for it, from 1."""
        self.last += 1
        # Without any time the order of decoding is all that is known.
        known = packet.pts if packet.pts is not None else packet.dts
        self._last_time = self._last_time + 1 if known is None else known
        timing = Timing(
            pts=packet.pts,
            dts=packet.dts,
            duration=packet.duration or 0,
            shown=not packet.is_discard,
        )
        self._kept[self.last] = (self._last_time, timing)
        if len(self._kept) > _MOST_KEPT:
            self.take_next()
        return self.last

    def take_next(self) -> Timing | None:
        """Return what was noted of the picture that is displayed next, once."""
        if not self._kept:
            return None
        number = min(self._kept, key=lambda one: (self._kept[one][0], one))
        return self._kept.pop(number)[1]

    def forget(self, number: int) -> None:
        """Its picture will not come: the packet was damaged."""
        self._kept.pop(number, None)

    def forget_all(self) -> None:
        """No picture will come of what was given so far."""
        self._kept.clear()


class PtsClock:
    """Gives a time to pictures that came without: the end of the picture before."""

    def __init__(self) -> None:
        self.usual_duration = 1
        """In time base units: of a picture that does not tell its own."""
        self._next: int | None = None

    def place(self, pts: int | None, dts: int | None, duration: int) -> int:
        """Return the time of the next picture in display order."""
        if pts is None:
            pts = self._next if self._next is not None else (dts or 0)
        self._next = pts + (duration or self.usual_duration)
        return pts
