"""What the painting kernels are told of each frame: the structures of painting.cuh and label.cu, filled in."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from math import prod
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.gpu.found import DeviceDetections, DeviceSegmentation
from vrseg.gpu.picture import PICTURE, picture_fields
from vrseg.render.blend import FULL
from vrseg.render.colours import BLACK, CHROMA_GREEN
from vrseg.render.frosted import SIGMA_ROWS, small_size
from vrseg.render.label import line_px
from vrseg.render.palette import COLOUR, surface_yuv

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from vrseg.config.schema import View
    from vrseg.render.canvas import Canvas
    from vrseg.render.lettering import Lettering

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
        *((name, np.uint64) for name in ("luma", "chroma", "scores", "layer", "ranks")),
        *((name, np.uint64) for name in ("boxes", "box_classes", "box_count", "small", "blurred")),
        ("source", PICTURE),
        ("palette", np.uint64),
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
        *((name, np.uint64) for name in ("luma", "chroma", "boxes", "scores", "box_classes", "count")),
        ("source", PICTURE),
        *((name, np.uint64) for name in ("palette", "strips", "ink")),
        *((name, np.int32) for name in ("classes", "rotation_deg", "line", "ink_rows", "max_columns")),
    ],
    align=True,
)
LABELLINGS = np.dtype([("frames", LABELLING, MAX_FRAMES)], align=True)

GAUSSIAN = np.dtype([("luma", np.float32, _RADIUS + 1), ("chroma", np.float32, _RADIUS + 1)], align=True)


# What differs between frames of one kind (see `Canvas.kind`) comes first in both: up to the two addresses of `source`.
_PAINTING_ADDRESSES = Struct("=12Q")
_LABELLING_ADDRESSES = Struct("=8Q")
_STAMP = Struct("=QI4x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """Where, in memory lent for one batch, the launches of one frame hand over to each other. Offsets in bytes."""

    ranks: int = 0
    layer: int
    small: int
    blurred: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What the painting of all frames of one kind has in common."""

    scratch: Scratch
    places: int
    """Of one plane of scores, where there are several; else 0."""
    small: tuple[int, int]
    """Columns and rows of the picture that is blurred; 0 in other views."""
    geometry: bytes = field(repr=False)
    """PAINTING behind its addresses."""


def sketch_of(canvas: Canvas, palette: int) -> Sketch:
    """Work out what does not depend on where the memory of a frame lies; `palette` is where its colours are."""
    style, found, surface = canvas.style, canvas.found, canvas.source
    view, classes = style.view, len(canvas.class_ids)
    rows = columns = places = 0
    threshold = _MIDDLE
    if isinstance(found, DeviceSegmentation):
        _, rows, columns = found.scores.shape
        places, threshold = (rows * columns, _MIDDLE) if classes > 1 else (0, found.threshold)
    width, height = surface.width, surface.height
    small_width, small_height = small_size(width, height)
    backdrop = surface_yuv(CHROMA_GREEN if view == "green" else BLACK, surface.matrix, full_range=surface.full_range)
    fields = (
        *(0,) * 10,
        picture_fields(surface),
        palette,
        *(VIEWS.index(view), classes, rows, columns),
        *decision(threshold, round(style.opacity * FULL) if view == "overlay" else FULL),
        *(small_width, small_height),
        *(columns / width, rows / height, small_width / width, small_height / height),
        surface.full_range,
        (backdrop, 0, (0, 0, 0), 0),
    )
    small = (small_width, small_height) if view == "blur" else (0, 0)
    return Sketch(
        scratch=scratch_of(view, places, prod(small)),
        places=places,
        small=small,
        geometry=np.array(fields, PAINTING).tobytes()[_PAINTING_ADDRESSES.size :],
    )


