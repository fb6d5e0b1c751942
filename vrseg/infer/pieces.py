"""Batches of any size on a network that takes only one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]


def in_pieces(run: Callable[[Array], list[Array]], tensor: Array, size: int | None) -> list[Array]:
    """Run a batch, cut to pieces of `size` where that is fixed; the last piece is filled up with zeros.

    Args:
        run: takes (size, ...) and returns the outputs, whose first dimension is the frame.
        tensor: (N, ...)
        size: frames per call; None when any number will do.

    Returns:
        The outputs, (N, ...) each.
    """
    if size is None or size == len(tensor):
        return run(tensor)
    pieces = []
    for start in range(0, len(tensor), size):
        piece = tensor[start : start + size]
        short = size - len(piece)
        if short:
            piece = np.concatenate([piece, np.zeros((short, *piece.shape[1:]), piece.dtype)])
        pieces.append([output[: size - short] for output in run(piece)])
    return [np.concatenate(outputs) for outputs in zip(*pieces, strict=True)]
