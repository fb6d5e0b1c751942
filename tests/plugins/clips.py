"""Clips made on the spot: any codec, rate, size, rotation and timing, with a picture that moves."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import av
import numpy as np
import pytest

from vrseg.encode.scheduling import no_real_time

if TYPE_CHECKING:
    from pathlib import Path

    from av.container import OutputContainer

_ENCODERS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "mpeg4": "mpeg4", "mjpeg": "mjpeg"}
_FAST = {"libx264": {"preset": "ultrafast"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"}}
_AUDIO_RATE_HZ = 48000
_AUDIO_SAMPLES = 1024


class MakeClip(Protocol):
    def __call__(
        self,
        path: Path,
        *,
        width: int = 160,
        height: int = 120,
        frames: int = 30,
        fps: int = 30,
        codec: str = "h264",
        audio: bool = False,
        rotation: int = 0,
        start_pts: int = 0,
        vfr: bool = False,
        gop: int = 12,
        b_frames: int = 0,
    ) -> Path: ...


def moving_picture(width: int, height: int, index: int) -> av.VideoFrame:
    """A gradient with a bright square that wanders; each index gives another picture."""
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 200, width, dtype=np.uint8)
    image[..., 1] = np.linspace(0, 200, height, dtype=np.uint8)[:, None]
    image[..., 2] = index * 5 % 256
    side = min(width, height) // 4
    left, top = index * 7 % (width - side), index * 3 % (height - side)
    image[top : top + side, left : left + side] = 255
    return av.VideoFrame.from_ndarray(image, format="rgb24")


def write_clip(  # one keyword for each property of a clip
    path: Path,
    *,
    width: int = 160,
    height: int = 120,
    frames: int = 30,
    fps: int = 30,
    codec: str = "h264",
    audio: bool = False,
    rotation: int = 0,
    start_pts: int = 0,
    vfr: bool = False,
    gop: int = 12,
    b_frames: int = 0,
) -> Path:
    """Write `frames` pictures to `path`; its suffix chooses the container.

    `start_pts` counts frames. `vfr` makes every third frame last twice as long. `rotation` is the clockwise turn that
    shows the picture upright. With `audio` a silent AAC track as long as the film goes along.
    """
    with av.open(str(path), "w") as container:
        encoder = _ENCODERS.get(codec, codec)
        video = container.add_stream(encoder, rate=fps, options=dict(_FAST.get(encoder, {})))
        assert isinstance(video, av.VideoStream)
        video.width, video.height = width, height
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.codec_context.gop_size = gop
        if codec in ("h264", "hevc", "mpeg4"):
            video.codec_context.max_b_frames = b_frames
        if rotation:
            video.set_display_rotation(-rotation)
        sound = container.add_stream("aac", rate=_AUDIO_RATE_HZ) if audio else None
        with no_real_time():
            container.start_encoding()  # else a clip without frames would be no file at all
        pts = start_pts
        for index in range(frames):
            picture = moving_picture(width, height, index)
            picture.pts = pts
            picture.time_base = Fraction(1, fps)
            pts += 2 if vfr and index % 3 == 0 else 1
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if sound is not None:
            assert isinstance(sound, av.AudioStream)
            _write_silence(container, sound, seconds=frames / fps)
    return path


def _write_silence(container: OutputContainer, sound: av.AudioStream, *, seconds: float) -> None:
    for start in range(0, round(seconds * _AUDIO_RATE_HZ), _AUDIO_SAMPLES):
        silence = av.AudioFrame.from_ndarray(np.zeros((2, _AUDIO_SAMPLES), np.float32), format="fltp", layout="stereo")
        silence.sample_rate = _AUDIO_RATE_HZ
        silence.pts = start
        silence.time_base = Fraction(1, _AUDIO_RATE_HZ)
        container.mux(sound.encode(silence))
    container.mux(sound.encode(None))


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    """Write a clip; see `write_clip`."""
    return write_clip
