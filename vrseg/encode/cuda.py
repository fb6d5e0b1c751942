"""Surfaces into packets on NVENC, through PyNvVideoCodec."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError

from vrseg.av_errors import describe
from vrseg.encode.clock import EncoderClock
from vrseg.encode.download import MATRIX_CODES
from vrseg.encode.headers import Headers
from vrseg.encode.nvenc_options import nvenc_options
from vrseg.encode.nvenc_sessions import NvencUnavailableError, sessions_of
from vrseg.errors import MediaError
from vrseg.frame import EncodedFormat, EncodedPacket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import cupy
    import PyNvVideoCodec
    from PyNvVideoCodec import PyNvEncoder

    from vrseg.encode.settings import EncodeSettings
    from vrseg.frame import Frame
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.surface import Surface

_IDR = 3
"""NV_ENC_PIC_TYPE_IDR of nvEncodeAPI.h."""


class NvencEncoder:
    """Stage[Frame, EncodedPacket] on a GPU's own encoder. Pictures are `Surface`s of format `nv12` and stay there.

    Packets, times and colours are as those of `PyavEncoder`: parameter sets in `EncodedFormat.extradata` only, pts and
    time base of the first frame's clock, frame intervals may vary. The binding hands a packet out three frames late,
    with B-frames later.

    Raises:
        NvencUnavailableError: from `open` or the first `process`: NVENC cannot do this now; software may.
        ConfigError: from the first `process`, the preset is none of NVENC's.
        MediaError: a later frame has another size or format, or the encoder failed in the middle of the stream.
    """

    def __init__(self, settings: EncodeSettings, gpu: Gpu) -> None:
        self._settings = settings
        self._gpu = gpu
        self._stream: cupy.cuda.Stream | None = None
        self._work: _Work | None = None

    def open(self) -> None:
        self._gpu.use()
        sessions_of(self._gpu.index).ability(self._settings.codec)
        self._stream = self._gpu.new_stream()

    def process(self, frame: Frame, /) -> Iterable[EncodedPacket]:
        if self._work is None:
            self._work = _start(self._settings, self._gpu, self._stream, frame)
        return self._work.encode(frame)

    def set_bitrate(self, bits_per_s: int) -> None:
        """Aim at another bitrate from the next frame on. Before the first frame it does nothing.

        Raises:
            MediaError: the encoder refuses.
        """
        if self._work is not None:
            self._work.set_bitrate(bits_per_s)

    def request_key_frame(self) -> None:
        """Make the next frame a key frame. The first is one anyway."""
        if self._work is not None:
            self._work.clock.want_key()

    def flush(self) -> Iterable[EncodedPacket]:
        return [] if self._work is None else self._work.drain()

    def close(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.close()
        self._stream = None


def _start(settings: EncodeSettings, gpu: Gpu, stream: Any, first: Frame) -> _Work:
    """Open a session for the size, colour and clock of the stream's first frame."""
    surface: Surface = first.picture
    if surface.format != "nv12":
        raise NvencUnavailableError("unsupported", f"NVENC is given 8 bits per sample here, not {surface.format}")
    sessions = sessions_of(gpu.index)
    clock = EncoderClock(settings, first)
    options = nvenc_options(settings, clock, most_b_frames=sessions.ability(settings.codec).most_b_frames)

    encoder = sessions.start(surface.width, surface.height, options, stream_address=stream.ptr)
    try:
        return _Work(encoder, stream, settings, clock, first, ended=sessions.ended)
    except BaseException:
        del encoder
        sessions.ended()
        raise


