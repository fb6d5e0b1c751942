"""What a head found, still in device memory: what views are drawn from without anything crossing the bus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from vrseg.gpu.tensor import DeviceTensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceSegmentation:
    """`vrseg.frame.Segmentation` on the device: same meaning, same numbers."""

    scores: DeviceTensor = field(repr=False)
    """(K, h, w) uint8: probability x 255, in the frame's own orientation, padding cut off: stretch to use."""
    class_ids: tuple[int, ...]
    threshold: int


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
