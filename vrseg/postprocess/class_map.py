"""Class scores at the model's resolution, as masks and class maps at the frame's resolution.

Scores are interpolated and decided afterwards, so edges are smooth; enlarging a finished mask would give stairs. FFmpeg
enlarges quickly and in 8 bits; where that leaves a doubt, mostly on a line along the edges, scores are interpolated
exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    import numpy.typing as npt

    from vrseg.frame import I64, U8, U16, Segmentation

    Quick: TypeAlias = tuple[U8, I64]
    """A class map, and the indices of its pixels that may be wrong."""

NOTHING = 255
"""Value of a class map where no class was found; label maps of the field call it void or ignore."""

# Bilinear with accurate rounding is within 1/255 of OpenCV's INTER_LINEAR and faster than without it.
_INTERPOLATION = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
# 8-bit scores are up to 1 too low (they are cut off, not rounded) and enlarged to 1.1 of the truth. Two scores that are
# this far apart are therefore in the right order.
_CERTAIN = 4
_PIXELS_AT_ONCE = 1 << 18


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
    classes = class_map(segmentation, width, height, scaler=scaler)
    found = classes != NOTHING
    if len(segmentation.class_ids) > 1:
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
    planes, ids, scaler = segmentation.scores, segmentation.class_ids, scaler or VideoReformatter()
    if not ids:
        return np.full((height, width), NOTHING, np.uint8)
    if len(ids) == 1:
        quickly = _above(in_bytes(planes[0]), ids[0], segmentation.threshold >> 8, width, height, scaler)
        planes, ids = np.concatenate([np.full_like(planes, segmentation.threshold), planes]), (NOTHING, *ids)
    else:
        quickly = _highest(in_bytes(planes), ids, width, height, scaler)
    classes, doubtful = quickly
    pixels, of_plane = classes.reshape(-1), np.array(ids, np.uint8)
    for some in np.array_split(doubtful, -(-len(doubtful) // _PIXELS_AT_ONCE) or 1):
        pixels[some] = of_plane[interpolated(planes, some, width, height).argmax(axis=0)]
    return classes


def in_bytes(scores: U16) -> U8:
    """Cut 16-bit scores to 8 bits: enough for drawing. A score exceeds 127 exactly where it exceeded 32767."""
    return (scores >> 8).astype(np.uint8)


def enlarge(scores: U8, width: int, height: int, scaler: VideoReformatter | None = None) -> U8:
    """Interpolate one (h, w) plane bilinearly to (height, width); pixel centres keep their place.

    Returns:
        A view of a buffer of its own, rows padded; writing to it harms nobody.
    """
    if scores.shape == (height, width):
        return scores.copy()
    if scores.min() == scores.max():
        return np.full((height, width), scores[0, 0], np.uint8)
    source = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(scores), "gray")
    scaled = (scaler or VideoReformatter()).reformat(
        source, width, height, "gray", interpolation=_INTERPOLATION, threads=1
    )
    plane = scaled.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)[:, :width]


def interpolated(planes: U16, pixels: I64, width: int, height: int) -> npt.NDArray[np.float64]:
    """Interpolate as `enlarge` does, but exactly, and only at some pixels.

    Args:
        planes: (K, h, w).
        pixels: (N,) indices into the (height, width) that the planes are enlarged to, row by row.
        width: in pixels.
        height: as `width`.

    Returns:
        (K, N).
    """
    rows, columns = np.divmod(pixels, width)
    upper, lower, down = _between(rows, height, planes.shape[1])
    left, right, across = _between(columns, width, planes.shape[2])
    above = planes[:, upper, left] * (1 - across) + planes[:, upper, right] * across
    below = planes[:, lower, left] * (1 - across) + planes[:, lower, right] * across
    result: npt.NDArray[np.float64] = above * (1 - down) + below * down
    return result


def _between(pixels: I64, full: int, small: int) -> tuple[I64, I64, npt.NDArray[np.float64]]:
    """Return the scores on either side of each pixel along an axis, and how far it is from the first to the second."""
    places = np.clip((pixels + 0.5) * small / full - 0.5, 0, small - 1)
    first = places.astype(np.int64)
    return first, np.minimum(first + 1, small - 1), places - first


def _above(scores: U8, class_id: int, threshold: int, width: int, height: int, scaler: VideoReformatter) -> Quick:
    """Let one class be where its score exceeds the threshold."""
    score = enlarge(scores, width, height, scaler)
    found = _as_mask(score > threshold)
    # Below the lowest doubtful score it wraps to large numbers.
    doubtful = np.subtract(score, np.uint8(max(threshold - _CERTAIN + 1, 0))) < 2 * _CERTAIN
    return np.invert(found) | np.uint8(class_id), np.flatnonzero(doubtful)


def _highest(planes: U8, ids: Sequence[int], width: int, height: int, scaler: VideoReformatter) -> Quick:
    """Let each class be where it beats all others."""
    best = enlarge(planes[0], width, height, scaler)
    second, classes = np.zeros_like(best), np.full((height, width), ids[0], np.uint8)
    for class_id, scores in zip(ids[1:], planes[1:], strict=True):
        score = enlarge(scores, width, height, scaler)
        _select(_as_mask(score > best), classes, class_id)
        np.maximum(second, np.minimum(best, score), out=second)
        np.maximum(best, score, out=best)
    return classes, np.flatnonzero(np.subtract(best, second) < _CERTAIN)


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
