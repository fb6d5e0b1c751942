"""Class scores at the model's resolution, as masks and class maps at the frame's resolution.

Scores are interpolated and decided afterwards, so edges are smooth; enlarging a finished mask would give stairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from vrseg.frame import U8, Segmentation

NOTHING = 255
"""Value of a class map where no class was found; label maps of the field call it void or ignore."""

# Bilinear with accurate rounding is within 1/255 of OpenCV's INTER_LINEAR and faster than without it.
_INTERPOLATION = Interpolation.BILINEAR | Interpolation.ACCURATE_RND


def foreground_mask(
    segmentation: Segmentation,
    width: int,
    height: int,
    *,
    background_ids: AbstractSet[int] = frozenset(),
    scaler: VideoReformatter | None = None,
) -> U8:
    """Decide for each pixel of the frame whether it belongs to something.

    Args:
        segmentation: scores of one frame.
        width: of the mask in pixels, usually the frame's.
        height: as `width`.
        background_ids: classes that are nothing, when there are several; see `ResolvedClass.background`.
        scaler: keep one for each output size and pass it: setting one up costs a third of the work.

    Returns:
        (height, width) uint8, 255 for foreground and 0 elsewhere.
    """
    if len(segmentation.class_ids) == 1:
        score = enlarge(segmentation.scores[0], width, height, scaler)
        return _as_mask(score > segmentation.threshold)
    classes = class_map(segmentation, width, height, scaler=scaler)
    found = classes != NOTHING
    for class_id in background_ids:
        found &= classes != class_id
    return _as_mask(found)


def class_map(
    segmentation: Segmentation,
    width: int,
    height: int,
    *,
    scaler: VideoReformatter | None = None,
) -> U8:
    """Decide for each pixel of the frame which class it belongs to.

    Args:
        segmentation: scores of one frame.
        width: of the map in pixels, usually the frame's.
        height: as `width`.
        scaler: as for `foreground_mask`.

    Returns:
        (height, width) uint8 of class ids; `NOTHING` where no class was found. Between equals the first wins.
    """
    if not segmentation.class_ids:
        return np.full((height, width), NOTHING, np.uint8)
    scaler = scaler or VideoReformatter()
    best = enlarge(segmentation.scores[0], width, height, scaler)
    if len(segmentation.class_ids) == 1:
        found = _as_mask(best > segmentation.threshold)
        return _select(found, np.full((height, width), NOTHING, np.uint8), segmentation.class_ids[0])
    classes = np.full((height, width), segmentation.class_ids[0], np.uint8)
    for class_id, scores in zip(segmentation.class_ids[1:], segmentation.scores[1:], strict=True):
        score = enlarge(scores, width, height, scaler)
        _select(_as_mask(score > best), classes, class_id)
        np.maximum(best, score, out=best)
    return classes


def enlarge(scores: U8, width: int, height: int, scaler: VideoReformatter | None = None) -> U8:
    """Interpolate one (h, w) plane bilinearly to (height, width); pixel centres keep their place.

    Returns:
        A view of a buffer of its own, rows padded; writing to it harms nobody.
    """
    if scores.shape == (height, width):
        return scores.copy()
    source = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(scores), "gray")
    scaled = (scaler or VideoReformatter()).reformat(
        source, width, height, "gray", interpolation=_INTERPOLATION, threads=1
    )
    plane = scaled.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)[:, :width]


def _as_mask(found: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> U8:
    mask = found.view(np.uint8)
    # 0 - 1 wraps to 255: one vectorised pass, a tenth of what np.where costs.
    return np.negative(mask, out=mask)


def _select(mask: U8, classes: U8, class_id: int) -> U8:
    """Write `class_id` into `classes` where `mask` is 255; three plain passes cost a quarter of a masked copy."""
    change = classes ^ np.uint8(class_id)
    change &= mask
    classes ^= change
    return classes
