"""What a container says of a packet, kept while the packet's picture is inside a decoder that forgets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fractions import Fraction

    import av

# Pictures that never come out (hidden ones, damaged ones) would pile up. No decoder holds more pictures back than
# sixteen and the few in its pipeline.
_MOST_KEPT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a picture is shown."""

    pts: int | None
    dts: int | None
    duration: int
    """0 when unknown."""
    time_base: Fraction
    shown: bool
    """False for pictures that the container wants decoded only: those before the start of an edit."""


class Tickets:
    """Numbers that go through the decoder in place of timestamps, which may be missing, repeated or negative."""

    def __init__(self) -> None:
        self._kept: dict[int, Timing] = {}
        self._last = 0

    def give(self, packet: av.Packet[Any]) -> int:
        """Note what the container says of `packet`; return its number, from 1."""
        self._last += 1
        self._kept[self._last] = Timing(
            pts=packet.pts,
            dts=packet.dts,
            duration=packet.duration or 0,
            time_base=packet.time_base,
            shown=not packet.is_discard,
        )
        if len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return self._last

    def take(self, ticket: int) -> Timing | None:
        """Return what was noted under a number, once."""
        return self._kept.pop(ticket, None)


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
