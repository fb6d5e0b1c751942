"""A surface as kernels see it: the structure `Picture` of picture.cuh, passed by value."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vrseg.gpu.surface import Matrix, Surface

PICTURE = np.dtype(
    [
        ("luma", np.uint64),
        ("chroma", np.uint64),
        ("pitch", np.int32),
        ("width", np.int32),
        ("height", np.int32),
        ("sample_bytes", np.int32),
        ("luma_offset", np.float32),
        ("luma_scale", np.float32),
        ("red_cr", np.float32),
        ("green_cb", np.float32),
        ("green_cr", np.float32),
        ("blue_cb", np.float32),
    ],
    align=True,
)

LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
"""Kr and Kb, ITU-T H.273 table 4."""


def picture_fields(surface: Surface) -> tuple[int | float, ...]:
    """Return the fields of PICTURE, in order."""
    return (
        surface.luma_address,
        surface.chroma_address,
        surface.pitch_bytes,
        surface.width,
        surface.height,
        surface.sample_bytes,
        *colour_fields(surface.matrix, full_range=surface.full_range),
    )


@cache
def colour_fields(matrix: Matrix, *, full_range: bool) -> tuple[float, ...]:
    """Return offset and scale of luma, and the four factors of chroma, on the scale of 8 bits."""
    kr, kb = LUMA_WEIGHTS[matrix]
    kg = 1 - kr - kb
    luma_offset, luma_scale, chroma_scale = (0.0, 1.0, 1.0) if full_range else (16.0, 255 / 219, 255 / 224)
    return (
        luma_offset,
        luma_scale,
        2 * (1 - kr) * chroma_scale,
        -2 * (1 - kb) * kb / kg * chroma_scale,
        -2 * (1 - kr) * kr / kg * chroma_scale,
        2 * (1 - kb) * chroma_scale,
    )
