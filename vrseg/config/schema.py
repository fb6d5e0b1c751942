"""Every key of the configuration, its default and what it does. Frozen, closed to unknown keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from vrseg.config.quantity import Amount, Duration

Positive = Annotated[Duration, Field(gt=0)]
"""A duration that is not zero."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
LISTEN_PATTERN = r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$"
DEVICE_PATTERN = r"^(auto|cpu|cuda(:\d+)?)$"
COLOR_PATTERN = r"^#[0-9a-fA-F]{6}$"
ENCODER_PATTERN = r"^[A-Za-z0-9_]+$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Task = Literal["segment", "matte", "detect", "instances", "keypoints"]
View = Literal["overlay", "mask", "matte", "green", "blur", "none", "alpha-pack"]
Listen = Annotated[str, StringConstraints(pattern=LISTEN_PATTERN)]
DeviceName = Annotated[str, StringConstraints(pattern=DEVICE_PATTERN)]


class Section(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        coerce_numbers_to_str=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, data: Any) -> Any:
        """Keep `key: null` from counting as set where null is the default: it must not hide another's value."""
        if not isinstance(data, dict):
            return data
        optional = {name for name, field in cls.model_fields.items() if field.default is None}
        return {key: value for key, value in data.items() if value is not None or key not in optional}


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


class Reconnect(Section):
    """When and how often a lost stream is tried again."""

    initial: Positive = 0.5
    """Wait before the first new try."""
    max: Positive = 30.0
    """The wait doubles up to this."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Each wait is varied by up to this share, so that many cameras do not come back at once."""
    attempts: Annotated[int, Field(ge=0)] = 0
    """Give up after so many failed tries in a row; 0 never gives up."""


class SourceSection(Section):
    """Where the video comes from."""

    uri: str
    """A file, a folder of images, rtsp://, rtmp://, srt://, http(s)://, /dev/video0, or synthetic:WIDTHxHEIGHT@FPS."""
    transport: Literal["tcp", "udp"] = "tcp"
    """For RTSP."""
    open_timeout: Positive = 10.0
    """Give up connecting after this."""
    stall_timeout: Positive = 10.0
    """The stream is lost when no frame was decoded for this long."""
    realtime: bool = False
    """Read a file at its own speed, as if it were a camera; late frames are dropped."""
    loop: bool = False
    """Start a file again at its end."""
    reconnect: Reconnect = Reconnect()
    """When and how often the lost stream is tried again."""


class Queue(Section):
    """Decoded frames that wait for the model."""

    size: Annotated[int, Field(ge=1, le=256)] = 4
    """Frames."""
    policy: Literal["auto", "block", "drop_oldest", "drop_newest"] = "auto"
    """When full. `auto`: `drop_oldest` for live sources, `block` for files."""
    max_age: Duration = 0.5
    """Live frames older than this are dropped wherever they wait; 0 keeps them. Never applies with `block`."""


class Output(Section):
    """One encoded video output."""

    uri: str
    """A file (.mp4, .mkv, .mov, .ts), which may hold strftime fields, or rtsp://, rtmp://, srt://."""
    codec: Literal["h264", "hevc", "av1"] = "h264"
    """What it is compressed with."""
    encoder: Annotated[str, StringConstraints(pattern=ENCODER_PATTERN)] = "auto"
    """`auto`; `nvenc` (an NVIDIA GPU's own, or an error); or an FFmpeg encoder such as libx264."""
    bitrate: Amount | None = None
    """Bits per second; constant quality when left out."""
    quality: Annotated[int, Field(ge=0, le=63)] | None = None
    """CRF; the encoder's usual value when left out."""
    preset: str | None = None
    """The encoder's own preset name or number."""
    gop: Positive = 2.0
    """Time between key frames; a killed process loses at most this much of a recording."""
    latency: Literal["auto", "live", "normal"] = "auto"
    """`live` sends each frame at once; `auto` is `live` for live sources."""
    segment: Positive | None = None
    """Start a new file this often, at a key frame; the name needs strftime fields."""
    keep: Positive | None = None
    """Delete segments older than this."""


class ResultOutput(Section):
    """Where results go as data."""

    uri: str
    """A .jsonl file, or `-` for standard output."""
    masks: Literal["none", "rle"] = "none"
    """`rle` writes each class's mask as run lengths."""


class VrSection(Section):
    """How a stereo picture is laid out."""

    layout: Literal["mono", "sbs", "tb"] = "sbs"
    """Side by side or top and bottom."""
    projection: Literal["rectilinear", "half_equirect", "fisheye"] = "half_equirect"
    """How each eye's picture is mapped."""
    fov: Annotated[float, Field(gt=0, le=360)] = 180.0
    """Degrees."""


class Stream(Section):
    """One video: where it comes from, what looks at it, where it goes."""

    source: SourceSection
    """Where the video comes from."""
    queue: Queue = Queue()
    """Decoded frames that wait for the model."""
    model: Name | None = None
    """A name under `models`; without one, frames pass through unseen."""
    view: View = "overlay"
    """What the output shows."""
    opacity: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of the colours in `overlay`."""
    outputs: tuple[Output, ...] = ()
    """Encoded video."""
    results: tuple[ResultOutput, ...] = ()
    """Data."""
    vr: VrSection | None = None
    """Stereo layout; a flat picture when left out."""


class Server(Section):
    """The HTTP port: metrics, health, status."""

    listen: Listen = "127.0.0.1:9090"
    """Address and port; port 0 takes a free one."""
    token: str | None = None
    """Bearer token; needed when `listen` is not a loopback address."""


class Config(Section):
    """The whole file."""

    device: DeviceName = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:1`."""
    models: dict[Name, Model] = {}
    """The networks, each under a name of your choice."""
    streams: dict[Name, Stream] = {}
    """The videos, each under a name of your choice; it is the `stream` label of the metrics."""
    server: Server = Server()
    """The HTTP port: metrics, health, status."""
    drain_timeout: Duration = 5.0
    """After SIGTERM, time for frames on their way and for file trailers."""


def json_schema() -> dict[str, Any]:
    """Describe the configuration as JSON Schema (draft 2020-12), for editors and other programs."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(mode="serialization"),
        "title": "Configuration of vrseg",
    }
