"""The configuration's keys of a model, and of the description beside its file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from vrseg.config.quantity import Duration
from vrseg.config.section import Section

COLOR_PATTERN = r"^#[0-9a-fA-F]{6}$"

Task = Literal["segment", "matte", "detect", "instances", "keypoints"]


class InputDescription(Section):
    """What the network expects. Keys left out are read from the ONNX file or take the task's usual value."""

    width: Annotated[int, Field(ge=8, le=8192)] | None = None
    """Pixels; only needed when the ONNX file leaves it open."""
    height: Annotated[int, Field(ge=8, le=8192)] | None = None
    """Pixels; as `width`."""
    layout: Literal["nchw", "nhwc"] | None = None
    """Order of the dimensions; read from the ONNX file when it is clear."""
    color: Literal["rgb", "bgr"] = "rgb"
    """Order of the channels."""
    dtype: Literal["uint8", "float16", "float32"] | None = None
    """Read from the ONNX file."""
    scale: float = 1 / 255
    """Pixels 0 to 255 are multiplied by this, then `mean` is subtracted and the rest divided by `std`."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """In the order of `color`."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """In the order of `color`."""
    fit: Literal["stretch", "letterbox"] = "stretch"
    """How a frame of another shape is brought to the input's size."""
    anchor: Literal["center", "top-left"] = "center"
    """Where the picture lies in a letterbox."""
    pad: Annotated[int, Field(ge=0, le=255)] = 0
    """Grey value around the picture in a letterbox, before normalisation."""


class OutputDescription(Section):
    """How to read what the network says."""

    decode: Literal["probability", "logits", "softmax", "yolox", "yolov5", "yolov8", "end2end"] | None = None
    """`probability`: 0 to 1; `logits`: before sigmoid or softmax; `softmax`: probabilities over channels; the YOLO
    families; `end2end`: boxes, scores and classes after NMS."""
    names: tuple[str, ...] | None = None
    """Outputs to use, in the order of the decoding; all when left out."""


class ClassDescription(Section):
    """One class of a model."""

    name: str
    """Shown on boxes and written to results."""
    color: Annotated[str, StringConstraints(pattern=COLOR_PATTERN)] | None = None
    """`#rrggbb`; a palette's colour when left out."""
    background: bool = False
    """True for the class that is nothing: it is never coloured."""


class Thresholds(Section):
    """What counts as seen."""

    mask: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Foreground where the probability exceeds this (models with one class)."""
    score: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Boxes below are dropped."""
    iou: Annotated[float, Field(gt=0, le=1)] = 0.45
    """Boxes of one class that overlap more are one object."""
    max_boxes: Annotated[int, Field(ge=1, le=10000)] = 300
    """Best boxes kept per frame."""


class ModelDescription(Section):
    """What a model is. Lives in a YAML file beside the ONNX file, or in the configuration, which wins."""

    task: Task | None = None
    """What it does."""
    input: InputDescription = InputDescription()
    """The picture as the network wants it."""
    output: OutputDescription = OutputDescription()
    """How to read what the network says."""
    classes: tuple[ClassDescription | str, ...] = ()
    """In the order of the network's channels or class numbers."""
    thresholds: Thresholds = Thresholds()
    """What counts as seen."""
    licence: str | None = None
    """SPDX identifier of the weights' licence."""
    title: str | None = None
    """What people call it."""
    origin: str | None = None
    """Where it came from."""


class Batching(Section):
    """How frames of all streams are gathered for one inference call."""

    max_size: Annotated[int, Field(ge=1, le=256)] = 8
    """Frames per call at most; 1 where the model's batch is fixed at 1."""
    max_delay: Duration = 0.005
    """A partial batch goes when its oldest frame has waited this long."""


class Model(ModelDescription):
    """A network that streams can use."""

    path: str
    """An ONNX file, relative to the configuration; `demo` is the embedded demo model."""
    description: str | None = None
    """A description file, relative to the configuration; the `.yaml` beside the ONNX file when left out."""
    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    """What it computes in. The CPU computes fp32, or bf16 with OpenVINO where an accuracy gate passes."""
    engine: Literal["auto", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"] = "auto"
    """`auto` takes ONNX Runtime on the CPU; on a GPU TensorRT where it is installed and its engine built, ONNX Runtime
    until then. OpenVINO is for CPUs, TensorRT for GPUs."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads of one inference call on the CPU; 0 chooses for the machine."""
    batch: Batching = Batching()
    """How frames of all streams are gathered for one inference call."""
