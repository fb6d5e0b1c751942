"""One NVIDIA GPU: is it there, what is it, and how a thread begins to work on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vrseg.errors import DeviceError
from vrseg.gpu.clock import Clock
from vrseg.gpu.counts import Counts
from vrseg.gpu.guard import failing_as_device, first_line
from vrseg.gpu.surface_pool import PictureMemory

if TYPE_CHECKING:
    import cupy

OLDEST_COMPUTE_CAPABILITY = (7, 5)
"""Turing: what CUDA 13 still compiles for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A device that answered when it was asked. Every CUDA stage is given it."""

    index: int
    """As CUDA numbers them, after CUDA_VISIBLE_DEVICES."""
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    counts: Counts = field(default_factory=Counts, compare=False, repr=False)
    clock: Clock = field(default_factory=Clock, compare=False, repr=False)
    pictures: PictureMemory = field(default_factory=PictureMemory, compare=False, repr=False)

    def use(self) -> None:
        """Make it the current device of the calling thread. The first thing that a stage does in `open`."""
        import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

        cupy.cuda.Device(self.index).use()

    def new_stream(self) -> cupy.cuda.Stream:
        """Make a stream that no other work orders itself against; call `use` on this thread before."""
        import cupy  # noqa: PLC0415 -- as above

        return cupy.cuda.Stream(non_blocking=True)


def open_gpu(index: int = 0) -> Gpu:
    """Ask the driver for a device, and for a little work.

    Raises:
        DeviceError: CuPy, the driver or the device is missing or does not work.
    """
    try:
        import cuda.bindings.driver  # noqa: F401, PLC0415 -- memory needs it, and it had better be missed here
        import cupy  # noqa: PLC0415 -- as above
    except ImportError as error:
        raise DeviceError(f"device cuda: {first_line(error)}; install the extra: pip install 'vrseg[cuda]'") from error
    with failing_as_device(f"cuda:{index}"):
        count = cupy.cuda.runtime.getDeviceCount()
        if index >= count:
            raise DeviceError(f"device cuda:{index}: this machine shows {count} GPUs; choose one below {count}")
        with cupy.cuda.Device(index):
            properties = cupy.cuda.runtime.getDeviceProperties(index)
            cupy.cuda.Stream(non_blocking=True).synchronize()
    gpu = Gpu(
        index=index,
        name=properties["name"].decode(),
        compute_capability=(properties["major"], properties["minor"]),
        memory_bytes=properties["totalGlobalMem"],
    )
    if gpu.compute_capability < OLDEST_COMPUTE_CAPABILITY:
        raise DeviceError(f"device cuda:{index}: {gpu.name} is too old, CUDA 13 wants compute capability 7.5 or more")
    return gpu
