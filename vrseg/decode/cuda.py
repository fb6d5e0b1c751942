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
    from collections.abc import Iterable, Sequence

    import cupy

    from vrseg.decode.bitstream import Codec
    from vrseg.decode.turns import Turns
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
        turns: Turns | None = None,
    ) -> None:
        """Store what decoding needs.

        Args:
            stream: its name.
            gpu: to decode on.
            live: the source cannot wait.
            first_index: of the first frame.
            surfaces: memory to share with other decoders of the stream, whose owner closes it; else its own.
            appearances: to share with other decoders that are given packets of the same codec context; else its own.
            turns: as in `NvdecSession`.
        """
        self.errors = 0
        self._stream_name = stream
        self._gpu = gpu
        self._live = live
        self._index = first_index
        self._turns = turns
        self._own_surfaces = surfaces is None
        self._surfaces = surfaces or SurfacePool(gpu)
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

    takes_together = True

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
        if not self._key.passes_over(payload):
            frames += self._decode(item, payload)
        return frames

    def process_together(self, items: Sequence[Packet], outputs: list[Frame], /) -> None:
        """As `process` of each. Packets that change nothing are decoded in one go. See `vrseg.stage.Together`."""
        usual: list[tuple[Packet, bytearray]] = []
        for item in items:
            if (unit := self._usual(item)) is not None:
                usual.append((item, unit))
                continue
            self._submit(usual, outputs)
            usual.clear()
            outputs += self.process(item)
        self._submit(usual, outputs)

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

    def _decode(self, item: Packet, packet: av.Packet[Any]) -> list[Frame]:
        assert self._bytes is not None  # noqa: S101 -- `_start` comes before any packet
        entry = packet.is_keyframe or self._session is None
        try:
            self._bytes.renew(packet)
            unit = self._bytes.convert(packet, entry=entry)
        except DamagedUnitError:
            self.errors += 1
            return []
        if not entry and self._skip_leaders and self._bytes.syntax.is_lost_leader(unit):
            return []
        frames = self._enter(packet, unit) if entry else []
        self._submit([(item, unit)], frames)
        return frames

    def _usual(self, item: Packet) -> bytearray | None:
        """Return the packet as NVDEC takes it, if it goes to the present session and needs nothing else."""
        payload = item.payload
        if self._session is None or self._bytes is None or self._key.waiting or isinstance(payload, av.VideoFrame):
            return None
        if payload.stream.codec_context is not self._context or payload.has_sidedata("new_extradata"):
            return None
        entry, syntax = payload.is_keyframe, self._bytes.syntax
        try:
            unit = self._bytes.convert(payload, entry=entry)
        except DamagedUnitError:
            return None
        if entry:
            if (sequence := syntax.sequence(unit)) and sequence != self._sequence:
                return None
            self._skip_leaders = False
        return None if self._skip_leaders and syntax.is_lost_leader(unit) else unit

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
                self._gpu,
                self._codec,
                self._stream,
                self._surfaces,
                appearance,
                at_once=self._at_once,
                turns=self._turns,
            )
            self._sequence = sequence
            fresh = True
        self._skip_leaders = fresh and syntax.is_open_entry(unit)
        return frames

    def _submit(self, units: list[tuple[Packet, bytearray]], outputs: list[Frame]) -> None:
        """Decode packets of the present session; keep the books as if one had come after the other."""
        if not units:
            return
        assert self._session is not None  # noqa: S101 -- `_enter` made one
        pictures, failure = self._session.decode([unit for _, unit in units], self._tickets.last + 1)
        for (item, _), shown in zip(units, pictures, strict=False):
            self._note(item)
            self._failures_in_a_row = 0
            outputs += self._frames(shown)
        if failure is not None:
            (damaged, _), *rest = units[len(pictures) :]
            self._tickets.forget(self._note(damaged))
            self._tell_damaged(failure)
            for item, _ in rest:
                outputs += self.process(item)

    def _note(self, item: Packet) -> int:
        packet = cast("av.Packet[av.VideoStream]", item.payload)
        self._clock.usual_duration = packet.duration or self._clock.usual_duration
        return self._tickets.give(packet)

    def _tell_damaged(self, error: DamagedUnitError) -> None:
        self.errors += 1
        self._failures_in_a_row += 1
        if error.spent or self._failures_in_a_row >= _MOST_FAILURES_IN_A_ROW:
            self._end_session()
            self._key.waiting = True

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
