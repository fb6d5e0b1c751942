"""What a head found, still in device memory: what views are drawn from without anything crossing the bus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    import cupy

    from vrseg.frame import Frame
    from vrseg.gpu.surface import Surface
    from vrseg.gpu.tensor import DeviceTensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceSegmentation:
    """`vrseg.frame.Segmentation` on the device, as drawing needs it: the upper 8 bits of its numbers."""

    scores: DeviceTensor = field(repr=False)
    """(K, h, w) uint8, in the frame's own orientation, padding cut off: stretch to use."""
    class_ids: tuple[int, ...]
    threshold: int
    """0 to 255"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceDetections:
    """`vrseg.frame.Detections` on the device; how many there are, only the device knows."""

    boxes_xyxy: DeviceTensor = field(repr=False)
    """(max_boxes, 4) float32, pixels of the coded frame, best first."""
    scores: DeviceTensor = field(repr=False)
    """(max_boxes,) float32"""
    class_ids: DeviceTensor = field(repr=False)
    """(max_boxes,) int32"""
    count: DeviceTensor = field(repr=False)
    """(1,) int32: how many of the rows hold a box."""


DeviceResult: TypeAlias = DeviceSegmentation | DeviceDetections


class Paint(Protocol):
    """Draws what a head found, on the head's thread and stream, before anybody waits for either."""

    def open(self, stream: cupy.cuda.Stream) -> None:
        """Acquire what drawing needs, for work on this stream. May fail."""

    def enqueue(
        self, frames: Sequence[Frame], found: Sequence[DeviceResult], stream: cupy.cuda.Stream
    ) -> tuple[Surface | None, ...]:
        """Put the drawing of a batch on the stream; never wait.

        Returns:
            For each frame its new picture; None for those of streams that have no view.
        """

    def close(self) -> None:
        """Release everything. Always safe."""
