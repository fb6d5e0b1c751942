"""Packets to frames on the CPU, with FFmpeg's software decoders."""

from __future__ import annotations

import os
import time
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import av.error
from av.codec.context import Flags, ThreadType

from vrseg.av_errors import describe
from vrseg.decode.key_wait import KeyFrameWait
from vrseg.errors import MediaError
from vrseg.frame import Frame, Packet
from vrseg.orientation import clockwise_deg

if TYPE_CHECKING:
    from collections.abc import Iterable

# More frame threads than this cost memory and latency and gain nothing beside inference.
_MOST_THREADS = 16


class PyavDecoder:
    """Decodes one stream with PyAV. Implements `Decode`.

    Files are decoded with one frame per thread, live streams without, so that each packet gives its frame at once.
    Packets that hold pictures already (`av.VideoFrame`) pass through. A packet of another codec context than the one
    before it drains the old decoder first: images, looped files and restarted sources all arrive that way.

    Damage is survived: a packet that fails adds to `errors`; a picture that FFmpeg concealed is passed on, as its best
    guess, and adds to `concealed`. Until the first key frame of a live stream, and after a decoder had to be reset,
    packets are passed over and add to `skipped_until_key`.

    Raises:
        MediaError: FFmpeg cannot open a decoder for the codec; or, from `flush`, not one packet could be decoded.
    """

    def __init__(self, stream: str, *, threads: int, live: bool, first_index: int = 0) -> None:
        self.errors = 0
        self.concealed = 0
        self._stream = stream
        self._threads = threads
        self._live = live
        self._index = first_index
        self._context: av.VideoCodecContext | None = None
        self._time_base = Fraction(1, av.time_base)
        self._next_pts: int | None = None
        self._usual_duration = 1
        self._key = KeyFrameWait(waiting=live)
        self._decoded_any = False

    @property
    def skipped_until_key(self) -> int:
        """Packets passed over for want of a key frame."""
        return self._key.skipped

    def open(self) -> None:
        """Nothing to acquire: the codec is known with the first packet."""

    def process(self, item: Packet, /) -> Iterable[Frame]:
        payload = item.payload
        if isinstance(payload, av.VideoFrame):
            return [self._frame(payload, item.truth)]
        frames: list[Frame] = []
        context = payload.stream.codec_context
        if context is not self._context:
            frames += self._drain()
            self._time_base = payload.time_base
            self._start(context)
        self._usual_duration = payload.duration or self._usual_duration
        if self._key.passes_over(payload):
            return frames
        frames += [self._frame(picture, None) for picture in self._decode(payload)]
        return frames

    def flush(self) -> Iterable[Frame]:
        frames = self._drain()
        if self.errors and not self._decoded_any:
            raise MediaError(f"{self._stream}: none of its pictures could be decoded; the video is damaged")
        return frames

    def close(self) -> None:
        self._context = None

    def _start(self, context: av.VideoCodecContext) -> None:
        self._context = context
        self._usual_duration = round(1 / (context.framerate * self._time_base)) if context.framerate else 1
        self._key.waiting = self._key.waiting or self._live
        if context.is_open:
            return
        context.thread_count = self._threads or _threads_for_this_machine()
        # Frame threads hold a frame back for each thread; slice threads hold nothing back.
        context.thread_type = ThreadType.SLICE if self._live else ThreadType.AUTO
        if self._live and context.name == "libdav1d":
            # It has threads of its own kind, which this flag tells to hold nothing back. Other decoders must not have
            # it: H.264 would show pictures out of order until it has seen the first B-frames.
            context.flags |= Flags.low_delay
        try:
            context.open()
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(f"{self._stream}: FFmpeg cannot decode {context.name}: {describe(error)}") from error

    def _decode(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        context = self._context
        if context is None:
            return []
        try:
            return context.decode(packet)
        except (av.error.BlockingIOError, av.error.EOFError):
            # The decoder takes nothing any more: damage left it in a state that only a reset ends.
            context.flush_buffers()
            self._key.waiting = True
            self.errors += 1
        except av.error.FFmpegError:
            self.errors += 1
        return []

    def _drain(self) -> list[Frame]:
        """Take what the current decoder still holds."""
        context, self._context = self._context, None
        if context is None or not context.is_open:
            return []
        try:
            return [self._frame(picture, None) for picture in context.decode(None)]
        except av.error.FFmpegError:
            self.errors += 1
            return []

    def _frame(self, picture: av.VideoFrame, truth: object) -> Frame:
        self._decoded_any = True
        self.concealed += picture.is_corrupt
        time_base = picture.time_base or self._time_base
        duration = picture.duration or 0
        pts = picture.pts
        if pts is None:
            pts = self._next_pts if self._next_pts is not None else (picture.dts or 0)
        self._next_pts = pts + (duration or self._usual_duration)
        index, self._index = self._index, self._index + 1
        return Frame(
            stream=self._stream,
            index=index,
            pts=pts,
            time_base=time_base,
            duration=duration,
            picture=picture,
            width=picture.width,
            height=picture.height,
            rotation_deg=clockwise_deg(picture),
            decoded_s=time.monotonic(),
            truth=truth,
        )


def _threads_for_this_machine() -> int:
    """Half the cores: the other stages want theirs, and each frame costs 10 % more CPU as soon as there are two."""
    return max(1, min(len(os.sched_getaffinity(0)) // 2, _MOST_THREADS))
