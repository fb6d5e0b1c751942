"""A piece of device or pinned memory, from the driver and back to it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from vrseg.gpu.guard import failing_as_device

if TYPE_CHECKING:
    import cupy

    from vrseg.gpu.device import Gpu

Kind: TypeAlias = Literal["device", "pinned"]


class Block:
    """One piece of memory, and who may still be at work on it."""

    def __init__(self, memory: Any, driver: Any) -> None:
        """Hold `cupy.cuda.Memory` or `cupy.cuda.PinnedMemory`, which was made just now on this thread."""
        self.address: int = memory.ptr
        self.uses: list[cupy.cuda.Event] = []
        self._memory = memory  # frees itself when it is dropped
        self._driver = driver
        self._context: int = driver.ctxGetCurrent()

    def free(self) -> None:
        """Wait for them, then let go.

        In any thread, for that is where the last reference is dropped: it may be at work on another GPU, or on none, or
        have had a CUDA context of its own that is gone.
        """
        before: int = self._driver.ctxGetCurrent()
        if before != self._context:
            self._driver.ctxSetCurrent(self._context)
        try:
            while self.uses:
                self.uses.pop().synchronize()  # and is dropped, which needs the context too
            self._memory = None
        finally:
            if before != self._context:
                with suppress(self._driver.CUDADriverError):  # that which is gone
                    self._driver.ctxSetCurrent(before)


def allocate(gpu: Gpu, kind: Kind, size_bytes: int, name: str) -> Block:
    """Take memory of a GPU that is current on this thread; `name` says what for.

    Raises:
        DeviceMemoryError: there is not so much.
    """
    import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

    with failing_as_device(f"cuda:{gpu.index}: no {size_bytes / 1e6:.1f} MB of {kind} memory for {name}"):
        # Straight from the driver: CuPy's own pools would keep what these pools have freed.
        memory = cupy.cuda.Memory(size_bytes) if kind == "device" else cupy.cuda.PinnedMemory(size_bytes)
        return Block(memory, cupy.cuda.driver)
