"""Packets to frames in device memory, with the decoder hardware of the GPU (NVDEC)."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av

from vrseg.decode.appearance import AppearanceReader
from vrseg.decode.bitstream import CODECS, ByteStream, DamagedUnitError
from vrseg.decode.capabilities import codec_name
from vrseg.decode.key_wait import KeyFrameWait
from vrseg.decode.nvdec import NvdecSession
from vrseg.decode.timing import PtsClock, Tickets
from vrseg.errors import MediaError
from vrseg.frame import Frame, Packet
from vrseg.gpu.surface_pool import SurfacePool

if TYPE_CHECKING:
    from collections.abc import Iterable

    import cupy

    from vrseg.decode.bitstream import Codec
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.surface import Surface

# NVDEC goes on after a damaged unit. When so many in a row fail, the session itself has been damaged.
_MOST_FAILURES_IN_A_ROW = 8


class NvdecDecoder:
    """Decodes one stream of packets with NVDEC; its oracle is `PyavDecoder`. Implements `Decode`.

    `Frame.picture` is a `Surface`, written on the decoder's own CUDA stream; nobody waits for it here. A change of
    codec context drains the old decoder and makes a new one; so does a sequence header that differs from the one
    before, which is how size and format change in mid-stream.

    Hardware decoders show garbage where there was no key frame: packets before the first one, after a session was
    lost, and the leading pictures of an open HEVC entry are passed over; the former add to `skipped_until_key`. Damage
    is survived and adds to `errors`. After `flush` it may go on with packets that begin anew.

    Live streams without B-frames give each frame with its own packet.

    Raises:
        DeviceError: the GPU, its driver or PyNvVideoCodec does not work.
        MediaError: a codec or chroma format that NVDEC does not decode; or, from `flush`, not one packet could be
            decoded.
    """

    def __init__(
        self,
        stream: str,
        *,
        gpu: Gpu,
        live: bool,
        first_index: int = 0,
        surfaces: SurfacePool | None = None,
        appearances: AppearanceReader | None = None,
    ) -> None:
        """Store what decoding needs.

        Args:
            stream: its name.
            gpu: to decode on.
            live: the source cannot wait.
            first_index: of the first frame.
            surfaces: memory to share with other decoders of the stream, whose owner closes it; else its own.
            appearances: to share with other decoders that are given packets of the same codec context; else its own.
        """
        self.errors = 0
        self._stream_name = stream
        self._gpu = gpu
        self._live = live
        self._index = first_index
        self._own_surfaces = surfaces is None
        self._surfaces = surfaces or SurfacePool(gpu, stream)
        self._appearances = appearances or AppearanceReader()
        self._stream: cupy.cuda.Stream | None = None
        self._session: NvdecSession | None = None
        self._context: av.VideoCodecContext | None = None
        self._bytes: ByteStream | None = None
        self._codec: Codec = "h264"
        self._at_once = False
        self._sequence = b""
        self._tickets = Tickets()
        self._clock = PtsClock()
        self._time_base = Fraction(1, av.time_base)
        self._key = KeyFrameWait(waiting=True)
        self._skip_leaders = False
        self._failures_in_a_row = 0
        self._decoded_any = False

    @property
    def skipped_until_key(self) -> int:
        """Packets passed over for want of a key frame."""
        return self._key.skipped

    def open(self) -> None:
        self._gpu.use()
        self._stream = self._gpu.new_stream()

    def process(self, item: Packet, /) -> Iterable[Frame]:
        payload = item.payload
        if isinstance(payload, av.VideoFrame):
            raise MediaError(f"{self._stream_name}: NVDEC decodes packets, and this source makes pictures")
        frames: list[Frame] = []
        if payload.stream.codec_context is not self._context:
            frames += self._drain()
            self._start(payload)
        self._clock.usual_duration = payload.duration or self._clock.usual_duration
        if not self._key.passes_over(payload):
            frames += self._decode(payload)
        return frames

    def flush(self) -> Iterable[Frame]:
        frames = self._drain()
        self._key.waiting = True
        if self.errors and not self._decoded_any:
            raise MediaError(f"{self._stream_name}: none of its pictures could be decoded; the video is damaged")
        return frames

    def close(self) -> None:
        session, self._session = self._session, None
        self._context = None
        try:
            if session is not None:
                session.close()
        finally:
            if self._own_surfaces:
                self._surfaces.close()

    def _start(self, packet: av.Packet[Any]) -> None:
        self._end_session()
        context = packet.stream.codec_context
        codec = codec_name(context)
        if codec not in CODECS:
            raise MediaError(f"{self._stream_name}: NVDEC is not used for {codec}; decode it in software")
        self._codec = cast("Codec", codec)
        self._bytes = ByteStream(self._codec, context.extradata or b"")
        self._context = context
        self._time_base = packet.time_base
        self._clock.usual_duration = round(1 / (context.framerate * self._time_base)) if context.framerate else 1
        in_display_order = not context.has_b_frames and packet.pts == packet.dts
        self._at_once = self._live and in_display_order
        self._key.waiting = True

    def _decode(self, packet: av.Packet[Any]) -> list[Frame]:
        assert self._bytes is not None  # noqa: S101 -- `_start` comes before any packet
        entry = packet.is_keyframe or self._session is None
        try:
            unit = self._bytes.convert(packet, entry=entry)
        except DamagedUnitError:
            self.errors += 1
            return []
        frames: list[Frame] = []
        if entry:
            frames += self._enter(packet, unit)
        elif self._skip_leaders and self._bytes.syntax.is_lost_leader(unit):
            return []
        frames += self._submit(unit, self._tickets.give(packet))
        return frames

    def _enter(self, packet: av.Packet[Any], unit: bytearray) -> list[Frame]:
        """Prepare for a key frame: a new sequence needs a new session. Return what the old one still had."""
        assert self._bytes is not None  # noqa: S101 -- as above
        assert self._stream is not None  # noqa: S101 -- `open` comes first
        syntax = self._bytes.syntax
        sequence = syntax.sequence(unit)
        fresh = self._session is None
        frames: list[Frame] = []
        if fresh or (sequence and sequence != self._sequence):
            frames = self._drain()
            self._end_session()
            appearance = self._appearances.read(packet, sequence)
            self._session = NvdecSession(
                self._gpu, self._codec, self._stream, self._surfaces, appearance, at_once=self._at_once
            )
            self._sequence = sequence
            fresh = True
        self._skip_leaders = fresh and syntax.is_open_entry(unit)
        return frames

    def _submit(self, unit: bytearray, ticket: int) -> list[Frame]:
        assert self._session is not None  # noqa: S101 -- `_enter` made one
        try:
            pictures = self._session.decode(unit, ticket)
        except DamagedUnitError as error:
            self.errors += 1
            self._tickets.forget(ticket)
            self._failures_in_a_row += 1
            if error.spent or self._failures_in_a_row >= _MOST_FAILURES_IN_A_ROW:
                self._end_session()
                self._key.waiting = True
            return []
        self._failures_in_a_row = 0
        return self._frames(pictures)

    def _drain(self) -> list[Frame]:
        """Take what the present session still holds."""
        if self._session is None:
            return []
        try:
            return self._frames(self._session.drain())
        except DamagedUnitError:
            self.errors += 1
            self._end_session()
            return []
        finally:
            self._tickets.forget_all()

    def _end_session(self) -> None:
        session, self._session = self._session, None
        self._tickets.forget_all()
        self._failures_in_a_row = 0
        if session is not None:
            session.close()

    def _frames(self, pictures: list[Surface]) -> list[Frame]:
        return [frame for picture in pictures if (frame := self._frame(picture)) is not None]

    def _frame(self, picture: Surface) -> Frame | None:
        timing = self._tickets.take_next()
        if timing is not None and not timing.shown:
            return None
        self._decoded_any = True
        duration = timing.duration if timing else 0
        pts = self._clock.place(timing.pts, timing.dts, duration) if timing else self._clock.place(None, None, 0)
        index, self._index = self._index, self._index + 1
        rotation_deg = self._session.appearance.rotation_deg if self._session else 0
        return Frame(
            stream=self._stream_name,
            index=index,
            pts=pts,
            time_base=self._time_base,
            duration=duration,
            picture=picture,
            width=picture.width,
            height=picture.height,
            rotation_deg=rotation_deg,
            decoded_s=time.monotonic(),
        )
