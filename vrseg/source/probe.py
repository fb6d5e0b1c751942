"""What an address holds: everything that FFmpeg says about a container and its streams."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import av
import av.error
from av.stream import Disposition

from vrseg.address import local_path, redact, scheme_of
from vrseg.av_errors import source_error
from vrseg.config.schema import SourceSection
from vrseg.orientation import clockwise_deg
from vrseg.source.connection import Opening
from vrseg.source.container import choose_video, demuxed, describe, open_container
from vrseg.source.file import check_readable
from vrseg.source.images import is_images
from vrseg.source.live import network_options
from vrseg.source.open import make_source

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Packets to decode before giving up on a picture; a key frame comes sooner in any stream.
_PACKETS_TRIED = 300
# Numbers of ISO/IEC 23091-2 (H.273), which FFmpeg uses too, by FFmpeg's names.
_RANGES = {1: "limited", 2: "full"}
_MATRICES = {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc", 10: "bt2020c"}
_PRIMARIES = {1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 12: "smpte432"}
_TRANSFERS = {1: "bt709", 6: "smpte170m", 13: "iec61966-2-1", 14: "bt2020-10", 16: "smpte2084", 18: "arib-std-b67"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """One video stream. None where the container does not say."""

    index: int
    codec: str
    profile: str | None
    width: int
    height: int
    """Coded size in pixels, before rotation."""
    pixel_format: str | None
    frame_rate: float | None
    """Frames per second, on average."""
    frame_count: int | None
    duration_s: float | None
    bit_rate_bps: int | None
    color_range: str | None
    """`limited` or `full`."""
    color_matrix: str | None
    color_primaries: str | None
    color_transfer: str | None
    rotation_deg: int | None
    """Clockwise turn that shows the picture upright; None for streams that vrseg does not read."""
    cover: bool
    """True for a cover picture, which is no film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioReport:
    """One audio stream. None where the container does not say."""

    index: int
    codec: str
    sample_rate_hz: int | None
    channels: int | None
    bit_rate_bps: int | None
    language: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """What is at an address. `dataclasses.asdict` makes it JSON."""

    uri: str
    """Without credentials."""
    container: str
    """FFmpeg's name of the format."""
    live: bool
    """True when it has no end that one could wait for."""
    duration_s: float | None
    size_bytes: int | None
    bit_rate_bps: int | None
    selected: int
    """Index of the video stream that vrseg reads."""
    video: tuple[VideoReport, ...]
    audio: tuple[AudioReport, ...]
    other: tuple[str, ...]
    """Kinds of the remaining streams, such as `subtitle` or `data`."""


def probe(uri: str, *, timeout_s: float = 10.0) -> ProbeReport:
    """Open `uri`, decode one picture, and tell what is there.

    Raises:
        ConfigError: no such file, or an unknown kind of address.
        MediaError: no video in it.
        SourceRefusedError, SourceStalledError: a network address or a camera did not answer.
    """
    scheme = scheme_of(uri)
    if scheme in ("rtsp", "rtmp", "http"):
        opening = Opening(uri, timeout_s)
        try:
            container = open_container(
                uri, shown=redact(uri), options=network_options(uri, "tcp"), timeout_s=(timeout_s, timeout_s)
            )
        except av.error.FFmpegError as error:
            raise opening.error(error) from error
        with container:
            return _report(container, uri, live=scheme != "http" or not container.duration)
    if scheme == "file" and not is_images(uri):
        path = local_path(uri)
        check_readable(path)
        try:
            container = open_container(f"file:{path}", shown=path)
        except av.error.FFmpegError as error:
            raise source_error(error, path, live=False) from error
        with container:
            return _report(container, uri, live=False)
    return _report_of_source(uri, timeout_s)


