"""Mixing of planes by weight, in integers, without new memory for each frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vrseg.render.picture import Planes

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.frame import U8
    from vrseg.render.picture import Yuv

FULL = 128
"""The weight that shows only what is on top. A power of two: dividing by it is a shift, and 255 * 128 fits 16 bits."""


class Blender:
    """Mixes into planes in place. Holds scratch memory: new memory costs more than the arithmetic."""

    def __init__(self) -> None:
        self._scratch = np.empty(0, np.int16)

    def mix(self, below: Planes, top: Yuv | Planes, weight: U8) -> None:
        """Move `below` towards `top` by `weight` / 128.

        Args:
            below: changed in place.
            top: one colour, or planes of the size of `below`.
            weight: (height, width) of `below.y`, 0 to 128. Chroma takes the upper left of each four.
        """
        colours = top if isinstance(top, tuple) else (top.y, top.u, top.v)
        coarse = weight[::2, ::2].copy()  # once, since strided reading costs and both chroma planes need it
        self._mix_plane(below.y, colours[0], weight)
        self._mix_plane(below.u, colours[1], coarse)
        self._mix_plane(below.v, colours[2], coarse)

    def _mix_plane(self, below: U8, top: int | U8, weight: U8) -> None:
        step = self._borrow(below.shape)
        np.subtract(np.int16(top) if isinstance(top, int) else top, below, out=step, dtype=np.int16)
        np.multiply(step, weight, out=step)
        np.add(step, FULL // 2, out=step)
        np.right_shift(step, 7, out=step)
        np.add(below, step, out=below, casting="unsafe")

    def _borrow(self, shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
        size = shape[0] * shape[1]
        if self._scratch.size < size:
            self._scratch = np.empty(size, np.int16)
        return self._scratch[:size].reshape(shape)


def fill(planes: Planes, colour: Yuv) -> None:
    """Paint everything in one colour."""
    planes.y[:], planes.u[:], planes.v[:] = colour


def crop(planes: Planes, left: int, top: int, right: int, bottom: int) -> Planes:
    """View a rectangle; `left` and `top` must be even."""
    half_rows, half_columns = slice(top // 2, (bottom + 1) // 2), slice(left // 2, (right + 1) // 2)
    return Planes(
        planes.y[top:bottom, left:right], planes.u[half_rows, half_columns], planes.v[half_rows, half_columns]
    )
