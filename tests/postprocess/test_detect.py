from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.frames import rgb_frame
from plugins.networks import fixed_network

from vrseg.config.schema import Model
from vrseg.frame import Detections
from vrseg.infer.onnx import OnnxEngine
from vrseg.models.load import load_spec
from vrseg.postprocess.choose import make_head
from vrseg.postprocess.detect import DetectHead
from vrseg.postprocess.rows import yolox_grid
from vrseg.preprocess.cpu import SwscalePreprocess

if TYPE_CHECKING:
    from pathlib import Path

CELLS = 84  # of 64 x 64
Row = tuple[float, float, float, float, float, int]
"""x0, y0, x1, y1 in input pixels, score, class."""

# Two of class 1 that overlap, the same place as class 0, one elsewhere, one too weak, one in the padding below.
ROWS: list[Row] = [
    (10, 8, 30, 28, 0.9, 1),
    (11, 9, 31, 29, 0.8, 1),
    (10, 8, 30, 28, 0.6, 0),
    (40, 10, 60, 20, 0.7, 2),
    (50, 30, 60, 40, 0.2, 1),
    (10, 52, 20, 62, 0.5, 0),
]
SEEN = [(0.9, 1, (20, 0, 60, 24)), (0.7, 2, (80, 0, 120, 8)), (0.6, 0, (20, 0, 60, 24))]
"""On a frame of 128 x 64: twice the size, the picture lies between rows 16 and 48 of the input."""


def detect(path: Path, **keys: Any) -> Detections:
    """Run the whole path on a frame of 128 x 64."""
    spec = load_spec("body", Model.model_validate({"path": path.name, **keys}), path.parent)
    stages = SwscalePreprocess(spec), OnnxEngine(spec, threads=1), make_head(spec)
    for stage in stages:
        stage.open()
    frames = tuple(rgb_frame(np.zeros((64, 128, 3), np.uint8), index=n) for n in range(2))
    (batch,) = stages[0].process(frames)
    (inference,) = stages[1].process(batch)
    first, second = stages[2].process(inference)
    for stage in stages:
        stage.close()
    assert isinstance(first.result, Detections)
    assert isinstance(second.result, Detections)
    np.testing.assert_array_equal(first.result.boxes_xyxy, second.result.boxes_xyxy)
    return first.result


def assert_seen(found: Detections, expected: list[tuple[float, int, tuple[int, int, int, int]]] = SEEN) -> None:
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in expected], abs=1e-3)
    assert found.class_ids.tolist() == [class_id for _, class_id, _ in expected]
    np.testing.assert_allclose(found.boxes_xyxy, [box for _, _, box in expected], atol=0.02)
    types = [one.dtype.name for one in (found.boxes_xyxy, found.scores, found.class_ids)]
    assert types == ["float32", "float32", "int64"]


def center_rows(count: int, *, objectness: bool) -> np.ndarray[Any, Any]:
    """Spread the rows over `count` cells: centre, size, objectness, three class scores."""
    table = np.zeros((count, 8 if objectness else 7), np.float32)
    for number, (x0, y0, x1, y1, score, class_id) in enumerate(ROWS):
        row = table[number * 7 + 3]
        row[:4] = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        if objectness:
            row[4], row[5 + class_id] = 0.95, score / 0.95
        else:
            row[4 + class_id] = score
    return table


def test_yolov8_columns(tmp_path: Path) -> None:
    path = fixed_network(tmp_path / "body.onnx", {"output0": center_rows(CELLS, objectness=False).T.copy()})
    assert_seen(detect(path))


def test_yolov5_rows(tmp_path: Path) -> None:
    path = fixed_network(tmp_path / "body.onnx", {"output0": center_rows(CELLS * 3, objectness=True)})
    assert_seen(detect(path))


def test_raw_yolox_rows(tmp_path: Path) -> None:
    rows = center_rows(CELLS, objectness=True)
    grid = yolox_grid(64, 64)
    filled = rows[:, 4] > 0
    rows[filled, :2] = rows[filled, :2] / grid[filled, 2:] - grid[filled, :2]
    rows[filled, 2:4] = np.log(rows[filled, 2:4] / grid[filled, 2:])
    path = fixed_network(tmp_path / "body.onnx", {"output": rows})
    assert_seen(detect(path, input={"anchor": "center"}))


def test_the_yolox_grid_goes_row_by_row_from_the_finest_stride() -> None:
    grid = yolox_grid(64, 32)
    assert grid[:2].tolist() == [[0, 0, 8], [1, 0, 8]]
    assert grid[8].tolist() == [0, 1, 8]
    assert grid[32].tolist() == [0, 0, 16]
    assert grid[-1].tolist() == [1, 0, 32]


# Suppression is done within such networks: both overlapping boxes are taken at their word.
END2END = [SEEN[0], (0.8, 1, (22, 0, 62, 26)), *SEEN[1:]]
LETTERBOX = {"fit": "letterbox"}


def test_rows_of_six_after_suppression(tmp_path: Path) -> None:
    table = np.zeros((300, 6), np.float32)
    table[5 : 5 + len(ROWS)] = ROWS
    found = detect(fixed_network(tmp_path / "body.onnx", {"output0": table}), input=LETTERBOX)
    assert_seen(found, END2END)


@pytest.mark.parametrize("class_type", [np.int64, np.float32])
def test_boxes_scores_and_classes_as_outputs_of_their_own(tmp_path: Path, class_type: type) -> None:
    count = len(ROWS)
    boxes, scores = np.zeros((100, 4), np.float32), np.zeros(100, np.float32)
    classes: np.ndarray[Any, Any] = np.full(100, -1, class_type)
    boxes[:count] = [row[:4] for row in ROWS]
    scores[:count] = [row[4] for row in ROWS]
    classes[:count] = [row[5] for row in ROWS]
    answers = {"num": np.array([count], np.int64), "labels": classes, "scores": scores, "boxes": boxes}
    assert_seen(detect(fixed_network(tmp_path / "body.onnx", answers), input=LETTERBOX), END2END)


def test_thresholds_rule_what_is_seen(tmp_path: Path) -> None:
    path = fixed_network(tmp_path / "body.onnx", {"output0": center_rows(CELLS, objectness=False).T.copy()})
    assert len(detect(path, thresholds={"score": 0.75})) == 1
    assert len(detect(path, thresholds={"score": 0.1})) == 4
    assert len(detect(path, thresholds={"iou": 0.95})) == 4
    assert detect(path, thresholds={"max_boxes": 2}).scores.tolist() == pytest.approx([0.9, 0.7])


def test_an_empty_picture_gives_no_boxes(tmp_path: Path) -> None:
    found = detect(fixed_network(tmp_path / "body.onnx", {"output": np.zeros((CELLS, 85), np.float32)}))
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)


def test_numbers_that_are_not_finite_give_no_boxes(tmp_path: Path) -> None:
    rows = np.full((CELLS, 85), np.nan, np.float32)
    rows[0] = np.inf
    rows[1, 4:] = 1.0
    found = detect(fixed_network(tmp_path / "body.onnx", {"output": rows}))
    assert len(found) == 0


def test_close_is_safe_at_any_time(tmp_path: Path) -> None:
    path = fixed_network(tmp_path / "body.onnx", {"output": np.zeros((CELLS, 85), np.float32)})
    head = DetectHead(load_spec("body", Model(path=path.name), tmp_path))
    head.close()
    head.open()
    head.close()
    head.close()