class _Work:
    """One open session."""

    def __init__(
        self,
        encoder: PyNvEncoder,
        stream: cupy.cuda.Stream,
        settings: EncodeSettings,
        clock: EncoderClock,
        first: Frame,
        *,
        ended: Callable[[], None],
    ) -> None:
        surface: Surface = first.picture
        self._encoder: PyNvEncoder | None = encoder
        self._stream = stream
        self._ended = ended
        self.clock = clock
        self._dts = _DecodeTimes(encoder.GetNumBFrames(), clock.usual_duration)
        self._headers = _headers(encoder, settings, surface)
        self._format = EncodedFormat(
            codec=settings.codec,
            width=surface.width,
            height=surface.height,
            time_base=clock.time_base,
            frame_rate=clock.rate,
            rotation_deg=first.rotation_deg,
            extradata=self._headers.extradata,
        )
        self._count = 0
        self._inside: dict[int, tuple[int, int]] = {}
        """pts and duration of the frames in the encoder, by the number that stands for their time there."""

    def encode(self, frame: Frame) -> list[EncodedPacket]:
        import PyNvVideoCodec  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

        surface: Surface = frame.picture
        self._check(frame.stream, surface)
        pts = self.clock.pts(frame)
        orders = PyNvVideoCodec.NV_ENC_PIC_PARAMS()
        orders.inputTimeStamp = self._count  # unsigned there; a pts may be negative
        orders.encodePicFlags = int(PyNvVideoCodec.NV_ENC_PIC_FLAGS.FORCEIDR) if self.clock.key_due(pts) else 0
        self._inside[self._count] = pts, self.clock.duration(frame)
        self._dts.frame_came(pts)
        self._count += 1
        surface.wait_on(self._stream)
        packets = self._asked(lambda encoder: encoder.Encode(NvencInput(surface), orders))
        surface.read_on(self._stream)
        return packets

    def drain(self) -> list[EncodedPacket]:
        return self._asked(lambda encoder: encoder.EndEncode())

    def set_bitrate(self, bits_per_s: int) -> None:
        encoder = self._open_encoder()
        changes = encoder.GetEncodeReconfigureParams()
        changes.averageBitrate = bits_per_s
        if changes.maxBitRate:
            changes.maxBitRate = bits_per_s
        if changes.vbvBufferSize:
            changes.vbvBufferSize = bits_per_s
        if not encoder.Reconfigure(changes):
            raise MediaError(f"NVENC refuses {bits_per_s} bit/s in the middle of the stream")

    def close(self) -> None:
        if self._encoder is None:
            return
        self._stream.synchronize()  # copies into the encoder's own surfaces come before its end
        self._encoder = None
        self._ended()

    def _asked(self, ask: Callable[[PyNvEncoder], list[PyNvVideoCodec.EncodedPacket]]) -> list[EncodedPacket]:
        import PyNvVideoCodec  # noqa: PLC0415 -- as above

        try:
            answers = ask(self._open_encoder())
        except (PyNvVideoCodec.PyNvVCException, PyNvVideoCodec.PyNvVCExceptionUnsupported) as error:
            raise MediaError(f"NVENC failed in the middle of the stream: {' '.join(str(error).split())}") from error
        return [self._packet(answer) for answer in answers]

    def _packet(self, answer: PyNvVideoCodec.EncodedPacket) -> EncodedPacket:
        key = answer["picture_type"] == _IDR
        pts, duration = self._inside.pop(answer["timestamp"])
        data = answer["data"]
        return EncodedPacket(
            format=self._format,
            data=self._headers.key_frame(data) if key else data,
            pts=pts,
            dts=self._dts.of_next_packet(),
            duration=duration,
            key=key,
        )

    def _check(self, stream: str, surface: Surface) -> None:
        size = self._format.width, self._format.height
        if (surface.width, surface.height, surface.format) != (*size, "nv12"):
            raise MediaError(
                f"stream {stream} changed from {size[0]}x{size[1]} to {surface.width}x{surface.height} "
                f"({surface.format}): NVENC does not scale; `encoder: libx264` (or another in software) does"
            )

    def _open_encoder(self) -> PyNvEncoder:
        if self._encoder is None:
            raise MediaError("NVENC was asked after it was closed")
        return self._encoder


class _DecodeTimes:
    """Decode times, which NVENC does not give: the pts in order of showing, moved up by the depth of reordering."""

    def __init__(self, depth_frames: int, usual_duration: int) -> None:
        self._depth_frames = depth_frames
        self._usual_duration = usual_duration
        self._waiting: deque[int] = deque()
        self._begun = False

    def frame_came(self, pts: int) -> None:
        """Take the pts of a frame; they rise."""
        if not self._begun:
            self._begun = True
            self._waiting.extend(pts - back * self._usual_duration for back in range(self._depth_frames, 0, -1))
        self._waiting.append(pts)

    def of_next_packet(self) -> int:
        """Give the dts of a packet, in the order in which they come."""
        return self._waiting.popleft()


class NvencInput:
    """A surface as the encoder takes it: an object whose `cuda()` gives its planes."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface

    def cuda(self) -> list[PlaneView]:
        """Give luma, (height, width, 1), and chroma, (height / 2, width / 2, 2)."""
        surface = self._surface
        width, height, pitch = surface.width, surface.height, surface.pitch_bytes
        return [
            PlaneView(surface.luma_address, (height, width, 1), (pitch, 1, 1)),
            PlaneView(surface.chroma_address, (height // 2, width // 2, 2), (pitch, 2, 1)),
        ]


class PlaneView:
    """uint8 samples in device memory."""

    def __init__(self, address: int, shape: tuple[int, int, int], strides: tuple[int, int, int]) -> None:
        # No "stream": the encoder refuses some values of it, and order is kept by events.
        self.__cuda_array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": shape,
            "strides": strides,
            "data": (address, False),
        }


def _headers(encoder: PyNvEncoder, settings: EncodeSettings, surface: Surface) -> Headers:
    try:
        return Headers(
            settings.codec,
            encoder.GetSequenceParams(),
            matrix_code=MATRIX_CODES[surface.matrix],
            full_range=surface.full_range,
        )
    except FFmpegError as error:
        raise MediaError(f"NVENC's parameter sets of {settings.codec} are not understood: {describe(error)}") from error
