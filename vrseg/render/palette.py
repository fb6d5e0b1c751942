"""The colours of classes in a surface's own terms, as kernels look them up."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.gpu.picture import LUMA_WEIGHTS
from vrseg.postprocess.class_map import NOTHING
from vrseg.render.colours import UNKNOWN_CLASS, contrast
from vrseg.render.picture import converted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from vrseg.gpu.surface import Matrix
    from vrseg.models.spec import ResolvedClass
    from vrseg.render.colours import Rgb
    from vrseg.render.picture import Yuv

COLOUR = np.dtype([("yuv", np.uint8, 3), ("background", np.uint8), ("text_yuv", np.uint8, 3), ("unused", np.uint8)])
"""The structure `Colour` of pixels.cuh: a class's colour, and that of text on it."""


@cache
def surface_yuv(rgb: Rgb, matrix: Matrix, *, full_range: bool) -> Yuv:
    """Convert a colour for a surface; the twin of `yuv_of` for a picture."""
    kr, kb = LUMA_WEIGHTS[matrix]
    return converted(rgb, kr, kb, full_range=full_range)


def palette(
    classes: Sequence[ResolvedClass], class_ids: Sequence[int], matrix: Matrix, *, full_range: bool
) -> npt.NDArray[Any]:
    """Make the colours of some classes.

    Args:
        classes: in the order of class ids.
        class_ids: those that are wanted, in this order.
        matrix: of the surface.
        full_range: of the surface.

    Returns:
        (len(class_ids) + 1,) COLOUR; the last is for any other class.
    """

    def row(class_id: int) -> tuple[Yuv, bool, Yuv, int]:
        one = classes[class_id] if class_id < len(classes) else None
        rgb = one.color_rgb if one else UNKNOWN_CLASS
        return (
            surface_yuv(rgb, matrix, full_range=full_range),
            class_id == NOTHING or (one is not None and one.background),
            surface_yuv(contrast(rgb), matrix, full_range=full_range),
            0,
        )

    unknown = len(classes)
    return np.array([row(class_id) for class_id in (*class_ids, unknown)], COLOUR)
