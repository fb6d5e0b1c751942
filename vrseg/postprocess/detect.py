"""Rows of a detector, as boxes in the frame's pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vrseg.frame import Detections
from vrseg.postprocess.boxes import suppress, to_frame
from vrseg.postprocess.rows import Candidates, read_end2end, read_yolov5, read_yolov8, read_yolox, yolox_grid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import F32, Frame, Inference, Placement
    from vrseg.models.spec import ModelSpec


class DetectHead:
    """Each frame of a batch gets its `Detections`. A `Postprocess` stage."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._grid: F32 = np.empty((0, 3), np.float32)

    def open(self) -> None:
        if self._spec.decode == "yolox":
            self._grid = yolox_grid(self._spec.input.width, self._spec.input.height)

    def process(self, item: Inference, /) -> Iterable[Frame]:
        outputs = [item.outputs[name] for name in self._spec.outputs]
        for index, (frame, placement) in enumerate(zip(item.frames, item.placements, strict=True)):
            found = self._read([output[index].astype(np.float32, copy=False) for output in outputs])
            yield replace(frame, result=self._detections(found, placement))

    def flush(self) -> Iterable[Frame]:
        return ()

    def close(self) -> None:
        pass

    def _read(self, outputs: list[F32]) -> Candidates:
        min_score = self._spec.thresholds.score
        first = outputs[0]
        if self._spec.decode == "yolox":
            return read_yolox(first, self._grid, min_score)
        if self._spec.decode == "yolov5":
            return read_yolov5(first, min_score)
        if self._spec.decode == "yolov8":
            return read_yolov8(first, min_score)
        if len(outputs) == 1:
            return read_end2end(first[:, :4], first[:, 4], first[:, 5], min_score)
        return read_end2end(first, outputs[1].reshape(-1), outputs[2].reshape(-1), min_score)

    def _detections(self, found: Candidates, placement: Placement) -> Detections:
        limits = self._spec.thresholds
        if self._spec.decode == "end2end":
            kept = np.argsort(-found.scores, kind="stable")[: limits.max_boxes]
        else:
            kept = suppress(found.boxes_xyxy, found.scores, found.class_ids, limits.iou, limits.max_boxes)
        boxes = to_frame(found.boxes_xyxy[kept], placement)
        # A box wholly within the padding has nothing left; NaN compares as nothing, too.
        seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return Detections(
            boxes_xyxy=boxes[seen], scores=found.scores[kept][seen], class_ids=found.class_ids[kept][seen]
        )
