"""Does a network still say the same when it computes in a coarser type? A gate that a precision must pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.models.spec import ModelSpec

    Array = npt.NDArray[Any]

MIN_IOU = 0.99
MAX_SCORE_ERROR = 0.02
MIN_BOX_IOU = 0.98
# Below this share of the pictures an intersection over union is a matter of a few pixels at the edge.
_MIN_SHARE = 0.01
_BOX = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured, and whether it is good enough."""

    passed: bool
    text: str


def compare(spec: ModelSpec, exact: list[Array], coarse: list[Array], *, share: float = 1.0) -> Verdict:
    """Compare the outputs of the same pictures in fp32 and in a coarser type.

    Args:
        spec: says how to read them.
        exact: in fp32.
        coarse: in the coarser type.
        share: of the allowed error that may be used, 0 to 1.
    """
    if not all(np.isfinite(one).all() for one in coarse):
        return Verdict(passed=False, text="its numbers overflow")
    if spec.task == "segment":
        return _compare_masks(spec, exact[0], coarse[0], share)
    return _compare_boxes(spec, exact, coarse, share)


def compare_foreseeing(spec: ModelSpec, exact: list[Array], coarse: list[Array], /) -> Verdict:
    """Compare what was computed here to foresee another device; half of the room is left to what is not foreseen.

    That is other pictures, and other orders of sums: with YOLOX the worst of twelve pictures is up to twice as far off
    as the worst of the next twelve.
    """
    return compare(spec, exact, coarse, share=0.5)


def _compare_boxes(spec: ModelSpec, exact: list[Array], coarse: list[Array], share: float) -> Verdict:
    allowed, needed = MAX_SCORE_ERROR * share, _needed(MIN_BOX_IOU, share)
    if spec.decode == "end2end":
        # Rows after suppression may come in another order: compare what is sorted, the scores.
        scores = [np.sort(_end2end_scores(one)) for one in (exact, coarse)]
        error = float(np.abs(scores[0] - scores[1]).max(initial=0.0))
        return Verdict(passed=error <= allowed, text=f"score error {error:.3f}, allowed {allowed:g}")
    rows = [one[0].swapaxes(1, 2) if spec.decode == "yolov8" else one[0] for one in (exact, coarse)]
    rows = [one.astype(np.float32) for one in rows]
    scores = [_row_scores(spec, one) for one in rows]
    error = float(np.abs(scores[0] - scores[1]).max(initial=0.0))
    found = scores[0].max(axis=-1) >= spec.thresholds.score
    iou = float(_box_iou(*(_corners(spec, one[found]) for one in rows)).mean()) if found.any() else 1.0
    return Verdict(
        passed=error <= allowed and iou >= needed,
        text=f"score error {error:.3f}, allowed {allowed:g}; box IoU {iou:.4f}, needed {needed:g}",
    )


def _corners(spec: ModelSpec, rows: Array) -> tuple[Array, Array]:
    """Return x0, y0 and x1, y1 of rows (M, 4 + ...), in any unit: both rows of a pair have the same."""
    # YOLOX counts from the row's own cell, in cells; sizes are logarithms.
    sizes = np.exp(np.minimum(rows[:, 2:_BOX], 10)) if spec.decode == "yolox" else rows[:, 2:_BOX]
    return rows[:, :2] - sizes / 2, rows[:, :2] + sizes / 2


def _box_iou(ones: tuple[Array, Array], others: tuple[Array, Array]) -> Array:
    """Intersection over union of each pair."""
    common = np.maximum(np.minimum(ones[1], others[1]) - np.maximum(ones[0], others[0]), 0).prod(axis=1)
    areas = [np.maximum(high - low, 0).prod(axis=1) for low, high in (ones, others)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-9))


def _compare_masks(spec: ModelSpec, exact: Array, coarse: Array, share: float) -> Verdict:
    allowed, needed = MAX_SCORE_ERROR * share, _needed(MIN_IOU, share)
    masks = [_masks(spec, one) for one in (exact, coarse)]
    either, both = (masks[0] | masks[1]).sum(), (masks[0] & masks[1]).sum()
    if either < _MIN_SHARE * masks[0].size:
        error = float(np.abs(_probability(spec, exact) - _probability(spec, coarse)).max())
        return Verdict(passed=error <= allowed, text=f"score error {error:.3f}, allowed {allowed:g}")
    iou = float(both / either)
    return Verdict(passed=iou >= needed, text=f"mask IoU {iou:.4f}, needed {needed:g}")


def _needed(least: float, share: float) -> float:
    return 1 - (1 - least) * share


def _masks(spec: ModelSpec, scores: Array) -> npt.NDArray[np.bool_]:
    """Mark where each class was found: (N, h, w) for one class, (N, C, h, w) for several."""
    probability = _probability(spec, scores)
    if probability.shape[1] == 1:
        found: npt.NDArray[np.bool_] = probability[:, 0] > spec.thresholds.mask
        return found
    winner = probability.argmax(axis=1)[:, None]
    classes = np.array([one for one in range(probability.shape[1]) if one not in spec.background_ids])
    return np.asarray(winner == classes[None, :, None, None])


def _probability(spec: ModelSpec, scores: Array) -> npt.NDArray[np.float32]:
    scores = scores.astype(np.float32)
    scores = scores.transpose(0, 3, 1, 2) if spec.channels_last else scores
    scores = scores[:, None] if scores.ndim == 3 else scores
    if spec.decode != "logits":
        return scores
    if scores.shape[1] == 1:
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * scores))
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _row_scores(spec: ModelSpec, rows: Array) -> Array:
    if spec.decode == "yolov8":
        return rows[..., _BOX:]
    return rows[..., _BOX : _BOX + 1] * rows[..., _BOX + 1 :]


def _end2end_scores(outputs: list[Array]) -> Array:
    return outputs[0][..., _BOX] if len(outputs) == 1 else outputs[1]
