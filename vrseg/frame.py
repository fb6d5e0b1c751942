"""The data that travels: packets, frames, batches and results. All of it is frozen; `repr` never prints pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from fractions import Fraction

    import av
    import numpy as np
    import numpy.typing as npt

    U8: TypeAlias = npt.NDArray[np.uint8]
    U16: TypeAlias = npt.NDArray[np.uint16]
    F32: TypeAlias = npt.NDArray[np.float32]
    I64: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What a source said about its video when it was opened. Zero or None where it did not say."""

    codec: str
    """FFmpeg's codec name: `h264`, `hevc`, `rawvideo`."""
    width: int
    height: int
    """Coded size in pixels, before rotation."""
    frame_rate: Fraction | None
    frame_count: int | None
    duration_s: float | None
    rotation_deg: int = 0
    """Clockwise turn that shows the picture upright: 0, 90, 180 or 270."""
    time_base: Fraction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A compressed unit of one video stream; or, from sources that make pictures, the picture itself."""

    payload: av.Packet[Any] | av.VideoFrame = field(repr=False)
    arrived_s: float
    """Monotonic time at which the demuxer handed it over."""
    truth: object = field(default=None, repr=False)
    """What a synthetic source knows of the picture (exact mask, boxes, joints); None from all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """Class scores of one frame at the model's resolution. They cover exactly the whole frame: stretch to use."""

    scores: U16 = field(repr=False)
    """(K, h, w): probability x 65535 of each class in `class_ids`, in the frame's own orientation, padding cut off."""
    class_ids: tuple[int, ...]
    """Classes that have scores. One class: foreground where the score exceeds `threshold`. Several (background
    among them, if the model has one): the highest score wins."""
    threshold: int = 32767
    """0 to 65535; used when there is one class only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """Boxes of one frame, best score first."""

    boxes_xyxy: F32 = field(repr=False)
    """(N, 4): x0, y0, x1, y1 in pixels of the coded frame, clipped to it."""
    scores: F32 = field(repr=False)
    """(N,): 0 to 1."""
    class_ids: I64 = field(repr=False)
    """(N,)"""
    track_ids: I64 | None = field(default=None, repr=False)
    """(N,): who each box is, over the frames of its stream, from 1; 0 where that is not known yet. None: untracked."""

    def __len__(self) -> int:
        return len(self.scores)


Result: TypeAlias = Segmentation | Detections


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture of one stream, on its way through the pipeline."""

    stream: str
    index: int
    """Counts decoded frames of the stream from 0, over reconnects."""
    pts: int
    """Presentation time in `time_base` units, as the container gave it."""
    time_base: Fraction
    duration: int = 0
    """In `time_base` units; 0 when unknown."""
    picture: Any = field(repr=False)
    """CPU: `av.VideoFrame` in the decoder's own pixel format. Shared with the decoder: never written to."""
    width: int
    height: int
    """Coded size in pixels."""
    rotation_deg: int = 0
    """Clockwise turn that shows the picture upright: 0, 90, 180 or 270."""
    decoded_s: float
    """Monotonic time at which the decoder handed it over; a frame's age counts from here."""
    result: Result | None = field(default=None, repr=False)
    truth: object = field(default=None, repr=False)
    """See `Packet.truth`."""

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a frame lies inside the model's input. Sizes and offsets in input pixels, after rotation to upright."""

    left: int
    top: int
    width: int
    height: int
    frame_width: int
    frame_height: int
    """Coded size of the frame, before rotation."""
    rotation_deg: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Frames ready for one inference call."""

    frames: tuple[Frame, ...]
    placements: tuple[Placement, ...]
    """One for each frame."""
    tensor: Any = field(repr=False)
    """(N, ...) in the model's layout and dtype, N = number of frames. Valid until the next-but-two batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What the model said about a batch."""

    frames: tuple[Frame, ...]
    placements: tuple[Placement, ...]
    outputs: dict[str, Any] = field(repr=False)
    """By the model's output names; first dimension is the frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedFormat:
    """What a muxer must know before the first packet."""

    codec: str
    """`h264`, `hevc` or `av1`."""
    width: int
    height: int
    time_base: Fraction
    frame_rate: Fraction
    rotation_deg: int = 0
    extradata: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPacket:
    """A compressed unit on its way to the sinks. Each sink muxes a copy of its own."""

    format: EncodedFormat
    data: bytes = field(repr=False)
    pts: int
    dts: int
    """In `format.time_base` units."""
    duration: int
    key: bool
