"""Pixels to the numbers that a network was trained on: one function for each type of number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from vrseg.frame import U8
    from vrseg.models.spec import InputSpec

    Normalise: TypeAlias = Callable[[int, U8, npt.NDArray[Any]], None]
    """Channel number, (h, w) pixels, (h, w) destination."""


def normaliser(target: InputSpec) -> Normalise:
    """Choose the fastest way to compute (pixel * scale - mean) / std for the input's type."""
    if target.dtype == "uint8":
        return _copy
    factor = target.scale / np.array(target.std)
    offset = -np.array(target.mean) / np.array(target.std)
    if target.dtype == "float16":
        return _looked_up(factor, offset)
    return _multiplied(factor, offset)


def _copy(_channel: int, pixels: U8, out: npt.NDArray[Any]) -> None:
    np.copyto(out, pixels)


def _multiplied(factor: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> Normalise:
    factors, offsets = factor.astype(np.float32), offset.astype(np.float32)

    def normalise(channel: int, pixels: U8, out: npt.NDArray[Any]) -> None:
        np.multiply(pixels, factors[channel], out=out, dtype=np.float32)
        if offsets[channel]:
            np.add(out, offsets[channel], out=out)

    return normalise


def _looked_up(factor: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> Normalise:
    """A table of 256 numbers: NumPy computes with float16 seven times as slowly."""
    tables = (np.arange(256) * factor[:, None] + offset[:, None]).astype(np.float16)

    def normalise(channel: int, pixels: U8, out: npt.NDArray[Any]) -> None:
        # mode="clip" lets `take` write without a copy in between; no index can be out of range.
        np.take(tables[channel], pixels, out=out, mode="clip")

    return normalise
