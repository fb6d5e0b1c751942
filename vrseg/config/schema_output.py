"""The configuration's keys of what leaves a stream: encoded video, results, and what happens in zones and at lines."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StringConstraints

from vrseg.config.quantity import Amount, Duration
from vrseg.config.section import Place, Positive, Section

ENCODER_PATTERN = r"^[A-Za-z0-9_]+$"

Share = Annotated[float, Field(ge=0, le=1)]
Point: TypeAlias = tuple[Share, Share]
"""x, y in shares of the frame's width and height, from its upper left corner, as the picture is shown upright."""


class Output(Section):
    """One encoded video output."""

    uri: Place
    """A file (.mp4, .mkv, .mov, .ts), which may hold strftime fields; a .m3u8 file, for HLS beside it; or rtsp://,
    rtmp://, srt://."""
    codec: Literal["h264", "hevc", "av1"] = "h264"
    """What it is compressed with."""
    encoder: Annotated[str, StringConstraints(pattern=ENCODER_PATTERN)] = "auto"
    """`auto`; `nvenc` (an NVIDIA GPU's own, or an error); or an FFmpeg encoder such as libx264."""
    bitrate: Amount | None = None
    """Bits per second; constant quality when left out."""
    quality: Annotated[int, Field(ge=0, le=63)] | None = None
    """CRF; the encoder's usual value when left out."""
    preset: str | None = None
    """The encoder's own preset name or number."""
    gop: Positive = 2.0
    """Time between key frames; a killed process loses at most this much of a recording."""
    latency: Literal["auto", "live", "normal"] = "auto"
    """`live` sends each frame at once; `auto` is `live` for live sources."""
    segment: Positive | None = None
    """Start a new file this often, at a key frame; the name needs strftime fields. In HLS, the length of a piece."""
    keep: Positive | None = None
    """Delete segments older than this."""
    keep_size: Amount | None = None
    """Delete the oldest segments when together they exceed so many bytes."""
    min_free: Amount = 500_000_000
    """Write no files while the disk has less than so many bytes left; go on when it has them again."""
    on_source_lost: Literal["auto", "hold", "black", "stop"] = "auto"
    """What viewers get while the source is away: its last picture, or black, with state and age written on it; or
    nothing. `auto` is `hold` for HLS and pushes, `stop` for files."""


class ResultOutput(Section):
    """Where results go as data."""

    uri: Place
    """A .jsonl file; `-` for standard output; mqtt://, mqtts:// with the topic as path; or http://, https:// for a
    webhook."""
    content: Literal["auto", "frames", "events"] = "auto"
    """What each frame holds, or what happened in zones and at lines; `auto` is `frames` for files and standard output,
    `events` for brokers and webhooks."""
    masks: Literal["none", "rle"] = "none"
    """`rle` writes each class's mask as run lengths."""
    rotate: Amount | None = None
    """Start the .jsonl file anew when it exceeds so many bytes; the old one gets a number."""
    backups: Annotated[int, Field(ge=1, le=1000)] = 5
    """Numbered old files that are kept."""
    spool: Amount = 64_000_000
    """Bytes on disk for what a broker or webhook could not take yet; beyond, the oldest is dropped and counted."""
    secret: str | None = None
    """A webhook's key: each request is signed with it (HMAC-SHA256)."""
    discovery: bool = True
    """Tell Home Assistant of the stream and its zones, over MQTT."""


class Zone(Section):
    """A part of the picture that objects enter and leave. Gives boxes identities across frames."""

    points: Annotated[tuple[Point, ...], Field(min_length=3, max_length=64)]
    """Corners in order. An object is where the middle of its box's lower edge is."""
    classes: tuple[str, ...] = ()
    """Names of the classes that count; all when left out."""
    cover: Annotated[float, Field(gt=0, le=1)] = 0.05
    """With models that give masks instead of boxes: the share of the zone that a mask must cover."""
    debounce: Duration = 0.5
    """An object counts as in or out when it has been so for this long."""


class Line(Section):
    """A line that objects cross. Gives boxes identities across frames."""

    start: Point
    """Seen from here to `end`, who goes from left to right goes in."""
    end: Point
    """As `start`."""
    classes: tuple[str, ...] = ()
    """Names of the classes that count; all when left out."""
    debounce: Duration = 0.5
    """Who is back within this time has not crossed."""
