"""The pixels that a network gets, of every frame of the real clips, against exact means of boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
import pytest
from plugins.box_filter import box_rgb
from plugins.frames import frame_of, frames_of_clip
from plugins.reference import CLIPS, DESCRIPTIONS, LANDSCAPE, PORTRAIT, SELFIE, YOLOX

from vrseg.config.schema import Model
from vrseg.models.load import load_spec
from vrseg.preprocess.cpu import SwscalePreprocess

if TYPE_CHECKING:
    from pathlib import Path

    from vrseg.frame import F32, Batch
    from vrseg.models.spec import InputSpec


@pytest.mark.material
@pytest.mark.parametrize("clip", CLIPS)
def test_every_frame_is_shrunk_as_by_area(models_dir: Path, media_dir: Path, clip: str) -> None:
    """Measured, on average over a frame: at most 0.0093 of 255."""
    specs = []
    for name in (SELFIE, LANDSCAPE, PORTRAIT, YOLOX):
        model = Model.model_validate({"path": f"{name}.onnx", "description": str(DESCRIPTIONS / f"{name}.yaml")})
        specs.append(load_spec("body", model, models_dir))
    stages = [(spec.input, SwscalePreprocess(spec)) for spec in specs]
    for _, stage in stages:
        stage.open()
    with av.open(str(media_dir / f"{clip}.mp4")) as container:
        for index, picture in enumerate(container.decode(video=0)):
            for target, stage in stages:
                (batch,) = stage.process((frame_of(picture, index=index),))
                mine = pixels_of(batch, target)
                assert mine.shape[1] < picture.width
                exact = box_rgb(picture, mine.shape[1], mine.shape[0])
                assert cv2.norm(mine, exact, cv2.NORM_L1) / mine.size <= 0.012, f"frame {index}"
    for _, stage in stages:
        stage.close()


@pytest.mark.material
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("size", [(256, 256), (416, 234), (398, 224)])
def test_the_mean_of_a_box_is_what_opencv_calls_area(media_dir: Path, clip: str, size: tuple[int, int]) -> None:
    """The oracle has an oracle: without colours, resizing is all there is."""
    (frame,) = frames_of_clip(media_dir / f"{clip}.mp4", {20})
    for plane in frame.picture.planes[1:]:
        plane.update(bytes([128]) * plane.buffer_size)
    rows = frame.picture.planes[0]
    luma = np.frombuffer(memoryview(rows), np.uint8).reshape(rows.height, -1)[:, : rows.width]
    grey = cv2.resize((luma.astype(np.float32) - 16) * np.float32(255 / 219), size, interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(box_rgb(frame.picture, *size)[..., 1], np.clip(grey, 0, 255), atol=0.001)


def pixels_of(batch: Batch, target: InputSpec) -> F32:
    """Undo layout, normalisation and letterbox: (height, width, 3) RGB, 0 to 255."""
    (placement,) = batch.placements
    tensor = batch.tensor[0] if target.layout == "nhwc" else batch.tensor[0].transpose(1, 2, 0)
    seen = tensor[placement.top : placement.top + placement.height, placement.left : placement.left + placement.width]
    pixels = (seen * np.array(target.std, np.float32) + np.array(target.mean, np.float32)) / np.float32(target.scale)
    return np.ascontiguousarray(pixels if target.color == "rgb" else pixels[..., ::-1])
