"""The path from a decoded frame to results against the plain way, with each engine, and what was measured elsewhere.

The parity test of `vrseg process` compares every frame of the command's output.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.box_filter import box_rgb
from plugins.frames import frames_of_clip
from plugins.reference import (
    CLIPS,
    CLOSEUP,
    DESCRIPTIONS,
    LANDSCAPE,
    MASK_MODELS,
    MIN_SCORE,
    PORTRAIT,
    SELFIE,
    STEREO,
    STORE,
    WALKING,
    YOLOX,
    Box,
    best_iou,
    person_mask,
    plain_boxes,
    session_of,
)

from vrseg.config.schema import Model
from vrseg.frame import Detections, Frame, Segmentation
from vrseg.infer.choose import make_engine
from vrseg.models.load import load_spec
from vrseg.postprocess.choose import make_head
from vrseg.postprocess.class_map import foreground_mask
from vrseg.preprocess.cpu import SwscalePreprocess

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.material
FRAMES = {WALKING: range(0, 60, 5), CLOSEUP: range(0, 198, 18), STORE: range(0, 180, 60), STEREO: range(0, 198, 18)}


@cache
def decoded(path: Path, indices: tuple[int, ...]) -> list[Frame]:
    return frames_of_clip(path, indices)


def inferred(models_dir: Path, name: str, frames: list[Frame], engine: str = "auto") -> list[Frame]:
    description = str(DESCRIPTIONS / f"{name}.yaml")
    model = Model.model_validate({"path": f"{name}.onnx", "description": description, "engine": engine})
    spec = load_spec("body", model, models_dir)
    stages: tuple[Any, ...] = SwscalePreprocess(spec), make_engine(spec, model), make_head(spec)
    for stage in stages:
        stage.open()
    (batch,) = stages[0].process(tuple(frames))
    (inference,) = stages[1].process(batch)
    found = list(stages[2].process(inference))
    for stage in stages:
        stage.close()
    return found


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", MASK_MODELS)
def test_masks_equal_the_plain_way(models_dir: Path, media_dir: Path, name: str, engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    session = session_of(models_dir / f"{name}.onnx")
    for clip in CLIPS:
        common = union = 0
        for frame in inferred(models_dir, name, decoded(media_dir / f"{clip}.mp4", tuple(FRAMES[clip])), engine):
            assert isinstance(frame.result, Segmentation)
            mine = foreground_mask(frame.result, frame.width, frame.height) > 0
            plain = person_mask(session, name, frame.picture, box_rgb)
            common, union = common + int((mine & plain).sum()), union + int((mine | plain).sum())
        assert common >= 0.99 * union, f"{clip}: {common} of {union} pixels"


@pytest.mark.parametrize("clip", CLIPS)
def test_boxes_equal_the_plain_way(models_dir: Path, media_dir: Path, clip: str) -> None:
    session = session_of(models_dir / f"{YOLOX}.onnx")
    for frame in inferred(models_dir, YOLOX, decoded(media_dir / f"{clip}.mp4", tuple(FRAMES[clip]))):
        found = frame.result
        assert isinstance(found, Detections)
        rows = zip(found.class_ids.tolist(), found.scores.tolist(), found.boxes_xyxy.tolist(), strict=True)
        mine = [Box(class_id, score, tuple(corners)) for class_id, score, corners in rows]
        plain = plain_boxes(session, frame.picture, box_rgb)
        for ours, theirs in ((mine, plain), (plain, mine)):
            for box in ours:
                if abs(box.score - MIN_SCORE) > 0.02:  # nearer to it, rounding decides whether there is a box
                    assert best_iou(box, theirs) >= 0.95, f"{clip} {frame.index}: {box}"


AREAS = {  # measured elsewhere, with OpenCV: share of pixels in the mask
    (WALKING, 0): {SELFIE: 0.080, LANDSCAPE: 0.079, PORTRAIT: 0.078},
    (WALKING, 32): {SELFIE: 0.084, LANDSCAPE: 0.081, PORTRAIT: 0.086},
    (WALKING, 55): {SELFIE: 0.000, LANDSCAPE: 0.000, PORTRAIT: 0.007},
    (CLOSEUP, 60): {SELFIE: 0.190, LANDSCAPE: 0.190, PORTRAIT: 0.189},
    (CLOSEUP, 150): {SELFIE: 0.211, LANDSCAPE: 0.211, PORTRAIT: 0.212},
    (STORE, 120): {SELFIE: 0.001, LANDSCAPE: 0.000, PORTRAIT: 0.101},
}


@pytest.mark.parametrize(("clip", "index"), AREAS)
def test_masks_cover_what_was_measured(models_dir: Path, media_dir: Path, clip: str, index: int) -> None:
    for name, area in AREAS[clip, index].items():
        (frame,) = inferred(models_dir, name, decoded(media_dir / f"{clip}.mp4", (index,)))
        assert isinstance(frame.result, Segmentation)
        assert (foreground_mask(frame.result, frame.width, frame.height) > 0).mean() == pytest.approx(area, abs=0.005)


PERSONS = {  # score, x, y, width, height
    (WALKING, 0): (0.88, 361, 34, 149, 346),
    (WALKING, 32): (0.89, 385, 35, 185, 366),
    (CLOSEUP, 60): (0.94, 198, 88, 217, 389),
    (CLOSEUP, 150): (0.95, 176, 88, 287, 389),
}


@pytest.mark.parametrize(("clip", "index"), PERSONS)
def test_persons_stand_where_they_were_measured(models_dir: Path, media_dir: Path, clip: str, index: int) -> None:
    (frame,) = inferred(models_dir, YOLOX, decoded(media_dir / f"{clip}.mp4", (index,)))
    assert isinstance(frame.result, Detections)
    score, x, y, width, height = PERSONS[clip, index]
    persons = frame.result.class_ids == 0
    assert persons.sum() == 1
    assert float(frame.result.scores[persons][0]) == pytest.approx(score, abs=0.03)
    np.testing.assert_allclose(frame.result.boxes_xyxy[persons][0], [x, y, x + width, y + height], atol=6)


def test_an_empty_room_has_nobody_in_it(models_dir: Path, media_dir: Path) -> None:
    (frame,) = inferred(models_dir, YOLOX, decoded(media_dir / f"{WALKING}.mp4", (55,)))
    assert isinstance(frame.result, Detections)
    assert 0 not in frame.result.class_ids
