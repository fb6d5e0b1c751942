"""The pixels that a network gets, of every frame of the real clips, against OpenCV's resizing of an exact picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
import pytest
from plugins.frames import frame_of
from plugins.reference import CLIPS, DESCRIPTIONS, LANDSCAPE, PORTRAIT, SELFIE, YOLOX, exact_rgb

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
    """Measured, on average over a frame: 0.14 to 0.21 of 255; with FFmpeg's quick conversion, 1.6 to 2.7."""
    specs = []
    for name in (SELFIE, LANDSCAPE, PORTRAIT, YOLOX):
        model = Model.model_validate({"path": f"{name}.onnx", "description": str(DESCRIPTIONS / f"{name}.yaml")})
        specs.append(load_spec("body", model, models_dir))
    stages = [(spec.input, SwscalePreprocess(spec)) for spec in specs]
    for _, stage in stages:
        stage.open()
    with av.open(str(media_dir / f"{clip}.mp4")) as container:
        for index, picture in enumerate(container.decode(video=0)):
            rgb = exact_rgb(picture)
            for target, stage in stages:
                (batch,) = stage.process((frame_of(picture, index=index),))
                mine = pixels_of(batch, target)
                assert mine.shape[1] < rgb.shape[1]
                plain = cv2.resize(rgb, (mine.shape[1], mine.shape[0]), interpolation=cv2.INTER_AREA)
                assert cv2.norm(mine, plain.astype(np.float32), cv2.NORM_L1) / mine.size <= 0.3, f"frame {index}"
    for _, stage in stages:
        stage.close()


def pixels_of(batch: Batch, target: InputSpec) -> F32:
    """Undo layout, normalisation and letterbox: (height, width, 3) RGB, 0 to 255."""
    (placement,) = batch.placements
    tensor = batch.tensor[0] if target.layout == "nhwc" else batch.tensor[0].transpose(1, 2, 0)
    seen = tensor[placement.top : placement.top + placement.height, placement.left : placement.left + placement.width]
    pixels = (seen * np.array(target.std, np.float32) + np.array(target.mean, np.float32)) / np.float32(target.scale)
    return np.ascontiguousarray(pixels if target.color == "rgb" else pixels[..., ::-1])
