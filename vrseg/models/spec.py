"""A model, fully resolved: what a stage must know to feed it and to read its answer. Nothing here is optional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

Layout: TypeAlias = Literal["nchw", "nhwc"]
Color: TypeAlias = Literal["rgb", "bgr"]
DType: TypeAlias = Literal["uint8", "float16", "float32"]
SupportedTask: TypeAlias = Literal["segment", "detect"]
Decode: TypeAlias = Literal["probability", "logits", "softmax", "yolox", "yolov5", "yolov8", "end2end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """The one tensor that a model takes."""

    name: str
    width: int
    height: int
    """Pixels."""
    layout: Layout
    color: Color
    dtype: DType
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """The tensor holds (pixel * scale - mean) / std, with pixels from 0 to 255 and channels in the order of `color`."""
    fit: Literal["stretch", "letterbox"]
    anchor: Literal["center", "top-left"]
    """Where the picture lies in a letterbox."""
    pad: int
    """Grey value around the picture in a letterbox, 0 to 255."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one frame's tensor, without the batch."""
        if self.layout == "nchw":
            return (3, self.height, self.width)
        return (self.height, self.width, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedClass:
    """One class of a model."""

    name: str
    color_rgb: tuple[int, int, int]
    """0 to 255 each."""
    background: bool = False
    """The class that is nothing: never coloured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdSpec:
    """What counts as seen."""

    mask: float
    """Foreground where the probability exceeds this (models with one class)."""
    score: float
    """Boxes below are dropped."""
    iou: float
    """Boxes of one class that overlap more are one object."""
    max_boxes: int
    """Best boxes kept per frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A network, and how to use it."""

    name: str
    """Its key under `models`."""
    path: Path
    """The ONNX file."""
    task: SupportedTask
    input: InputSpec
    batch: int | None
    """Frames that one call takes, when the graph fixes the number; None when any number will do."""
    outputs: tuple[str, ...]
    """In the order of the decoding."""
    decode: Decode
    channels_last: bool
    """Segmentation scores are (N, h, w, C) rather than (N, C, h, w) or (N, h, w)."""
    classes: tuple[ResolvedClass, ...]
    """In the order of channels or class numbers."""
    thresholds: ThresholdSpec
    licence: str | None
    """SPDX identifier, or what the author wrote; None when nobody said."""
    title: str
    """What people call it."""

    @property
    def background_ids(self) -> frozenset[int]:
        """Classes that are nothing."""
        return frozenset(index for index, one in enumerate(self.classes) if one.background)
