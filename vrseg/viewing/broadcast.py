"""The last seconds of a stream's encoded video, and the playlist that tells of them (low-latency HLS, RFC 8216bis)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING

from vrseg.sink.fmp4 import fragment

if TYPE_CHECKING:
    from vrseg.sink.live import LivePart, LiveTrack

SEGMENT_S = 1.0
"""A segment ends at the first key frame after this."""
LONGEST_SEGMENT_S = 4.0
"""Where key frames are far apart, a segment ends without one; viewers join at the last that there is."""
SEGMENTS_KEPT = 3
"""Complete ones, beside the one that grows."""
MOST_BYTES = 24_000_000
PART_TARGET_S = 0.334
"""The longest part, where there are 12 pictures a second or more."""
HOLD_BACK_PARTS = 3
"""How far behind the newest part players stay (RFC 8216bis wants 3 times the longest part)."""


class Piece:
    """A part at its place in time. Muxed when it is first asked for; then its packets are let go."""

    def __init__(self, part: LivePart, sequence: int, shift_s: Fraction) -> None:
        self.independent = part.independent
        self.duration_s = float(part.duration_s)
        self.size_bytes = part.size_bytes
        self._part: LivePart | None = part
        self._sequence = sequence
        self._shift_s = shift_s
        self._data = b""

    @property
    def data(self) -> bytes:
        """`moof` and `mdat`."""
        if self._part is not None:
            self._data = fragment(self._sequence, self._part.packets, self._part.end_dts, self._shift_s)
            self._part = None
        return self._data


@dataclass(slots=True, kw_only=True)
class Segment:
    """Pieces that follow each other, the first at a key frame as a rule."""

    number: int
    track: LiveTrack
    track_number: int
    joined: bool
    """No track ended before it."""
    began: datetime
    pieces: list[Piece] = field(default_factory=list)
    complete: bool = False

    @property
    def duration_s(self) -> float:
        return sum(piece.duration_s for piece in self.pieces)

    @property
    def size_bytes(self) -> int:
        return sum(piece.size_bytes for piece in self.pieces)


class Broadcast:
    """The ring of one stream. It outlives the stream's encoders: each new one begins a new track. On the event loop.

    Media time is the time since the ring was made, as the server's clock had it when a track began, so a player's
    clock goes on over restarts, with a hole where nothing came.
    """

    def __init__(self) -> None:
        self.segments: deque[Segment] = deque()
        self._made_s = time.monotonic()
        self._track_number = 0
        self._sequence = 0
        self._shift_s = Fraction(0)
        self._end_s = Fraction(0)
        self._longest_s = SEGMENT_S
        self._longest_piece_s = PART_TARGET_S
        self._discontinuities = 0
        self._news = asyncio.Event()

    def add(self, part: LivePart) -> None:
        """Take the next part."""
        current = self.segments[-1] if self.segments else None
        joined = current is not None and current.track is part.track
        if not joined:
            self._begin_track(part)
        if current is None or not joined or _is_over(current, part):
            if current is not None:
                self._complete(current)
            current = self._begin_segment(part, joined=joined or current is None)
        self._sequence += 1
        piece = Piece(part, self._sequence, self._shift_s)
        current.pieces.append(piece)
        self._longest_piece_s = max(self._longest_piece_s, piece.duration_s)
        self._end_s = part.start_s + self._shift_s + part.duration_s
        self._trim()
        self._tell()

    def find(self, number: int) -> Segment | None:
        """Return a segment that is still held."""
        return next((segment for segment in self.segments if segment.number == number), None)

    def track(self, number: int) -> LiveTrack | None:
        """Return a track of which something is still held."""
        return next((segment.track for segment in self.segments if segment.track_number == number), None)

    def has(self, number: int, piece: int | None) -> bool:
        """Tell whether the playlist lists this piece, or with None the whole segment; or something after it."""
        if not self.segments:
            return False
        last = self.segments[-1]
        if last.number != number:
            return last.number > number
        return last.complete if piece is None else len(last.pieces) > piece

    async def wait_for(self, number: int, piece: int | None, timeout_s: float) -> bool:
        """Wait until `has`; False when it took too long."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.has(number, piece):
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    @property
    def target_s(self) -> int:
        """No segment is longer than this when rounded to whole seconds."""
        return max(1, round(self._longest_s))

    def playlist(self) -> str:
        """Return the media playlist."""
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:9",
            f"#EXT-X-TARGETDURATION:{self.target_s}",
            f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={HOLD_BACK_PARTS * self._longest_piece_s:.3f}",
            f"#EXT-X-PART-INF:PART-TARGET={self._longest_piece_s:.3f}",
            f"#EXT-X-MEDIA-SEQUENCE:{self.segments[0].number if self.segments else 0}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{self._discontinuities}",
        ]
        shown_track = -1
        for segment in self.segments:
            if not segment.joined and shown_track >= 0:
                lines.append("#EXT-X-DISCONTINUITY")
            if segment.track_number != shown_track:
                shown_track = segment.track_number
                lines.append(f'#EXT-X-MAP:URI="init-{shown_track}.mp4"')
            lines += _segment_lines(segment)
        if self.segments:
            last = self.segments[-1]
            number, piece = (last.number + 1, 0) if last.complete else (last.number, len(last.pieces))
            lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{number}.{piece}.m4s"')
        return "\n".join(lines) + "\n"

    def _begin_track(self, part: LivePart) -> None:
        self._track_number += 1
        now_s = Fraction(time.monotonic() - self._made_s).limit_denominator(1000)
        self._shift_s = max(now_s - part.duration_s, self._end_s) - part.start_s

    def _begin_segment(self, part: LivePart, *, joined: bool) -> Segment:
        segment = Segment(
            number=self.segments[-1].number + 1 if self.segments else 0,
            track=part.track,
            track_number=self._track_number,
            joined=joined,
            began=datetime.fromtimestamp(time.time() - float(part.duration_s), UTC),
        )
        self.segments.append(segment)
        return segment

    def _complete(self, segment: Segment) -> None:
        segment.complete = True
        self._longest_s = max(self._longest_s, segment.duration_s)

    def _trim(self) -> None:
        while len(self.segments) > SEGMENTS_KEPT + 1 or (
            len(self.segments) > 1 and sum(segment.size_bytes for segment in self.segments) > MOST_BYTES
        ):
            self.segments.popleft()
            self._discontinuities += not self.segments[0].joined

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _is_over(segment: Segment, part: LivePart) -> bool:
    if part.independent and segment.duration_s >= SEGMENT_S:
        return True
    return segment.duration_s >= LONGEST_SEGMENT_S or segment.size_bytes >= MOST_BYTES // SEGMENTS_KEPT


def _segment_lines(segment: Segment) -> list[str]:
    lines = [f"#EXT-X-PROGRAM-DATE-TIME:{segment.began.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}"]
    for index, piece in enumerate(segment.pieces):
        independent = ",INDEPENDENT=YES" if piece.independent else ""
        lines.append(f'#EXT-X-PART:DURATION={piece.duration_s:.5f},URI="{segment.number}.{index}.m4s"{independent}')
    if segment.complete:
        lines += [f"#EXTINF:{segment.duration_s:.5f},", f"{segment.number}.m4s"]
    return lines
