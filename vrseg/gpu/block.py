"""A piece of device or pinned memory, from the driver and back to it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from vrseg.errors import DeviceError
from vrseg.gpu.guard import failing_as_device

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        self._context = _answer(driver.cuCtxGetCurrent())

    def free(self) -> None:
        """Wait for them, then let go.

        In any thread, for that is where the last reference is dropped: it may be at work on another GPU, or on none, or
        have had a CUDA context of its own that is gone.

        Raises:
            DeviceError: the context of this memory is gone.
        """
        with _on_top(self._driver, self._context):
            while self.uses:
                self.uses.pop().synchronize()  # and is dropped, which needs the context too
            self._memory = None


def allocate(gpu: Gpu, kind: Kind, size_bytes: int, name: str) -> Block:
    """Take memory of a GPU that is current on this thread; `name` says what for.

    Raises:
        DeviceMemoryError: there is not so much.
    """
    import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen
    from cuda.bindings import driver  # noqa: PLC0415 -- as above

    with failing_as_device(f"cuda:{gpu.index}: no {size_bytes / 1e6:.1f} MB of {kind} memory for {name}"):
        # Straight from the driver: CuPy's own pools would keep what these pools have freed.
        memory = cupy.cuda.Memory(size_bytes) if kind == "device" else cupy.cuda.PinnedMemory(size_bytes)
        return Block(memory, driver)


@contextmanager
def _on_top(driver: Any, context: Any) -> Iterator[None]:
    """Put a context on top of those of this thread, and take it off again.

    It is not set instead of another and that one set again: what the driver does with the handle of a context that is
    gone is undefined (CUDA Driver API, cuCtxDestroy).
    """
    _answer(driver.cuCtxPushCurrent(context))
    try:
        yield
    finally:
        _answer(driver.cuCtxPopCurrent())


def _answer(answer: tuple[Any, ...]) -> Any:
    """Return what a function of the driver gave, beside its status."""
    status, *given = answer
    if status:
        raise DeviceError(f"the CUDA driver gives no context: {status.name}")
    return given[0] if given else None
