"""Masks as run lengths: COCO's uncompressed form.

`{"size": [height, width], "counts": [...]}`: the mask read column by column, from the top of the left column; counts of
pixels that are alternately outside and inside, beginning with outside (0 when the first pixel is inside). This is what
`pycocotools.mask.frPyObjects` takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.frame import U8


class RunLengths(TypedDict):
    """A mask as run lengths."""

    size: list[int]
    counts: list[int]


def run_lengths(mask: U8 | npt.NDArray[np.bool_]) -> RunLengths:
    """Encode a (height, width) mask; anything but 0 is inside."""
    inside = np.ravel(mask != 0, order="F")
    changes = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    edges = np.concatenate(([0], changes, [inside.size]))
    counts = np.diff(edges).tolist()
    starts_inside = bool(inside.size and inside[0])
    return {"size": [int(side) for side in mask.shape], "counts": [0, *counts] if starts_inside else counts}


def mask_of(runs: RunLengths) -> U8:
    """Decode run lengths into (height, width) uint8, 255 inside."""
    height, width = runs["size"]
    values = np.zeros(len(runs["counts"]), np.uint8)
    values[1::2] = 255
    return np.repeat(values, runs["counts"]).reshape((height, width), order="F")
