"""The one protocol for blocking work, and the path of a frame as a list of types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Never, Protocol, TypeAlias, TypeVar, runtime_checkable

from vrseg.frame import Batch, EncodedPacket, Frame, Inference, Packet, SourceInfo

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Sequence

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)
Out = TypeVar("Out")


class Stage(Protocol[In_contra, Out_co]):
    """Blocking work on one thread: one item in, zero or more out, then a tail.

    The constructor only stores arguments. All four methods are called on the same thread.
    """

    def open(self) -> None:
        """Acquire what the work needs. May fail."""

    def process(self, item: In_contra, /) -> Iterable[Out_co]:
        """Work on one item. Must return in bounded time: a cancelled caller waits for it."""

    def flush(self) -> Iterable[Out_co]:
        """Hand out what is left after the last item. Called once, only when all went well."""

    def close(self) -> None:
        """Release everything. Always safe: twice, and after a failed `open`."""


class Together(Protocol[In_contra, Out]):
    """What a stage has beside `process` that does several items for less than one after the other."""

    @property
    def takes_together(self) -> bool:
        """It would do so now."""

    def process_together(self, items: Sequence[In_contra], outputs: list[Out], /) -> None:
        """Work on all items, adding to `outputs` what `process` would give.

        Should one fail, what came of those before it is there, unless it was the device that failed.
        """


class Source(Protocol):
    """Where packets come from. Same life cycle as a stage, without an input."""

    live: bool
    """True when the source cannot wait: late frames are dropped, and its end is a loss."""

    def open(self) -> SourceInfo:
        """Connect. Raises TransientError (try again) or MediaError (unusable)."""

    def read(self) -> list[Packet]:
        """Return the next packets, or an empty list at the end. Blocks no longer than the source's stall timeout."""

    def close(self) -> None:
        """Release everything. Always safe."""


class Decode(Stage[Packet, Frame], Protocol):
    """Packets to frames, 0 to n for each. Damage is counted and survived."""

    @property
    def errors(self) -> int:
        """Units that could not be decoded so far."""


OutputStateName: TypeAlias = Literal["starting", "up", "reconnecting", "paused"]
OUTPUT_STATES: tuple[OutputStateName, ...] = ("starting", "up", "reconnecting", "paused")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputState:
    """How an output is doing."""

    state: OutputStateName = "starting"
    reason: str = ""
    """Why it is not up, in one word: `lost`, `disk`, `unwritable`; empty when it is."""
    detail: str = ""
    """For a person, in one line, without credentials."""
    since_s: float
    """Unix time."""


@runtime_checkable
class LastingOutput(Protocol):
    """What a video sink has, beside being a stage, that mends itself: receivers go away and disks fill up."""

    name: str
    """Which of the stream's configured outputs: its number, from 0."""
    kind: str
    """`rtsp`, `rtmp`, `srt`, `hls` or `file`."""
    state: OutputState
    """Replaced as a whole by the sink's thread; may be read from any."""
    dropped: Counter[str]
    """Packets that it did not take, by reason."""

    def take_key_wish(self) -> bool:
        """Tell, once for each wish, whether it waits for a key frame and none need be expected soon."""

    def keep_house(self) -> None:
        """Do what is due whether packets come or not; called now and then, on the sink's thread. Never raises."""


class KeyFrameOnDemand(Protocol):
    """What an encoder has that can be asked for a key frame."""

    def request_key_frame(self) -> None:
        """Make the next frame a key frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A moment at which a live source should have given a frame, and did not."""

    last: Frame
    """The last that it gave, as it was shown; without a result."""
    pts: int
    """Presentation time of the picture that stands in, in `last.time_base` units."""
    duration: int
    text: str
    """What to write on the picture."""


class DeviceTimed(Protocol):
    """A stage that asks a device to work. Its own time says nothing; the device's does."""

    device_s: float
    """Seconds that the device worked for this stage on the batch that it finished last."""


def asks_device(stage: object) -> bool:
    """Tell whether a stage is `DeviceTimed`; it may be wrapped in another."""
    return hasattr(stage, "device_s")


Preprocess: TypeAlias = Stage[tuple[Frame, ...], Batch]  # resize, colour, normalise
Infer: TypeAlias = Stage[Batch, Inference]
Postprocess: TypeAlias = Stage[Inference, Frame]  # n frames per batch, each with its result
Render: TypeAlias = Stage[Frame, Frame]
StandIn: TypeAlias = Stage[Absence, Frame]  # a picture for those who would see none
Encode: TypeAlias = Stage[Frame, EncodedPacket]
VideoSink: TypeAlias = Stage[EncodedPacket, Never]  # flush commits the file; close without flush aborts
ResultSink: TypeAlias = Stage[Frame, Never]
