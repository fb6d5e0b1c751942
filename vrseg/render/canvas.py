"""A frame that is to be drawn on a CUDA device, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from vrseg.gpu.found import DeviceDetections, DeviceSegmentation
from vrseg.gpu.surface import Surface

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    import cupy

    from vrseg.config.schema import View
    from vrseg.gpu.found import DeviceResult
    from vrseg.gpu.memory import Lease
    from vrseg.models.spec import ResolvedClass

T = TypeVar("T")

BLOCK = (32, 4, 1)
"""Threads of those kernels that work on areas: a warp takes a piece of one row."""
# A daemon sees few sizes for each of its streams, but for months.
_MAX_KINDS = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PaintStyle:
    """How the frames of one stream are drawn. Compared by identity: what belongs to it is uploaded once."""

    view: View
    opacity: float
    """Of the colours in `overlay`, 0 to 1."""
    classes: tuple[ResolvedClass, ...]
    """In the order of class ids."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Canvas:
    """A frame, what was found of it, and memory for its new picture."""

    source: Surface
    rotation_deg: int
    found: DeviceResult = field(repr=False)
    style: PaintStyle
    target: Lease = field(repr=False)

    @property
    def labelled(self) -> bool:
        """Boxes with labels are drawn over the picture."""
        return self.style.view == "overlay" and isinstance(self.found, DeviceDetections)

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Classes in the order that kernels number them: planes of scores, or all that boxes may have."""
        if isinstance(self.found, DeviceSegmentation):
            return self.found.class_ids
        return tuple(range(len(self.style.classes)))

    @property
    def kind(self) -> Hashable:
        """All that decides how it is drawn, but for where its memory lies."""
        source, found = self.source, self.found
        look = (source.width, source.height, source.format, source.matrix, source.full_range, self.rotation_deg)
        if isinstance(found, DeviceSegmentation):
            return self.style, look, found.scores.shape, found.class_ids, found.threshold
        return self.style, look

    def leases(self) -> Iterable[Lease]:
        """All memory that drawing reads or writes."""
        yield self.source.lease
        yield self.target
        if isinstance(self.found, DeviceSegmentation):
            yield self.found.scores.lease
        else:
            for tensor in (self.found.boxes_xyxy, self.found.scores, self.found.class_ids, self.found.count):
                yield tensor.lease

    def finished(self, ready: cupy.cuda.Event) -> Surface:
        """Give the new picture, complete when `ready` is reached."""
        return Surface(
            lease=self.target,
            width=self.source.width,
            height=self.source.height,
            matrix=self.source.matrix,
            full_range=self.source.full_range,
            ready=ready,
        )


class Kinds(Generic[T]):
    """What was worked out for each kind of canvas, which takes longer than all else of drawing one."""

    def __init__(self) -> None:
        self._held: dict[Hashable, T] = {}

    def of(self, canvas: Canvas, make: Callable[[], T]) -> T:
        """Return what `make` gave for the first canvas of this kind."""
        kind = canvas.kind
        held = self._held.get(kind)
        if held is None:
            if len(self._held) >= _MAX_KINDS:
                self._held.clear()
            held = self._held[kind] = make()
        return held

    def clear(self) -> None:
        """Forget all: what it may point to is about to go."""
        self._held.clear()


def grid_over(sizes: Iterable[tuple[int, int]], frames: int) -> tuple[int, int, int]:
    """Give the blocks of BLOCK threads for areas up to the largest of `sizes`, (width, height), of some frames."""
    widths, heights = zip(*sizes, strict=True)
    return -(-max(widths) // BLOCK[0]), -(-max(heights) // BLOCK[1]), frames


def quads(canvas: Canvas) -> tuple[int, int]:
    """Give columns and rows of the squares of four pixels that one thread takes."""
    return canvas.source.width // 2, canvas.source.height // 2
