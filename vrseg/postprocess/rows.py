"""Raw rows of the detector families, as candidate boxes. Scores are filtered before any other arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.postprocess.boxes import corners

if TYPE_CHECKING:
    from vrseg.frame import F32, I64

_BOX = 4
_STRIDES = (8, 16, 32)
# No picture is as large. What a network says beyond it, or as NaN, comes of weights or inputs that are broken.
_FAR = 1e6


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes of one frame that score enough, in input pixels, in no order."""

    boxes_xyxy: F32
    """(N, 4)"""
    scores: F32
    """(N,)"""
    class_ids: I64
    """(N,)"""


def yolox_grid(width: int, height: int) -> F32:
    """Column, row and stride of every cell: (A, 3), rows of the output in their order."""
    cells = []
    for stride in _STRIDES:
        rows, columns = np.mgrid[0 : height // stride, 0 : width // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    return np.concatenate(cells).astype(np.float32)


def read_yolox(rows: F32, grid: F32, min_score: float) -> Candidates:
    """Read raw YOLOX output (A, 5 + C): offsets in cells, logarithms of sizes, objectness, class scores.

    Ge et al., "YOLOX: Exceeding YOLO Series in 2021".
    """
    found, scores, class_ids = _with_objectness(rows, min_score)
    chosen, cells = rows[found], grid[found]
    stride = cells[:, 2:3]
    # A size of e^10 cells is no box; the limit keeps the exponential finite.
    sizes = np.exp(np.minimum(chosen[:, 2:4], np.float32(10))) * stride
    centres = (chosen[:, :2] + cells[:, :2]) * stride
    return Candidates(corners(np.concatenate([centres, sizes], axis=1)), scores, class_ids)


def read_yolov5(rows: F32, min_score: float) -> Candidates:
    """Read YOLOv5 or v7 output (A, 5 + C): centre, size, objectness, class scores."""
    found, scores, class_ids = _with_objectness(rows, min_score)
    return Candidates(corners(rows[found, :_BOX]), scores, class_ids)


def read_yolov8(columns: F32, min_score: float) -> Candidates:
    """Read YOLOv8 or 11 output (4 + C, A): centre, size, class scores; there is no objectness."""
    best = columns[_BOX:].max(axis=0)
    found = np.flatnonzero((best >= min_score) & (best < _FAR))
    found = found[_sane(columns[:_BOX, found].T)]
    class_ids = columns[_BOX:, found].argmax(axis=0).astype(np.int64, copy=False)
    return Candidates(corners(columns[:_BOX, found].T), best[found], class_ids)


def read_end2end(boxes_xyxy: F32, scores: F32, class_ids: np.ndarray[Any, Any], min_score: float) -> Candidates:
    """Read what is left after the network's own suppression: (M, 4), (M,), (M,); unused rows score 0 or less."""
    found = np.flatnonzero((scores >= min_score) & (scores < _FAR) & (class_ids >= 0) & (scores > 0))
    found = found[_sane(boxes_xyxy[found])]
    return Candidates(boxes_xyxy[found], scores[found], class_ids[found].astype(np.int64))


def _with_objectness(rows: F32, min_score: float) -> tuple[I64, F32, I64]:
    """Find rows whose objectness times best class score is enough: row numbers, scores, classes."""
    # A class score is at most 1, so objectness alone already rules out nearly all rows.
    found = np.flatnonzero((rows[:, _BOX] >= min_score) & (rows[:, _BOX] < _FAR))
    found = found[_sane(rows[found, :_BOX])]
    classes = rows[found, _BOX + 1 :]
    class_ids = classes.argmax(axis=1)
    scores = rows[found, _BOX] * classes[np.arange(len(found)), class_ids]
    enough = (scores >= min_score) & (scores < _FAR)
    return found[enough], scores[enough], class_ids[enough].astype(np.int64, copy=False)


def _sane(boxes: F32) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray((np.abs(boxes) < _FAR).all(axis=1))
