"""Points and shapes on the picture as it is shown upright, in shares of its width and height."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vrseg.frame import F32, I64

Point: TypeAlias = tuple[float, float]
"""x to the right, y down, 0 to 1."""


def feet(boxes_xyxy: F32, width: int, height: int, rotation_deg: int) -> list[Point]:
    """Find the middle of each box's lower edge.

    Args:
        boxes_xyxy: (N, 4) in pixels of the coded frame.
        width: of the coded frame, pixels.
        height: as `width`.
        rotation_deg: the clockwise turn that shows the frame upright.
    """
    x0, y0, x1, y1 = (boxes_xyxy.astype(np.float64) / (width, height, width, height)).T
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    # The edge that is the lower one once the picture is turned.
    at = {0: (x, y1), 90: (1 - y, x1), 180: (1 - x, 1 - y0), 270: (y, 1 - x0)}[rotation_deg]
    return list(zip(at[0].tolist(), at[1].tolist(), strict=True))


def is_inside(point: Point, corners: Sequence[Point]) -> bool:
    """Tell whether a point is within a polygon, by the parity of the edges to its right."""
    x, y = point
    inside = False
    x1, y1 = corners[-1]
    for x2, y2 in corners:
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            inside = not inside
        x1, y1 = x2, y2
    return inside


@lru_cache(maxsize=256)
def area_of(corners: tuple[Point, ...], shape: tuple[int, int], rotation_deg: int) -> I64:
    """List the pixels of a coded frame (height, width) within a polygon, by their centres: indices, row by row."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width]
    x, y = (x + 0.5) / width, (y + 0.5) / height
    # Where the pixels of the coded frame are seen once it is turned.
    x, y = {0: (x, y), 90: (1 - y, x), 180: (1 - x, 1 - y), 270: (y, 1 - x)}[rotation_deg]
    inside = np.zeros(shape, bool)
    x1, y1 = corners[-1]
    for x2, y2 in corners:
        if y1 != y2:
            inside ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
        x1, y1 = x2, y2
    pixels: I64 = np.flatnonzero(inside)
    pixels.flags.writeable = False
    return pixels


def side(point: Point, start: Point, end: Point) -> float:
    """Tell where a point is, looking from `start` to `end`: negative left of the line, positive right, 0 on it."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def meets(start: Point, end: Point, first: Point, second: Point) -> bool:
    """Tell whether the way from `first` to `second`, on different sides of the line, passes between its ends."""
    return side(start, first, second) * side(end, first, second) <= 0
