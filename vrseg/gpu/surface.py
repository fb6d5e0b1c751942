"""A picture in device memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import cupy

    from vrseg.gpu.memory import Lease

SurfaceFormat: TypeAlias = Literal["nv12", "p016"]
Matrix: TypeAlias = Literal["bt601", "bt709", "bt2020"]
ChromaSiting: TypeAlias = Literal["left", "center", "top-left"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surface:
    """A 4:2:0 picture: a plane of luma, and below it one of interleaved chroma. Shared: never written to once made.

    `Frame.picture` on a CUDA device. Its memory goes back to its pool when the last frame that holds it is gone.
    """

    lease: Lease = field(repr=False)
    width: int
    height: int
    """Pixels, as coded; both are even (NVDEC and NVENC know no odd pictures)."""
    format: SurfaceFormat = "nv12"
    """`p016` has 16 bits per sample, the value in the high ones."""
    matrix: Matrix
    full_range: bool
    siting: ChromaSiting = "left"
    """Where a chroma sample lies among its four of luma. `left`, half way down, is what H.264 and HEVC mean when they
    say nothing; FFmpeg takes VP9, JPEG and untagged AV1 for `center`."""
    ready: cupy.cuda.Event = field(repr=False)
    """Reached when the picture is complete."""

    def __post_init__(self) -> None:
        """Note the writing: should nobody read it, who has its memory next must still come after that."""
        self.lease.used_until(self.ready)

    @property
    def sample_bytes(self) -> int:
        return 1 if self.format == "nv12" else 2

    @property
    def pitch_bytes(self) -> int:
        """From row to row, of both planes: no padding."""
        return self.width * self.sample_bytes

    @property
    def luma_address(self) -> int:
        return self.lease.address

    @property
    def chroma_address(self) -> int:
        return self.lease.address + self.pitch_bytes * self.height

    @property
    def size_bytes(self) -> int:
        """Both planes."""
        return self.pitch_bytes * self.height * 3 // 2

    def wait_on(self, stream: cupy.cuda.Stream) -> None:
        """Put work on `stream` only after this picture is complete. Nobody waits."""
        if not self.ready.done:  # as a rule it is: to ask is cheap, to wait is one more order for the GPU
            stream.wait_event(self.ready)

    def read_on(self, stream: cupy.cuda.Stream) -> None:
        """Promise that `stream` has all its reading of this picture enqueued; see `Lease.used_on`."""
        self.lease.used_on(stream)

    def read_until(self, event: cupy.cuda.Event) -> None:
        """Like `read_on`, with an event that was recorded for several pictures at once."""
        self.lease.used_until(event)


def surface_bytes(width: int, height: int, surface_format: SurfaceFormat) -> int:
    """Bytes of a picture of this size."""
    return width * height * 3 // 2 * (1 if surface_format == "nv12" else 2)
