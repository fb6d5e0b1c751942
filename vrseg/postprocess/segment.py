"""Scores of a segmentation network, as 16-bit scores that cover exactly the frame."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vrseg.frame import Segmentation
from vrseg.postprocess.class_map import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import F32, U16, Frame, Inference, Placement
    from vrseg.models.spec import ModelSpec

STEPS = 65535
"""The score of a probability of 1."""


class SegmentHead:
    """Each frame of a batch gets its `Segmentation`. A `Postprocess` stage."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._threshold = int(in_steps(np.array([spec.thresholds.mask], np.float32))[0])

    def open(self) -> None:
        pass

    def process(self, item: Inference, /) -> Iterable[Frame]:
        scores = item.outputs[self._spec.outputs[0]]
        if self._spec.channels_last:
            scores = scores.transpose(0, 3, 1, 2)
        elif scores.ndim == 3:
            scores = scores[:, None]
        for frame, placement, scores_chw in zip(item.frames, item.placements, scores, strict=True):
            found = self._segmentation(cut(scores_chw, placement, self._spec), placement.rotation_deg)
            yield replace(frame, result=found)

    def flush(self) -> Iterable[Frame]:
        return ()

    def close(self) -> None:
        pass

    def _segmentation(self, scores: F32, rotation_deg: int) -> Segmentation:
        """Choose by the number of channels; `scores` (C, h, w) is upright."""
        if len(scores) == 1:
            probability = sigmoid(scores) if self._spec.decode == "logits" else scores
            return self._one_class(probability, 0, rotation_deg)
        background = self._spec.background_ids
        if len(scores) == 2 and len(background) == 1:
            (nothing,) = background
            something = 1 - nothing
            if self._spec.decode == "logits":
                # The softmax of two is the sigmoid of their difference.
                return self._one_class(sigmoid(scores[something] - scores[nothing])[None], something, rotation_deg)
            return self._one_class(scores[something : something + 1], something, rotation_deg)
        return self._several(scores, rotation_deg)

    def _one_class(self, probability: F32, class_id: int, rotation_deg: int) -> Segmentation:
        scores = turned_back(in_steps(probability), rotation_deg)
        return Segmentation(scores=scores, class_ids=(class_id,), threshold=self._threshold)

    def _several(self, scores: F32, rotation_deg: int) -> Segmentation:
        """Keep the classes that win somewhere: a street scene shows five of nineteen."""
        wins = np.bincount(scores.argmax(axis=0).ravel(), minlength=len(scores))
        kept = np.union1d(np.flatnonzero(wins), sorted(self._spec.background_ids)).astype(int)
        probability = softmax(scores, kept) if self._spec.decode == "logits" else scores[kept]
        planes, ids = in_steps(probability), tuple(kept.tolist())
        if self._spec.decode == "probability" and not self._spec.background_ids:
            # Independent scores, none of them for nothing: nothing wins where no score passes the threshold.
            planes = np.concatenate([np.full_like(planes[:1], self._threshold), planes])
            ids = (NOTHING, *ids)
        return Segmentation(scores=turned_back(planes, rotation_deg), class_ids=ids, threshold=self._threshold)


def cut(scores_chw: F32, placement: Placement, spec: ModelSpec) -> F32:
    """Cut the padding off; scores may be smaller than the input. Returns float32, (C, h, w), still upright."""
    _, height, width = scores_chw.shape
    left, top, right, bottom = window(width, height, placement, spec)
    return scores_chw[:, top:bottom, left:right].astype(np.float32, copy=False)


def window(width: int, height: int, placement: Placement, spec: ModelSpec) -> tuple[int, int, int, int]:
    """Find the picture in scores of this size: left, top, right, bottom; at least one score."""
    scale_x, scale_y = width / spec.input.width, height / spec.input.height
    left = min(round(placement.left * scale_x), width - 1)
    top = min(round(placement.top * scale_y), height - 1)
    right = max(left + 1, round((placement.left + placement.width) * scale_x))
    bottom = max(top + 1, round((placement.top + placement.height) * scale_y))
    return left, top, right, bottom


def turned_back(scores: U16, rotation_deg: int) -> U16:
    """Turn upright scores (K, h, w) to the frame's own orientation, rows contiguous."""
    return np.ascontiguousarray(np.rot90(scores, rotation_deg // 90, axes=(1, 2)))


def in_steps(probability: F32) -> U16:
    """Round probabilities to 0..65535 so that a score exceeds 32767 exactly where the probability exceeds 0.5.

    Halves are rounded down: 0.5 itself, 32767.5 of 65535, must not exceed. NaN becomes 0.
    """
    scores: F32 = probability * np.float32(STEPS)
    scores -= np.float32(0.5)
    np.ceil(scores, out=scores)
    np.fmax(scores, 0, out=scores)
    np.minimum(scores, STEPS, out=scores)
    return scores.astype(np.uint16)


def sigmoid(logits: F32) -> F32:
    """Logistic function; by the tangent, which cannot overflow."""
    result: F32 = np.tanh(logits * np.float32(0.5))
    result *= np.float32(0.5)
    result += np.float32(0.5)
    return result


def softmax(logits: F32, kept: np.ndarray[tuple[int, ...], np.dtype[np.int_]]) -> F32:
    """Softmax over all channels (C, h, w), of which only `kept` are returned."""
    powers: F32 = np.exp(logits - logits.max(axis=0))
    result: F32 = powers[kept]
    result /= powers.sum(axis=0)
    return result
