"""Where a frame's result lies: for each class an area of the frame, and the weight of the class at each of its pixels.

Scores are enlarged first and decided afterwards, so that edges are smooth. Only the part of the frame that a class
touches is ever computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from av.video.reformatter import VideoReformatter

from vrseg.frame import Detections
from vrseg.postprocess.class_map import enlarge, in_bytes
from vrseg.render.blend import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from vrseg.frame import U8, Result, Segmentation

Area: TypeAlias = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of the frame; left and top are even."""

_MIDDLE = 127
_MAX_SCALERS = 128
_PARTS = 8
"""Areas grow in eighths of the frame: few different sizes mean few scalers, whose set-up costs a third of the work."""


@dataclass(frozen=True, slots=True)
class Cover:
    """What one class covers."""

    class_id: int
    area: Area
    weight: U8
    """(bottom - top, right - left): 0 to 128."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """Scores of one class against all others, at the model's resolution, in 8 bits: as many as a picture has."""

    class_id: int
    scores: U8
    threshold: int


class CoverageMaker:
    """Turns results into covers. Holds a scaler for each size it has seen."""

    def __init__(self) -> None:
        self._scalers: dict[tuple[int, ...], VideoReformatter] = {}

    def classes(
        self, result: Result, width: int, height: int, background_ids: AbstractSet[int], peak: int = FULL
    ) -> Iterator[Cover]:
        """Find what each class covers that is not background.

        Args:
            result: of one frame.
            width: of the frame in pixels.
            height: as `width`.
            background_ids: classes that are nothing.
            peak: weight inside, 0 to 128. Across the edge it falls to 0.
        """
        if isinstance(result, Detections):
            yield from _boxes(result, width, height, peak)
            return
        for layer in _class_layers(result, background_ids):
            yield from self._enlarged(layer, width, height, peak)

    def foreground(self, result: Result, width: int, height: int, background_ids: AbstractSet[int]) -> Cover | None:
        """Find what is not background, whatever its class; None when there is nothing."""
        if isinstance(result, Detections):
            return _union(list(_boxes(result, width, height, FULL)))
        layer = _foreground_layer(result, background_ids)
        return next(self._enlarged(layer, width, height, FULL), None)

    def probability(self, segmentation: Segmentation, width: int, height: int, ids: AbstractSet[int]) -> Cover | None:
        """Give the foreground's own scores, 0 to 255, undecided; the area where they are not 0."""
        layer = replace(_foreground_layer(segmentation, ids), threshold=0)
        found = _bounds(layer.scores > 0)
        return None if found is None else self._scaled(layer, found, width, height)

    def _enlarged(self, layer: _Layer, width: int, height: int, peak: int) -> Iterator[Cover]:
        rise = peak // 2  # scores from no weight to full weight
        low = min(max(layer.threshold - rise // 2, 0), 255 - rise)
        found = _bounds(layer.scores > low)
        if found is None or rise == 0:
            return
        cover = self._scaled(layer, found, width, height)
        weight = cover.weight
        np.clip(weight, low, low + rise, out=weight)
        np.subtract(weight, np.uint8(low), out=weight)
        np.add(weight, weight, out=weight)
        yield cover

    def _scaled(self, layer: _Layer, found: Area, width: int, height: int) -> Cover:
        """Enlarge the part of the scores that holds `found` to the frame's size."""
        rows, columns = layer.scores.shape
        left, right = _span(found[0], found[2], columns, width)
        top, bottom = _span(found[1], found[3], rows, height)
        area = tuple(
            round(edge * full / small)
            for edge, full, small in (
                (left, width, columns),
                (top, height, rows),
                (right, width, columns),
                (bottom, height, rows),
            )
        )
        size = (right - left, bottom - top, area[2] - area[0], area[3] - area[1])
        if len(self._scalers) > _MAX_SCALERS:
            self._scalers.clear()
        scaler = self._scalers.setdefault(size, VideoReformatter())
        return Cover(
            layer.class_id,
            (area[0], area[1], area[2], area[3]),
            enlarge(layer.scores[top:bottom, left:right], size[2], size[3], scaler),
        )


def _span(first: int, last: int, small: int, full: int) -> tuple[int, int]:
    """Widen a run of scores by one, and to where both it and its image in the frame begin and end on whole pixels."""
    # The image of `unit` scores is an even number of pixels, so chroma lines up too.
    unit = small // gcd(small, full // 2) if full % 2 == 0 else small
    unit *= max(1, round(small / _PARTS / unit))
    return max(0, first - 1) // unit * unit, min(small, -(-(last + 1) // unit) * unit)


def _bounds(found: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Area | None:
    rows = np.flatnonzero(found.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(found.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _class_layers(segmentation: Segmentation, background_ids: AbstractSet[int]) -> Iterator[_Layer]:
    scores, class_ids = in_bytes(segmentation.scores), segmentation.class_ids
    if len(class_ids) == 1:
        if class_ids[0] not in background_ids:
            yield _Layer(class_ids[0], scores[0], segmentation.threshold >> 8)
        return
    present = np.bincount(scores.argmax(axis=0).ravel(), minlength=len(class_ids))
    for index, class_id in enumerate(class_ids):
        if present[index] and class_id not in background_ids:
            others = np.delete(scores, index, axis=0).max(axis=0)
            yield _Layer(class_id, _margin(scores[index], others), _MIDDLE)


def _foreground_layer(segmentation: Segmentation, background_ids: AbstractSet[int]) -> _Layer:
    scores, class_ids = in_bytes(segmentation.scores), segmentation.class_ids
    if len(class_ids) == 1 and class_ids[0] not in background_ids:
        return _Layer(class_ids[0], scores[0], segmentation.threshold >> 8)
    background = [index for index, class_id in enumerate(class_ids) if class_id in background_ids]
    others = scores[background].max(axis=0, initial=0)
    return _Layer(class_ids[0], _margin(np.delete(scores, background, axis=0).max(axis=0, initial=0), others), _MIDDLE)


def _margin(scores: U8, others: U8) -> U8:
    """Map the lead of `scores` over `others` to 0 to 255; above the middle it wins."""
    return ((scores.astype(np.int16) - others + 255) >> 1).astype(np.uint8)


def _boxes(detections: Detections, width: int, height: int, peak: int) -> Iterator[Cover]:
    # Worst first: where boxes overlap, the best is painted last.
    for box, class_id in zip(detections.boxes_xyxy[::-1], detections.class_ids[::-1], strict=True):
        left, top = (max(0, int(edge)) // 2 * 2 for edge in box[:2])
        right, bottom = min(width, round(float(box[2]))), min(height, round(float(box[3])))
        if right > left and bottom > top:
            weight = np.full((bottom - top, right - left), peak, np.uint8)
            yield Cover(int(class_id), (left, top, right, bottom), weight)


def _union(covers: list[Cover]) -> Cover | None:
    if not covers:
        return None
    edges = np.array([cover.area for cover in covers])
    left, top = edges[:, :2].min(axis=0).tolist()
    right, bottom = edges[:, 2:].max(axis=0).tolist()
    weight = np.zeros((bottom - top, right - left), np.uint8)
    for cover in covers:
        x0, y0, x1, y1 = cover.area
        weight[y0 - top : y1 - top, x0 - left : x1 - left] = cover.weight
    return Cover(covers[0].class_id, (left, top, right, bottom), weight)
