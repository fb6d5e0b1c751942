"""ONNX Runtime's CUDA provider where there is no GPU: its CPU sessions behind the same calls, on a CuPy pretence.

Recorded runs are not executed until the graph is launched, as on a GPU; what may not be done while a stream is being
captured fails, and spoils the capture.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import onnxruntime as ort
import pytest
from plugins.gpu_on_cpu import Memory, driver_on_cpu

import vrseg.infer.cuda_program
import vrseg.infer.onnx_loader
from vrseg.gpu.device import Gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from plugins.gpu_on_cpu import Contexts


class CudaError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`."""


class Graph:
    """`cupy.cuda.Graph`."""

    def __init__(self, work: list[Callable[[], object]]) -> None:
        self._work = work
        self.launches = 0

    def launch(self, stream: Stream) -> None:
        assert isinstance(stream, Stream)
        self.launches += 1
        for one in self._work:
            one()


class Stream:
    """`cupy.cuda.Stream`. There is one in a test."""

    ptr = 0x57
    now: Stream

    def __init__(self, *, non_blocking: bool) -> None:
        assert non_blocking
        self.captured: list[Callable[[], object]] | None = None
        self.spoilt = False
        self.broken = False
        Stream.now = self

    def put(self, work: Callable[[], object]) -> None:
        if self.captured is None:
            work()
        else:
            self.captured.append(work)

    def refuse_capture(self, what: str) -> None:
        if self.captured is not None:
            self.spoilt = True
            raise CudaError(f"CUDA failure 900: {what}: operation not permitted when stream is capturing")

    def begin_capture(self) -> None:
        assert self.captured is None
        self.captured, self.spoilt = [], False

    def end_capture(self) -> Graph:
        work, self.captured = self.captured, None
        assert work is not None
        if self.spoilt:
            raise CudaError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error")
        return Graph(work)

    def synchronize(self) -> None:
        self.refuse_capture("synchronize")
        if self.broken:
            raise CudaError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    def wait_event(self, event: Event) -> None:
        assert event.recorded

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Event:
    """`cupy.cuda.Event`."""

    def __init__(self, *, block: bool, disable_timing: bool) -> None:
        assert block
        self.timed = not disable_timing
        self.recorded = False

    def record(self, stream: Stream) -> None:
        assert isinstance(stream, Stream)
        self.recorded = True

    def synchronize(self) -> None:
        Stream.now.refuse_capture("event wait")


class Binding:
    """`onnxruntime.IOBinding` for device memory."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def bind_input(self, name: str, device: str, index: int, dtype: Any, shape: tuple[int, ...], address: int) -> None:
        assert (device, index, address % 256) == ("cuda", 0, 0)
        self.inner.bind_input(name, "cpu", 0, dtype, shape, address)

    def bind_output(
        self, name: str, device: str, index: int, dtype: Any = None, shape: Any = None, address: int | None = None
    ) -> None:
        assert (device, index, (address or 0) % 256) == ("cuda", 0, 0)
        self.inner.bind_output(name, "cpu", 0, dtype, shape, address)

    def get_outputs(self) -> Any:
        return self.inner.get_outputs()

    def clear_binding_outputs(self) -> None:
        self.inner.clear_binding_outputs()


@dataclass
class Sessions:
    """Opens sessions, and can be told to fail."""

    most_frames: int = 1 << 30
    """Larger batches find no memory; can be lowered later."""
    waits: bool = False
    """The network waits for the GPU within a run."""
    other_layout_is_wrong: bool = False
    opened: list[tuple[int | None, bool]] = field(default_factory=list)
    """Batch size, if it was fixed, and whether channels were last."""

    def open(
        self, source: bytes | str, gpu: Gpu, stream: Stream, *, variant: Mapping[str, str], fixed: Mapping[str, int]
    ) -> Any:
        assert isinstance(gpu, Gpu)
        assert stream is Stream.now
        options = ort.SessionOptions()
        for name, size in fixed.items():
            options.add_free_dimension_override_by_name(name, size)
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.opened.append((next(iter(fixed.values()), None), "prefer_nhwc" in variant))
        return Session(self, session, wrong=self.other_layout_is_wrong and "prefer_nhwc" in variant)


class Session:
    """`onnxruntime.InferenceSession`."""

    def __init__(self, sessions: Sessions, inner: Any, *, wrong: bool) -> None:
        self._sessions = sessions
        self._inner = inner
        self._wrong = wrong

    def io_binding(self) -> Binding:
        return Binding(self._inner.io_binding())

    def run_with_iobinding(self, binding: Binding, options: Any) -> None:
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        frames = self._inner.get_inputs()[0].shape[0]
        if isinstance(frames, int) and frames > self._sessions.most_frames:
            raise RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9")
        if self._sessions.waits:
            Stream.now.refuse_capture("cudaStreamSynchronize")
        Stream.now.put(lambda: self._run(binding))

    def _run(self, binding: Binding) -> None:
        self._inner.run_with_iobinding(binding.inner)
        if self._wrong:
            for value in binding.get_outputs():
                ctypes.memset(value.data_ptr(), 0, 64 * 48)


def _copy(target: int, source: int, size: int, kind: int, stream: int) -> None:
    assert kind in {1, 2, 3}
    assert stream == Stream.ptr
    Stream.now.put(lambda: ctypes.memmove(target, source, size))


def _fill(address: int, value: int, size: int, stream: int) -> None:
    assert stream == Stream.ptr
    Stream.now.put(lambda: ctypes.memset(address, value, size))


@pytest.fixture
def onnx_on_cpu(monkeypatch: pytest.MonkeyPatch, contexts_on_cpu: Contexts) -> Sessions:
    """Put both pretences in place for one test."""
    runtime = SimpleNamespace(
        memcpyAsync=_copy,
        memsetAsync=_fill,
        memcpyHostToDevice=1,
        memcpyDeviceToHost=2,
        memcpyDeviceToDevice=3,
        CUDARuntimeError=CudaError,
    )

    cuda = SimpleNamespace(
        Device=lambda index: SimpleNamespace(use=lambda: None, index=index),
        Event=Event,
        Memory=Memory,
        Stream=Stream,
        get_elapsed_time=lambda _begun, _done: 1.0,
        runtime=runtime,
        driver=driver_on_cpu(contexts_on_cpu),
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    sessions = Sessions()
    monkeypatch.setattr(vrseg.infer.onnx_loader, "open_session", sessions.open)
    monkeypatch.setattr(vrseg.infer.cuda_program, "CAPTURABLE_SINCE", (0, 0))
    return sessions


def pretended_gpu() -> Gpu:
    """What `open_gpu` would return."""
    return Gpu(index=0, name="a CPU", compute_capability=(9, 0), memory_bytes=1 << 30)
