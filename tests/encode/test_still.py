"""Frames as JPEG, from both devices."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from PIL import Image
from plugins.encoded import every, frames_at
from plugins.frames import frame_of
from plugins.late_gpu import Painter

from vrseg.encode.still import JpegStill
from vrseg.encode.still_cuda import DownloadedStill

if TYPE_CHECKING:
    from vrseg.frame import Frame
    from vrseg.gpu.device import Gpu
    from vrseg.stage import Stage


def jpeg_of(frame: Frame, still: Stage[Frame, bytes] | None = None) -> Image.Image:
    still = still or JpegStill()
    still.open()
    (data,) = still.process(frame)
    assert list(still.flush()) == []
    still.close()
    still.close()
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image.convert("RGB")


def painted(width: int, height: int) -> av.VideoFrame:
    """Red above, blue below."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, :, 0] = pixels[height // 2 :, :, 2] = 255
    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")


@pytest.mark.parametrize(
    ("size", "rotation_deg", "expected"),
    [
        ((1920, 1080), 0, (960, 540)),
        ((640, 360), 0, (640, 360)),
        ((320, 182), 180, (320, 182)),
        ((1080, 1920), 90, (960, 540)),
        ((1920, 1080), 270, (960, 1706)),
    ],
)
def test_a_picture_is_upright_and_no_wider_than_asked(
    size: tuple[int, int], rotation_deg: int, expected: tuple[int, int]
) -> None:
    frame = replace(frame_of(painted(*size)), rotation_deg=rotation_deg)
    image = jpeg_of(frame)
    assert image.size == expected
    width, height = image.size
    at = {0: (width // 2, 4), 90: (width - 4, height // 2), 180: (width // 2, height - 4), 270: (4, height // 2)}
    red = image.getpixel(at[rotation_deg])
    assert isinstance(red, tuple)
    assert (red[0] > 200, red[2] < 60) == (True, True), "the top of the coded picture is where the turn has brought it"


def test_one_stage_follows_a_stream_that_changes_its_size() -> None:
    still = JpegStill()
    sizes = [Image.open(io.BytesIO(next(iter(still.process(frame_of(painted(*size))))))).size
             for size in ((640, 360), (320, 180), (640, 360))]  # fmt: skip
    assert sizes == [(640, 360), (320, 180), (640, 360)]


@pytest.mark.parametrize("at_once", [False, True])
def test_surfaces_come_down_whole_and_are_given_back(late_gpu: Gpu, at_once: bool) -> None:
    painter = Painter(late_gpu, at_once=at_once)
    times = every(9)  # more than the four surfaces that the painter has
    expected = []
    for frame in frames_at(times):
        frame.picture.colorspace, frame.picture.color_range = 1, 1  # what the painter's surfaces say of themselves
        expected.append(np.asarray(jpeg_of(frame)))
    still = DownloadedStill(late_gpu)
    still.open()
    for frame, wanted in zip(painter.frames(times), expected, strict=True):
        (data,) = still.process(frame)
        found = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.abs(found.astype(int) - wanted).mean() < 3
    still.close()
    still.close()
    assert late_gpu.counts.snapshot().pinned_bytes == 0
