"""Frames into packets with FFmpeg's software encoders (x264, x265, SVT-AV1), through PyAV."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import av
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.reformatter import ColorRange

from vrseg.av_errors import describe
from vrseg.encode.canvas import Canvas, even
from vrseg.encode.clock import EncoderClock
from vrseg.encode.scheduling import no_real_time
from vrseg.encode.settings import ENCODERS, EncodeSettings, encoder_options, thread_count
from vrseg.errors import ConfigError, MediaError
from vrseg.frame import EncodedFormat, EncodedPacket

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from av.video.codeccontext import VideoCodecContext

    from vrseg.frame import Frame

_DIRECT_FORMATS = frozenset({"yuv420p", "yuvj420p", "nv12"})
"""8-bit 4:2:0. Everything else is brought to yuv420p, which every player shows."""

_BT601 = 6  # SMPTE 170M in ITU-T H.273


class PyavEncoder:
    """Stage[Frame, EncodedPacket] on the CPU.

    pts and time base of the first frame's clock are kept exactly, frame intervals may vary. Packets carry no parameter
    sets: those are in `EncodedFormat.extradata`, so that one encoder can feed any kind of container. The first frame
    fixes size, format and colour; later frames of another size are scaled and padded with black to fit. A last odd row
    or column is cut off.

    Raises:
        ConfigError: from `open`, this FFmpeg lacks the encoder; from the first `process`, the encoder refuses the
            settings or the size.
        MediaError: the encoder failed in the middle of the stream.
    """

    def __init__(self, settings: EncodeSettings) -> None:
        self._settings = settings
        self._encoder = ""
        self._work: _Work | None = None

    def open(self) -> None:
        self._encoder = choose_encoder(self._settings)
        # SVT-AV1 reads its log level from the environment only; 1 keeps errors and drops a page per encoder.
        os.environ.setdefault("SVT_LOG", "1")

    def process(self, frame: Frame, /) -> Iterable[EncodedPacket]:
        if self._work is None:
            self._work = _start(self._encoder, self._settings, frame)
        return self._work.encode(frame)

    def request_key_frame(self) -> None:
        """Make the next frame a key frame. The first is one anyway."""
        if self._work is not None:
            self._work.clock.want_key()

    def flush(self) -> Iterable[EncodedPacket]:
        return [] if self._work is None else self._work.drain()

    def close(self) -> None:
        self._work = None


def choose_encoder(settings: EncodeSettings) -> str:
    """Name the FFmpeg encoder for `settings`.

    Raises:
        ConfigError: this FFmpeg has no such encoder, or it makes another codec.
    """
    candidates = ENCODERS[settings.codec] if settings.encoder == "auto" else (settings.encoder,)
    for name in candidates:
        codec = _encoder_named(name)
        if codec is None:
            continue
        if codec.canonical_name != settings.codec:
            raise ConfigError(f"encoder {name} makes {codec.canonical_name}, not {settings.codec}: change one of them")
        return codec.name
    has = ", ".join(name for name in ENCODERS[settings.codec] if _encoder_named(name)) or "none"
    raise ConfigError(f"this FFmpeg has no encoder {' or '.join(candidates)}; for {settings.codec} it has: {has}")


def _encoder_named(name: str) -> av.Codec | None:
    try:
        return av.Codec(name, "w")
    except ValueError:
        return None


def _start(encoder: str, settings: EncodeSettings, frame: Frame) -> _Work:
    """Open the encoder for the size, format, colour and clock of the stream's first frame."""
    picture: av.VideoFrame = frame.picture
    context = cast("VideoCodecContext", av.CodecContext.create(encoder, "w"))
    context.width, context.height = even(frame.width), even(frame.height)
    context.pix_fmt = _pixel_format(context, picture)
    context.time_base = frame.time_base
    clock = EncoderClock(settings, frame)
    context.framerate, context.gop_size = clock.rate, clock.gop_frames
    context.color_range, context.colorspace = _matrix(picture)
    context.color_primaries, context.color_trc = picture.color_primaries, picture.color_trc
    context.thread_count = thread_count(settings)
    context.flags |= Flags.global_header
    if settings.bitrate is not None:
        context.bit_rate = settings.bitrate
    if settings.live:
        context.max_b_frames = 0
    context.options = encoder_options(encoder, settings)
    try:
        with no_real_time():
            context.open()
    except (MemoryError, BlockingIOError):  # no room for its buffers, or for a thread: the settings may be right
        raise
    except (FFmpegError, ValueError) as error:
        raise ConfigError(
            f"encoder {encoder} refuses {context.width}x{context.height} with {_spoken(context.options)}: "
            "check preset, quality and bitrate"
        ) from error
    return _Work(context, settings, frame, clock)


def _spoken(options: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or "its usual options"


def _matrix(picture: av.VideoFrame) -> tuple[int, int]:
    """Give colour range and colour space for the encoder's tags; FFmpeg turns RGB pictures into BT.601."""
    return (ColorRange.MPEG, _BT601) if picture.format.is_rgb else (picture.color_range, picture.colorspace)


def _pixel_format(context: VideoCodecContext, picture: av.VideoFrame) -> str:
    own = picture.format.name
    accepted = {offered.name for offered in context.codec.video_formats or ()}
    return own if own in _DIRECT_FORMATS & accepted else "yuv420p"


class _Work:
    """One open encoder."""

    def __init__(self, context: VideoCodecContext, settings: EncodeSettings, first: Frame, clock: EncoderClock) -> None:
        self._context = context
        self.clock = clock
        self._canvas = Canvas(context.width, context.height, context.pix_fmt or "yuv420p")
        self._durations: dict[int, int] = {}
        self._format = EncodedFormat(
            codec=settings.codec,
            width=context.width,
            height=context.height,
            time_base=clock.time_base,
            frame_rate=clock.rate,
            rotation_deg=first.rotation_deg,
            extradata=context.extradata or b"",
        )

    def encode(self, frame: Frame) -> list[EncodedPacket]:
        picture = self._canvas.place(frame.picture)
        picture.pts = pts = self.clock.pts(frame)
        picture.time_base = self.clock.time_base
        picture.pict_type = PictureType.I if self.clock.key_due(pts) else PictureType.NONE
        self._durations[pts] = self.clock.duration(frame)
        return list(self._packets(picture))

    def drain(self) -> list[EncodedPacket]:
        return list(self._packets(None))

    def _packets(self, picture: av.VideoFrame | None) -> Iterator[EncodedPacket]:
        try:
            packets = self._context.encode(picture)
        except FFmpegError as error:
            raise MediaError(f"encoder {self._context.name} failed: {describe(error)}") from error
        for packet in packets:
            pts = packet.pts or 0
            yield EncodedPacket(
                format=self._format,
                data=bytes(packet),
                pts=pts,
                dts=pts if packet.dts is None else packet.dts,
                duration=self._durations.pop(pts, self.clock.usual_duration),
                key=packet.is_keyframe,
            )
