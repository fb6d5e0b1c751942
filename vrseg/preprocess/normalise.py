"""Pixels to the numbers that a network was trained on: one function for each type of number.

A network of whole numbers gets pixels of 8 bits. All others get fractions: their pixels are of 14 bits, 64 steps to a
level of 255.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from vrseg.models.spec import InputSpec

    Pixels: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    Normalise: TypeAlias = Callable[[int, Pixels, npt.NDArray[Any]], None]
    """Channel number, (h, w) pixels, (h, w) destination."""

LEVEL = {np.dtype(np.uint8): 1, np.dtype(np.uint16): 64}
"""Steps of a pixel's type to a level."""
_WHITE = 255 * LEVEL[np.dtype(np.uint16)]  # 14 bits hold more: what FFmpeg finds whiter than white
_VALUES = 1 << 14


def pixel_type(target: InputSpec) -> np.dtype[Any]:
    """Choose what pixels must be for the input's type."""
    return np.dtype(np.uint8 if target.dtype == "uint8" else np.uint16)


def normaliser(target: InputSpec) -> Normalise:
    """Choose the fastest way to compute (level * scale - mean) / std for the input's type."""
    if target.dtype == "uint8":
        return _copy
    factor = target.scale / np.array(target.std) / LEVEL[pixel_type(target)]
    offset = -np.array(target.mean) / np.array(target.std)
    if target.dtype == "float16":
        return _looked_up(factor, offset)
    return _multiplied(factor, offset)


def _copy(_channel: int, pixels: Pixels, out: npt.NDArray[Any]) -> None:
    np.copyto(out, pixels)


def _multiplied(factor: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> Normalise:
    factors, offsets = factor.astype(np.float32), offset.astype(np.float32)

    def normalise(channel: int, pixels: Pixels, out: npt.NDArray[Any]) -> None:
        # Looking is a tenth of the work of cutting, which few pictures need.
        within = pixels if pixels.max() <= _WHITE else np.minimum(pixels, _WHITE)
        np.multiply(within, factors[channel], out=out, dtype=np.float32)
        if offsets[channel]:
            np.add(out, offsets[channel], out=out)

    return normalise


def _looked_up(factor: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> Normalise:
    """A table of all pixels: NumPy computes with float16 seven times as slowly."""
    levels = np.minimum(np.arange(_VALUES), _WHITE)
    tables = (levels * factor[:, None] + offset[:, None]).astype(np.float16)

    def normalise(channel: int, pixels: Pixels, out: npt.NDArray[Any]) -> None:
        # mode="clip" lets `take` write without a copy in between; no index can be out of range.
        np.take(tables[channel], pixels, out=out, mode="clip")

    return normalise