def scratch_of(view: View, places: int, small: int) -> Scratch:
    """Lay out what a frame needs; what it does not need has no size. For `places` and `small` (pixels) see `Sketch`."""
    in_colours = view in {"overlay", "mask"}
    layer = _aligned(4 * places if in_colours else 0)
    shrunken = layer + _aligned(0 if in_colours else places)
    blurred = shrunken + _aligned(5 * small // 2)
    return Scratch(layer=layer, small=shrunken, blurred=blurred, end=blurred + _aligned(3 * small // 2))


def paintings(
    canvases: Sequence[Canvas], sketches: Sequence[Sketch], scratch_address: int, *, present: int, stamp: int
) -> npt.NDArray[Any]:
    """Describe up to MAX_FRAMES frames to the painting kernels.

    Args:
        canvases: the frames.
        sketches: of their kinds.
        scratch_address: device pointer of memory where the scratch of one frame follows that of the other.
        present: device pointer of the table of classes that lead somewhere.
        stamp: of this launch.

    Returns:
        (1,) PAINTINGS, read-only: new for each batch, so nobody writes what a launch may still read.
    """
    frames, address = [], scratch_address
    for canvas, sketch in zip(canvases, sketches, strict=True):
        frames.append(_painting_addresses(canvas, sketch, address) + sketch.geometry)
        address += sketch.scratch.end
    held = b"".join(frames).ljust(MAX_FRAMES * PAINTING.itemsize, b"\0")
    return np.frombuffer(held + _STAMP.pack(present, stamp), PAINTINGS)


def _painting_addresses(canvas: Canvas, sketch: Sketch, scratch_address: int) -> bytes:
    source, target, found, scratch = canvas.source, canvas.target.address, canvas.found, sketch.scratch
    scores = layer = boxes = box_classes = box_count = 0
    if isinstance(found, DeviceSegmentation):
        scores = found.scores.address
        layer = scratch_address + scratch.layer if sketch.places else scores
    else:
        boxes, box_classes, box_count = found.boxes_xyxy.address, found.class_ids.address, found.count.address
    return _PAINTING_ADDRESSES.pack(
        *(target, target + source.width * source.height),
        *(scores, layer, scratch_address + scratch.ranks),
        *(boxes, box_classes, box_count),
        *(scratch_address + scratch.small, scratch_address + scratch.blurred),
        *(source.luma_address, source.chroma_address),
    )


def label_geometry(canvas: Canvas, lettering: Lettering, *, palette: int, strips: int, ink: int) -> bytes:
    """Make a LABELLING behind its addresses.

    Args:
        canvas: any frame of the kind.
        lettering: its text.
        palette: device pointer of its colours; see `vrseg.render.palette`.
        strips: device pointer of those of `lettering`.
        ink: as `strips`.
    """
    surface = canvas.source
    fields = (
        *(0,) * 6,
        picture_fields(surface),
        *(palette, strips, ink),
        *(lettering.classes, canvas.rotation_deg, line_px(surface.width, surface.height)),
        *(lettering.rows, lettering.max_columns),
    )
    return np.array(fields, LABELLING).tobytes()[_LABELLING_ADDRESSES.size :]


def labellings(canvases: Sequence[Canvas], geometries: Sequence[bytes]) -> npt.NDArray[Any]:
    """Describe up to MAX_FRAMES frames with boxes: (1,) LABELLINGS, read-only as `paintings`."""
    frames = [_labelling_addresses(one) + geometry for one, geometry in zip(canvases, geometries, strict=True)]
    return np.frombuffer(b"".join(frames).ljust(LABELLINGS.itemsize, b"\0"), LABELLINGS)


def _labelling_addresses(canvas: Canvas) -> bytes:
    source, target, found = canvas.source, canvas.target.address, canvas.found
    assert isinstance(found, DeviceDetections)  # noqa: S101 -- `Canvas.labelled`
    return _LABELLING_ADDRESSES.pack(
        *(target, target + source.width * source.height),
        *(found.boxes_xyxy.address, found.scores.address, found.class_ids.address, found.count.address),
        *(source.luma_address, source.chroma_address),
    )


def decision(threshold: int, peak: int) -> tuple[int, int]:
    """Give the score below which nothing shows, and how many scores lie from there to the full weight `peak`."""
    rise = peak // 2
    return min(max(threshold - rise // 2, 0), 255 - rise), rise


@cache
def gaussian() -> npt.NDArray[Any]:
    """Make the weights of the blur: (1,) GAUSSIAN, read-only."""
    distance = np.arange(_RADIUS + 1)
    sigmas = SIGMA_ROWS, SIGMA_ROWS / 2  # chroma has half the samples
    weights = np.array([tuple(np.exp(-0.5 * (distance / sigma) ** 2) for sigma in sigmas)], GAUSSIAN)
    weights.flags.writeable = False
    return weights


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
