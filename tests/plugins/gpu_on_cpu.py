"""Stages of the GPU path where there is no GPU: a CuPy that works on the CPU, with kernels that run there.

Work is done when it is enqueued. So arithmetic, addresses, sizes and what is counted are tested; order on the GPU is
not. What is used of CuPy beyond this is missing, and fails.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from enum import IntEnum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cuda.bindings
import numpy as np
import pytest
from plugins.cuda_on_cpu import launch_on_cpu

import vrseg.gpu.kernels
from vrseg.gpu.device import Gpu, open_gpu
from vrseg.gpu.kernels import source_of
from vrseg.gpu.memory import Pool
from vrseg.gpu.tensor import DeviceTensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_ALIGNMENT = 256  # as the driver gives it
_RUBBISH = 0xAB  # memory is not clean when it comes
_MEMORY_BYTES = 1 << 30
CONTEXT = 0xC0
"""The address of what there is only one of."""


class CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`."""


class Memory:
    """`cupy.cuda.Memory` and `cupy.cuda.PinnedMemory`."""

    def __init__(self, size: int) -> None:
        if size > _MEMORY_BYTES:
            raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
        self._held = np.full(size + _ALIGNMENT, _RUBBISH, np.uint8)
        self.ptr: int = -(-self._held.ctypes.data // _ALIGNMENT) * _ALIGNMENT


class Result(IntEnum):
    """`cuda.bindings.driver.CUresult`."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_CONTEXT_IS_DESTROYED = 709


class Contexts:
    """`cuda.bindings.driver`: every thread has a stack of contexts, and works in the topmost."""

    def __init__(self) -> None:
        self.alive = {CONTEXT}
        self._of_thread = threading.local()

    @property
    def stack(self) -> list[int]:
        stack: list[int] = self._of_thread.__dict__.setdefault("stack", [CONTEXT])
        return stack

    def cuCtxGetCurrent(self) -> tuple[Result, int]:  # noqa: N802 -- its name there
        return Result.CUDA_SUCCESS, self.stack[-1]

    def cuCtxPushCurrent(self, context: int) -> tuple[Result]:  # noqa: N802 -- as above
        if context not in self.alive:
            return (Result.CUDA_ERROR_CONTEXT_IS_DESTROYED,)
        self.stack.append(context)
        return (Result.CUDA_SUCCESS,)

    def cuCtxPopCurrent(self) -> tuple[Result, int]:  # noqa: N802 -- as above
        return Result.CUDA_SUCCESS, self.stack.pop()


class CUDADriverError(RuntimeError):
    """`cupy.cuda.driver.CUDADriverError`."""


def driver_on_cpu(contexts: Contexts) -> SimpleNamespace:
    """`cupy.cuda.driver`."""
    return SimpleNamespace(ctxGetCurrent=lambda: contexts.stack[-1], CUDADriverError=CUDADriverError)


@pytest.fixture
def contexts_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Contexts:
    """Put the pretence in the place of `cuda.bindings.driver` for one test."""
    contexts = Contexts()
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", contexts)
    monkeypatch.setattr(cuda.bindings, "driver", contexts, raising=False)
    return contexts


class Stream:
    """`cupy.cuda.Stream`."""

    ptr = 0x57

    def __init__(self, *, non_blocking: bool) -> None:
        assert non_blocking

    def wait_event(self, event: Event) -> None:
        assert event.recorded

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class Event:
    """`cupy.cuda.Event`."""

    def __init__(self, *, block: bool, disable_timing: bool) -> None:
        assert block
        self.timed = not disable_timing
        self.recorded = False
        self.destroyed = False

    def __del__(self) -> None:
        self.destroyed = True

    def record(self, stream: Stream) -> None:
        assert isinstance(stream, Stream)
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded
        assert not self.destroyed

    @property
    def done(self) -> bool:
        assert not self.destroyed
        return self.recorded


class Module:
    """`cupy.RawModule`."""

    def __init__(self, source: str) -> None:
        self._source = source

    def get_function(self, name: str) -> Any:
        def launch(grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]) -> None:
            launch_on_cpu(self._source, name, grid, block, arguments)

        return launch


def _copy(target: int, source: int, size: int, kind: int, stream: int = Stream.ptr) -> None:
    assert kind in {1, 2}
    assert stream == Stream.ptr
    ctypes.memmove(target, source, size)


def _fill(address: int, value: int, size: int, stream: int) -> None:
    assert stream == Stream.ptr
    ctypes.memset(address, value, size)


def _elapsed_ms(begun: Event, done: Event) -> float:
    assert begun.timed
    assert done.timed
    return 1.5


def _device(index: int) -> Any:
    return SimpleNamespace(use=lambda: None, index=index)


@pytest.fixture
def gpu_on_cpu(monkeypatch: pytest.MonkeyPatch, contexts_on_cpu: Contexts) -> Gpu:
    """Put the pretence in the place of CuPy for one test; return what `open_gpu` would."""
    runtime = SimpleNamespace(
        memcpy=_copy,
        memcpyAsync=_copy,
        memsetAsync=_fill,
        memcpyHostToDevice=1,
        memcpyDeviceToHost=2,
        streamSynchronize=lambda _: None,
        CUDARuntimeError=CUDARuntimeError,
    )
    cuda = SimpleNamespace(
        Device=_device,
        Event=Event,
        Memory=Memory,
        PinnedMemory=Memory,
        Stream=Stream,
        get_elapsed_time=_elapsed_ms,
        runtime=runtime,
        driver=driver_on_cpu(contexts_on_cpu),
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(vrseg.gpu.kernels, "_compiled", lambda _, package, name: Module(source_of(package, name)))
    return Gpu(index=0, name="a CPU", compute_capability=(9, 0), memory_bytes=_MEMORY_BYTES)


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def any_gpu(request: pytest.FixtureRequest) -> Gpu:
    """Run a test with the pretence, and where there is a GPU also there."""
    if request.param == "real":
        return open_gpu()
    pretended: Gpu = request.getfixturevalue("gpu_on_cpu")
    return pretended


def upload(gpu: Gpu, array: npt.NDArray[Any]) -> DeviceTensor:
    """Copy an array into memory of its own on either kind of GPU."""
    import cupy

    lease = Pool(gpu, "device", array.nbytes, limit=1, name="upload").lend()
    runtime, held = cupy.cuda.runtime, np.ascontiguousarray(array)
    runtime.memcpy(lease.address, held.ctypes.data, array.nbytes, runtime.memcpyHostToDevice)
    runtime.streamSynchronize(0)  # the call returns when the array was read, which is too early
    return DeviceTensor(lease=lease, shape=array.shape, dtype=array.dtype.name)


def download(tensor: DeviceTensor) -> npt.NDArray[Any]:
    """Copy an array back; the work that makes it must be done."""
    import cupy

    array, runtime = np.empty(tensor.shape, tensor.dtype), cupy.cuda.runtime
    runtime.memcpy(array.ctypes.data, tensor.address, array.nbytes, runtime.memcpyDeviceToHost)
    return array
