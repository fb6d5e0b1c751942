"""Where the outputs of a network lie within one block of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

ALIGNMENT = 256
"""Bytes: what CUDA libraries ask of addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlace:
    """One output: frames one behind the other, the first at `offset_bytes`."""

    name: str
    frame_shape: tuple[int, ...]
    """Without the batch."""
    dtype: str
    """NumPy's name."""
    offset_bytes: int

    @property
    def frame_bytes(self) -> int:
        return int(np.prod(self.frame_shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class OutputBlock:
    """All outputs of up to `frames` frames."""

    places: tuple[OutputPlace, ...]
    frames: int
    size_bytes: int


def lay_out(outputs: Iterable[tuple[str, tuple[int, ...], str]], frames: int) -> OutputBlock:
    """Put outputs (name, shape of one frame, dtype) one behind the other, each at a multiple of `ALIGNMENT`."""
    places: list[OutputPlace] = []
    end = 0
    for name, frame_shape, dtype in outputs:
        places.append(OutputPlace(name=name, frame_shape=frame_shape, dtype=dtype, offset_bytes=end))
        end += -(-places[-1].frame_bytes * frames // ALIGNMENT) * ALIGNMENT
    return OutputBlock(tuple(places), frames, max(end, ALIGNMENT))
