"""Which box is which: overlap of places, and the best pairs first.

Pairs are taken greedily, the largest overlap first, as in Bochinski, Eiselein and Sikora, "High-Speed
Tracking-by-Detection Without Using Image Information" (2017). An assignment that is best in sum (Kuhn's Hungarian
method) differs only where two objects contest two boxes, and would need SciPy, 100 MB for one function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.track.motion import F64


def overlap(first: F64, second: F64, margin: F64) -> F64:
    """Intersection over union of boxes that are larger than life.

    What is not seen for a while, or seldom, may be farther than its own width from where it is thought to be. So boxes
    that found no partner as they are get a margin that grows with that doubt, as in Yang et al., "Hard to Track Objects
    with Irregular Motions and Similar Appearances? Make It Easier by Buffering the Matching Space" (2023).

    Args:
        first: (N, 4) centre x, centre y, width, height.
        second: (M, 4), the same.
        margin: (N, 2): on each side, in shares of each box's width and height.

    Returns:
        (N, M): 0 to 1.
    """
    grown = (1 + 2 * margin)[:, None, :]
    half_first = first[:, None, 2:] / 2 * grown
    half_second = second[None, :, 2:] / 2 * grown
    centre_first, centre_second = first[:, None, :2], second[None, :, :2]
    upper = np.minimum(centre_first + half_first, centre_second + half_second)
    lower = np.maximum(centre_first - half_first, centre_second - half_second)
    shared = np.prod(np.maximum(upper - lower, 0), axis=2)
    both = 4 * (np.prod(half_first, axis=2) + np.prod(half_second, axis=2))
    ratio: F64 = shared / (both - shared)
    return ratio


def best_pairs(likeness: F64, least: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pair rows with columns, the likest first; each has one partner at most. Between equals the first wins.

    Args:
        likeness: (N, M).
        least: pairs must be as like as this.

    Returns:
        Rows and their columns, (P,) each.
    """
    rows, columns = np.nonzero(likeness >= least)
    order = np.argsort(-likeness[rows, columns], kind="stable")
    taken_rows: dict[int, int] = {}
    taken_columns: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in taken_rows and column not in taken_columns:
            taken_rows[row] = column
            taken_columns.add(column)
    return np.array(list(taken_rows), np.int64), np.array(list(taken_rows.values()), np.int64)
