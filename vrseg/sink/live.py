"""What an encoder makes, kept in memory for viewers: cut into parts of a quarter of a second, muxed when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Never

import structlog

from vrseg.errors import MediaError
from vrseg.sink.fmp4 import codec_string, init_segment, parameter_sets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vrseg.frame import EncodedFormat, EncodedPacket

_log = structlog.get_logger(__name__)

PART_S = Fraction(1, 4)
LONGEST_STEP_S = 1
"""A picture is shown no longer than this; then there is a hole until the next one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveTrack:
    """What all parts of one encoder share."""

    format: EncodedFormat
    codec: str
    """As browsers name it."""
    init: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePart:
    """Packets of a quarter of a second, or up to the next key frame."""

    track: LiveTrack
    packets: tuple[EncodedPacket, ...] = field(repr=False)
    end_dts: int
    """In `track.format.time_base` units; where the next part begins, if nothing is missing."""

    @property
    def independent(self) -> bool:
        """A viewer can begin here."""
        return self.packets[0].key

    @property
    def start_s(self) -> Fraction:
        return self.packets[0].dts * self.track.format.time_base

    @property
    def duration_s(self) -> Fraction:
        return (self.end_dts - self.packets[0].dts) * self.track.format.time_base

    @property
    def size_bytes(self) -> int:
        return sum(len(packet.data) for packet in self.packets)


class LiveSink:
    """Stage[EncodedPacket, Never]: hands out parts of an H.264 stream; copies and muxes nothing.

    A part ends when the packet after it is there: only then is it known how long the last picture lasts. That delays
    it by one picture, and leaves no gaps that a browser would stop at.

    Args:
        publish: is called with each part on the sink's thread, and must return at once.
    """

    def __init__(self, publish: Callable[[LivePart], None]) -> None:
        self._publish = publish
        self._track: LiveTrack | None = None
        self._waiting: list[EncodedPacket] = []

    def open(self) -> None: ...

    def process(self, packet: EncodedPacket, /) -> Iterable[Never]:
        if self._track is None:
            if not packet.key:
                return ()
            try:
                self._track = _track_of(packet)
            except MediaError as error:  # no reason to end a stream
                _log.warning("no live video on the page", reason=str(error))
                return ()
        if self._waiting and (packet.key or self._length_s(packet.dts) >= PART_S):
            self._cut(packet.dts)
        self._waiting.append(packet)
        return ()

    def flush(self) -> Iterable[Never]:
        if self._waiting:
            last = self._waiting[-1]
            self._cut(last.dts + max(last.duration, 1))
        return ()

    def close(self) -> None:
        self._waiting.clear()
        self._track = None

    def _length_s(self, end_dts: int) -> Fraction:
        return (end_dts - self._waiting[0].dts) * self._waiting[0].format.time_base

    def _cut(self, next_dts: int) -> None:
        assert self._track is not None, "packets wait for a track"  # noqa: S101 -- for the type checker
        last = self._waiting[-1]
        gone_s = (next_dts - last.dts) * last.format.time_base
        end_dts = next_dts if gone_s <= LONGEST_STEP_S else last.dts + max(last.duration, 1)
        part = LivePart(track=self._track, packets=tuple(self._waiting), end_dts=end_dts)
        self._waiting.clear()
        self._publish(part)


def _track_of(first: EncodedPacket) -> LiveTrack:
    sps, pps = parameter_sets(first.format.extradata + first.data)
    return LiveTrack(format=first.format, codec=codec_string(sps), init=init_segment(first.format, sps, pps))
