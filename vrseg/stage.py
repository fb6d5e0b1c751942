"""The one protocol for blocking work, and the path of a frame as a list of types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never, Protocol, TypeAlias, TypeVar

from vrseg.frame import Batch, EncodedPacket, Frame, Inference, Packet, SourceInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


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


class DeviceTimed(Protocol):
    """A stage that only asks a device to work. Its own time says nothing; the device's does."""

    device_s: float
    """Seconds that the device worked for this stage on the batch that it finished last."""


Preprocess: TypeAlias = Stage[tuple[Frame, ...], Batch]  # resize, colour, normalise
Infer: TypeAlias = Stage[Batch, Inference]
Postprocess: TypeAlias = Stage[Inference, Frame]  # n frames per batch, each with its result
Render: TypeAlias = Stage[Frame, Frame]
Encode: TypeAlias = Stage[Frame, EncodedPacket]
VideoSink: TypeAlias = Stage[EncodedPacket, Never]  # flush commits the file; close without flush aborts
ResultSink: TypeAlias = Stage[Frame, Never]