def _report(container: InputContainer, uri: str, *, live: bool) -> ProbeReport:
    shown = redact(uri)
    selected = choose_video(container, shown)
    picture = _first_picture(container, selected, shown)
    video = tuple(
        _video(container, stream, picture if stream is selected else None) for stream in container.streams.video
    )
    known = (*container.streams.video, *container.streams.audio)
    return ProbeReport(
        uri=shown,
        container=container.format.name,
        live=live,
        duration_s=container.duration / av.time_base if container.duration and container.duration > 0 else None,
        size_bytes=container.size if not live and container.size > 0 else None,
        bit_rate_bps=container.bit_rate or None,
        selected=selected.index,
        video=video,
        audio=tuple(_audio(stream) for stream in container.streams.audio),
        other=tuple(stream.type for stream in container.streams if stream not in known),
    )


def _first_picture(container: InputContainer, video: VideoStream, shown: str) -> av.VideoFrame | None:
    """Decode until there is a picture: only pictures know how they are turned."""
    try:
        for packet in itertools.islice(demuxed(container, video), _PACKETS_TRIED):
            try:
                pictures = packet.decode()
            except av.error.InvalidDataError:
                continue
            if pictures:
                return pictures[0]
    except av.error.FFmpegError as error:
        raise source_error(error, shown, live=False) from error
    return None


def _video(container: InputContainer, stream: VideoStream, picture: av.VideoFrame | None) -> VideoReport:
    # PyAV leaves the context out when FFmpeg has no decoder, which its types do not tell.
    context = cast("av.VideoCodecContext | None", stream.codec_context)
    info = describe(container, stream) if context is not None else None
    colors: Any = picture or context
    return VideoReport(
        index=stream.index,
        codec=context.name if context is not None else "unknown",
        profile=stream.profile,
        width=info.width if info else 0,
        height=info.height if info else 0,
        pixel_format=picture.format.name if picture else (context.pix_fmt if context is not None else None),
        frame_rate=float(info.frame_rate) if info and info.frame_rate else None,
        frame_count=info.frame_count if info else None,
        duration_s=info.duration_s if info else None,
        bit_rate_bps=(context.bit_rate or None) if context is not None else None,
        color_range=_RANGES.get(colors.color_range) if colors else None,
        color_matrix=_MATRICES.get(colors.colorspace) if colors else None,
        color_primaries=_PRIMARIES.get(colors.color_primaries) if colors else None,
        color_transfer=_TRANSFERS.get(colors.color_trc) if colors else None,
        rotation_deg=clockwise_deg(picture) if picture else None,
        cover=bool(stream.disposition & Disposition.attached_pic),
    )


def _audio(stream: AudioStream) -> AudioReport:
    context = stream.codec_context
    return AudioReport(
        index=stream.index,
        codec=context.name,
        sample_rate_hz=context.sample_rate or None,
        channels=context.layout.nb_channels or None,
        bit_rate_bps=context.bit_rate or None,
        language=stream.language,
    )


def _report_of_source(uri: str, timeout_s: float) -> ProbeReport:
    """Report what the source itself says, where there is no container: images, cameras, SRT, drawn scenes."""
    source = make_source(SourceSection.model_construct(uri=uri, open_timeout=timeout_s, stall_timeout=timeout_s))
    try:
        info = source.open()
    finally:
        source.close()
    video = VideoReport(
        index=0,
        codec=info.codec,
        profile=None,
        width=info.width,
        height=info.height,
        pixel_format=None,
        frame_rate=float(info.frame_rate) if info.frame_rate else None,
        frame_count=info.frame_count,
        duration_s=info.duration_s,
        bit_rate_bps=None,
        color_range=None,
        color_matrix=None,
        color_primaries=None,
        color_transfer=None,
        rotation_deg=info.rotation_deg,
        cover=False,
    )
    return ProbeReport(
        uri=redact(uri),
        container=scheme_of(uri) or "unknown",
        live=source.live,
        duration_s=info.duration_s,
        size_bytes=None,
        bit_rate_bps=None,
        selected=0,
        video=(video,),
        audio=(),
        other=(),
    )
