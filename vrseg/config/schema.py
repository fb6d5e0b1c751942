"""Every key of the configuration, its default and what it does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from vrseg.config.quantity import Duration
from vrseg.config.schema_model import Batching, ClassDescription, Model, ModelDescription
from vrseg.config.schema_output import Line, Output, ResultOutput, Zone
from vrseg.config.section import Name, Place, Positive, Section

__all__ = [
    "Batching",
    "ClassDescription",
    "Config",
    "Line",
    "Model",
    "ModelDescription",
    "Output",
    "Queue",
    "Reconnect",
    "ResultOutput",
    "Section",
    "Server",
    "SourceSection",
    "Stream",
    "View",
    "Zone",
    "json_schema",
]

LISTEN_PATTERN = r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$"
DEVICE_PATTERN = r"^(auto|cpu|cuda(:\d+)?)$"

View = Literal["overlay", "mask", "matte", "green", "blur", "none", "alpha-pack"]
Listen = Annotated[str, StringConstraints(pattern=LISTEN_PATTERN)]
DeviceName = Annotated[str, StringConstraints(pattern=DEVICE_PATTERN)]


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

    uri: Place
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
    """Frames. On a GPU, with `auto`, a file's queue holds a batch at least."""
    policy: Literal["auto", "block", "drop_oldest", "drop_newest"] = "auto"
    """When full. `auto`: `drop_oldest` for live sources, `block` for files."""
    max_age: Duration = 0.5
    """Live frames older than this are dropped wherever they wait; 0 keeps them. Never applies with `block`."""


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
    track: bool = False
    """Give boxes identities across frames; zones and lines do so anyway."""
    zones: dict[Name, Zone] = {}
    """Parts of the picture that objects enter and leave."""
    lines: dict[Name, Line] = {}
    """Lines that objects cross."""
    vr: VrSection | None = None
    """Stereo layout; a flat picture when left out."""


class Server(Section):
    """The HTTP port: metrics, health, status."""

    listen: Listen = "127.0.0.1:9090"
    """Address and port; port 0 takes a free one."""
    token: str | None = None
    """Bearer token; needed when `listen` is not a loopback address."""
    certificate: str | None = None
    """A PEM file, relative to the configuration: the port speaks TLS."""
    key: str | None = None
    """The certificate's key, a PEM file; where it is not in the same file."""
    allow: tuple[str, ...] = ()
    """Addresses that streams which are added over HTTP may name; `*` stands for anything. Without one, none."""


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
    watch: bool = False
    """Reload when the file changes; SIGHUP and the HTTP port do it at any time."""
    drain_timeout: Duration = 5.0
    """After SIGTERM, time for frames on their way and for file trailers."""


def json_schema() -> dict[str, Any]:
    """Describe the configuration as JSON Schema (draft 2020-12), for editors and other programs."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(mode="serialization"),
        "title": "Configuration of vrseg",
    }
