"""What the painting kernels are told of each frame: the structures of painting.cuh and label.cu, filled in."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vrseg.gpu.found import DeviceSegmentation
from vrseg.gpu.picture import PICTURE, picture_fields
from vrseg.render.blend import FULL
from vrseg.render.colours import BLACK, CHROMA_GREEN
from vrseg.render.frosted import SIGMA_ROWS, small_size
from vrseg.render.label import line_px
from vrseg.render.palette import COLOUR, surface_yuv

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.config.schema import View
    from vrseg.gpu.found import DeviceDetections, DeviceResult
    from vrseg.gpu.surface import Surface
    from vrseg.render.lettering import Lettering

Fields: TypeAlias = tuple[Any, ...]

MAX_FRAMES = 16
"""In one launch: so many structures fit into a kernel's parameters."""
MAX_CLASSES = 256
VIEWS: tuple[View, ...] = ("overlay", "mask", "matte", "green", "blur")
"""In the order of the enumeration in painting.cuh."""
_MIDDLE = 127
_ALIGNMENT = 256
_RADIUS = 8
"""Of the blur in pixels of the small picture: beyond five sigma even what is covered weighs more than what is not."""

PAINTING = np.dtype(
    [
        ("source", PICTURE),
        *((name, np.uint64) for name in ("luma", "chroma", "scores", "layer", "ranks")),
        *((name, np.uint64) for name in ("boxes", "box_classes", "box_count", "palette", "small", "blurred")),
        *((name, np.int32) for name in ("view", "classes", "rows", "columns", "low", "rise")),
        *((name, np.int32) for name in ("small_width", "small_height")),
        *((name, np.float32) for name in ("columns_per_pixel", "rows_per_pixel")),
        *((name, np.float32) for name in ("small_columns_per_pixel", "small_rows_per_pixel")),
        ("full_range", np.int32),
        ("backdrop", COLOUR),
    ],
    align=True,
)
PAINTINGS = np.dtype([("frames", PAINTING, MAX_FRAMES), ("present", np.uint64), ("stamp", np.uint32)], align=True)

LABELLING = np.dtype(
    [
        ("source", PICTURE),
        *((name, np.uint64) for name in ("luma", "chroma", "boxes", "scores", "box_classes", "count")),
        *((name, np.uint64) for name in ("palette", "strips", "ink")),
        *((name, np.int32) for name in ("classes", "rotation_deg", "line", "ink_rows", "max_columns")),
    ],
    align=True,
)
LABELLINGS = np.dtype([("frames", LABELLING, MAX_FRAMES)], align=True)

GAUSSIAN = np.dtype([("luma", np.float32, _RADIUS + 1), ("chroma", np.float32, _RADIUS + 1)], align=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """Where, in memory lent for one batch, the launches of one frame hand over to each other. Offsets in bytes."""

    ranks: int
    layer: int
    small: int
    blurred: int
    end: int


def scratch_of(view: View, found: DeviceResult, surface: Surface, start: int) -> Scratch:
    """Lay out what a frame needs from `start` on; what it does not need has no size."""
    several = isinstance(found, DeviceSegmentation) and len(found.class_ids) > 1
    places = prod(found.scores.shape[1:]) if several else 0
    small = prod(small_size(surface.width, surface.height)) if view == "blur" else 0
    in_colours = view in {"overlay", "mask"}
    layer = start + _aligned(4 * places if in_colours else 0)
    shrunken = layer + _aligned(0 if in_colours else places)
    blurred = shrunken + _aligned(5 * small // 2)
    return Scratch(ranks=start, layer=layer, small=shrunken, blurred=blurred, end=blurred + _aligned(3 * small // 2))


def painting_fields(
    view: View,
    opacity: float,
    found: DeviceResult,
    surface: Surface,
    *,
    target: int,
    palette: int,
    classes: int,
    scratch: Scratch,
    scratch_address: int,
) -> Fields:
    """Fill one PAINTING.

    Args:
        view: one of VIEWS.
        opacity: of colours in `overlay`, 0 to 1.
        found: what to draw.
        surface: the frame's picture.
        target: device pointer of an nv12 picture of the same size.
        palette: device pointer of the colours; see `vrseg.render.palette`.
        classes: how many colours it has, but for the last.
        scratch: the frame's, as laid out by `scratch_of`.
        scratch_address: device pointer that its offsets count from.
    """
    if isinstance(found, DeviceSegmentation):
        _, rows, columns = found.scores.shape
        scores, boxes = found.scores.address, (0, 0, 0)
        layer, threshold = (scratch_address + scratch.layer, _MIDDLE) if classes > 1 else (scores, found.threshold)
    else:
        rows, columns, scores, layer, threshold = 0, 0, 0, 0, _MIDDLE
        boxes = found.boxes_xyxy.address, found.class_ids.address, found.count.address
    width, height = surface.width, surface.height
    small_width, small_height = small_size(width, height)
    backdrop = surface_yuv(CHROMA_GREEN if view == "green" else BLACK, surface.matrix, full_range=surface.full_range)
    return (
        picture_fields(surface),
        *(target, target + width * height),
        *(scores, layer, scratch_address + scratch.ranks, *boxes, palette),
        *(scratch_address + scratch.small, scratch_address + scratch.blurred),
        *(VIEWS.index(view), classes, rows, columns),
        *decision(threshold, round(opacity * FULL) if view == "overlay" else FULL),
        *(small_width, small_height),
        *(columns / width, rows / height, small_width / width, small_height / height),
        surface.full_range,
        (backdrop, 0, (0, 0, 0), 0),
    )


def labelling_fields(
    found: DeviceDetections,
    surface: Surface,
    rotation_deg: int,
    lettering: Lettering,
    *,
    target: int,
    palette: int,
    strips: int,
    ink: int,
) -> Fields:
    """Fill one LABELLING. `strips` and `ink` are where the device has the lettering's; else as `painting_fields`."""
    return (
        picture_fields(surface),
        *(target, target + surface.width * surface.height),
        *(found.boxes_xyxy.address, found.scores.address, found.class_ids.address, found.count.address),
        *(palette, strips, ink),
        *(lettering.classes, rotation_deg, line_px(surface.width, surface.height)),
        *(lettering.rows, lettering.max_columns),
    )


def decision(threshold: int, peak: int) -> tuple[int, int]:
    """Give the score below which nothing shows, and how many scores lie from there to the full weight `peak`."""
    rise = peak // 2
    return min(max(threshold - rise // 2, 0), 255 - rise), rise


def gaussian() -> npt.NDArray[Any]:
    """Make the weights of the blur: (1,) GAUSSIAN."""
    distance = np.arange(_RADIUS + 1)
    sigmas = SIGMA_ROWS, SIGMA_ROWS / 2  # chroma has half the samples
    return np.array([tuple(np.exp(-0.5 * (distance / sigma) ** 2) for sigma in sigmas)], GAUSSIAN)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
