"""Frames on any clock, and packets made from them with the real encoders."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from plugins.clips import moving_picture
from plugins.frames import frame_of

from vrseg.encode.cpu import PyavEncoder
from vrseg.encode.settings import EncodeSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from vrseg.frame import EncodedPacket, Frame
    from vrseg.stage import VideoSink

CLOCK = Fraction(1, 15360)
TICKS = 512
"""Ticks of `CLOCK` per frame at 30 frames per second."""
FAST = {"h264": "ultrafast", "hevc": "ultrafast", "av1": "11"}


def every(count: int, *, start: int = 0, step: int = TICKS) -> list[int]:
    return [start + index * step for index in range(count)]


def frames_at(
    times: Iterable[int],
    *,
    width: int = 160,
    height: int = 120,
    pixel_format: str = "yuv420p",
    time_base: Fraction = CLOCK,
    rotation_deg: int = 0,
) -> list[Frame]:
    """Make frames that are shown at `times`, in `time_base` units; each picture is another."""
    frames = []
    for index, pts in enumerate(times):
        picture = moving_picture(width, height, index).reformat(format=pixel_format)
        picture.pict_type = av.video.frame.PictureType.I  # as a decoder of an all-intra file leaves it
        frame = frame_of(picture, index=index, rotation_deg=rotation_deg)
        frames.append(replace(frame, pts=pts, time_base=time_base, duration=TICKS))
    return frames


def encoded(frames: Iterable[Frame], settings: EncodeSettings | None = None) -> list[EncodedPacket]:
    """Encode all frames; the fastest preset unless `settings` say otherwise."""
    settings = settings or EncodeSettings()
    encoder = PyavEncoder(replace(settings, preset=settings.preset or FAST[settings.codec]))
    encoder.open()
    packets = [packet for frame in frames for packet in encoder.process(frame)]
    packets += encoder.flush()
    encoder.close()
    return packets


def with_b_frames(codec: str) -> EncodeSettings:
    """Settings under which the encoder reorders frames."""
    presets = {"h264": "veryfast", "hevc": "ultrafast", "av1": "11"}
    return EncodeSettings(codec=codec, preset=presets[codec], gop_s=1.0)  # type: ignore[arg-type]  # tests' parameters


def write_all(sink: VideoSink, packets: Sequence[EncodedPacket]) -> None:
    """Run a sink through its whole life."""
    sink.open()
    try:
        feed(sink, packets)
        sink.flush()
    finally:
        sink.close()


def feed(sink: VideoSink, packets: Iterable[EncodedPacket], *, pace_s: float = 0.0) -> None:
    for packet in packets:
        sink.process(packet)
        time.sleep(pace_s)


def times_in(path: Path) -> list[Fraction]:
    """Read the presentation times of a file's first video stream, in seconds, in order of showing."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return sorted(packet.pts * packet.time_base for packet in container.demux(stream) if packet.pts is not None)


def decoded_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))
