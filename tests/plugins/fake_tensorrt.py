"""TensorRT's runtime where there is none: it computes a network of its own on the CPU, over the CuPy of `gpu_on_cpu`.

It has no method that the real one lacks (a test compares it with the signatures of each generation), nothing can be
set on it that is not there, and it fails as the real one does: by None and False, with the reason in the log.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.gpu_on_cpu import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from vrseg.gpu.device import Gpu

PLAN = b"ptrt of the network that this file computes"
ALIGNMENT = 256
RELAXED = 2
FRAME = (3, 8, 16)
OUTPUTS = {"scores": (2, 8, 16), "brightness": (1,)}


@dataclass
class Machine:
    """What a test decides about the engine, and what it may look at afterwards."""

    batches: tuple[int, int] = (1, 8)
    """Of the profile; equal: the graph fixes it."""
    takes: str = "picture"
    refusal: str = "the plan is of another version"
    plan: bytes = PLAN
    scratch_bytes: int = 4096
    capturable: bool = True
    failing: str | None = None
    """What the log says when an enqueue fails."""
    rtx: bool = False
    """TensorRT-RTX, whose contexts are made by a configuration."""
    extra: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Outputs beside the usual ones, whole shapes."""
    without_contexts: bool = False
    said: Callable[[int, str], None] = lambda _severity, _message: None
    contexts: list[IExecutionContext] = field(default_factory=list)
    scratch: set[int] = field(default_factory=set)
    enqueued: list[int] = field(default_factory=list)
    """Frames of each plain enqueue outside captures."""
    replayed: list[int] = field(default_factory=list)
    """Frames of each launch of a graph."""


MACHINE = Machine()


class CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`."""


class CapturingStream(Stream):
    """`cupy.cuda.Stream`, with what recording graphs takes."""

    ptr = Stream.ptr
    recording: list[Any] | None = None
    broken = False

    def begin_capture(self, mode: int) -> None:
        assert mode == RELAXED, "allocations of other threads would break the capture"
        assert CapturingStream.recording is None
        CapturingStream.recording, CapturingStream.broken = [], False

    def end_capture(self) -> Graph:
        recorded, CapturingStream.recording = CapturingStream.recording, None
        assert recorded is not None
        if CapturingStream.broken:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated: the capture was invalidated")
        return Graph(recorded)

    def synchronize(self) -> None:
        assert CapturingStream.recording is None, "nobody may wait during a capture"


class Graph:
    """`cupy.cuda.Graph`: it keeps the addresses and sizes of when it was recorded."""

    def __init__(self, work: list[Any]) -> None:
        self._work = work

    def launch(self, stream: Stream) -> None:
        assert isinstance(stream, CapturingStream)
        for frames, one in self._work:
            MACHINE.replayed.append(frames)
            one()


class ILogger:
    __slots__ = ("__dict__",)

    def __init__(self) -> None: ...

    def log(self, severity: int, msg: str) -> None:
        raise NotImplementedError


class Runtime:
    __slots__ = ("_logger",)

    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        MACHINE.said = logger.log

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        if serialized_engine != MACHINE.plan:
            _fail(MACHINE.refusal)
            return None
        return RtxEngine() if MACHINE.rtx else ICudaEngine()


class ICudaEngine:
    __slots__ = ()

    @property
    def num_io_tensors(self) -> int:
        return len(_shapes())

    @property
    def device_memory_size_v2(self) -> int:
        return MACHINE.scratch_bytes

    def get_tensor_name(self, index: int) -> str:
        return list(_shapes())[index]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == MACHINE.takes else "OUTPUT"

    def get_tensor_location(self, name: str) -> str:
        assert name in _shapes()
        return "DEVICE"

    def get_tensor_dtype(self, name: str) -> str:
        assert name in _shapes()
        return "FLOAT"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return _shapes()[name]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert name == MACHINE.takes
        assert profile_index == 0
        least, most = MACHINE.batches
        return [(least, *FRAME), (most, *FRAME), (most, *FRAME)]

    def create_execution_context(self, strategy: str) -> IExecutionContext | None:
        if MACHINE.without_contexts:
            _fail("out of memory")
            return None
        assert strategy == "USER_MANAGED", "contexts share their scratch memory"
        return IExecutionContext()


class RtxEngine(ICudaEngine):
    """`ICudaEngine` of TensorRT-RTX."""

    __slots__ = ()

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, runtime_config: Any) -> IExecutionContext | None:
        assert isinstance(runtime_config, IRuntimeConfig)
        assert runtime_config.dynamic_shapes_kernel_specialization_strategy == "EAGER", (
            "a graph would keep slow kernels"
        )
        return super().create_execution_context(runtime_config.get_execution_context_allocation_strategy())


class IRuntimeConfig:
    __slots__ = ("_strategy", "dynamic_shapes_kernel_specialization_strategy")

    def __init__(self) -> None:
        self._strategy = "STATIC"
        self.dynamic_shapes_kernel_specialization_strategy = "LAZY"

    def get_execution_context_allocation_strategy(self) -> str:
        return self._strategy

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self._strategy = strategy


class IExecutionContext:
    __slots__ = ("_addresses", "_frames", "_scratch", "_warm")

    def __init__(self) -> None:
        self._addresses: dict[str, int] = {}
        self._frames = 0
        self._scratch = 0
        self._warm = False
        MACHINE.contexts.append(self)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, most = MACHINE.batches
        if name != MACHINE.takes or shape[1:] != FRAME or not least <= shape[0] <= most:
            return _fail(f"{name} {shape} is outside of the profile")
        self._frames, self._warm = shape[0], False
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        first, *rest = _shapes()[name]
        return (self._frames if first == -1 and self._frames else first, *rest)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in _shapes() or memory % ALIGNMENT:
            return _fail(f"address {memory} of {name} is unknown or not aligned")
        self._addresses[name] = memory
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= MACHINE.scratch_bytes
        assert memory % ALIGNMENT == 0
        self._scratch = memory
        MACHINE.scratch.add(memory)

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == Stream.ptr
        recording = CapturingStream.recording
        if not self._frames or self._addresses.keys() != _shapes().keys() or not self._scratch:
            return _fail("sizes, addresses or memory are missing")
        if MACHINE.failing is not None:
            return _fail(MACHINE.failing)
        if recording is not None and not (MACHINE.capturable and self._warm):
            CapturingStream.broken = True
            return _fail("operation not permitted when stream is capturing")
        addresses, frames = dict(self._addresses), self._frames
        self._warm = True
        if recording is not None:
            recording.append((frames, lambda: _compute(addresses, frames)))
        else:
            MACHINE.enqueued.append(frames)
            _compute(addresses, frames)
        return True


def answers(pictures: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    """Compute what the network says of pictures, (n, 3, 8, 16)."""
    return {"scores": pictures[:, :2] * 2 - 1, "brightness": pictures.mean(axis=(1, 2, 3))[:, None]}


def array_at(address: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """View memory that a test or an engine owns."""
    return np.ctypeslib.as_array((ctypes.c_float * int(np.prod(shape))).from_address(address)).reshape(shape)


def _compute(addresses: dict[str, int], frames: int) -> None:
    said = answers(array_at(addresses[MACHINE.takes], (frames, *FRAME)).copy())
    for name, values in said.items():
        array_at(addresses[name], values.shape)[...] = values


def _shapes() -> dict[str, tuple[int, ...]]:
    least, most = MACHINE.batches
    first = most if least == most else -1
    return {MACHINE.takes: (first, *FRAME)} | {name: (first, *rest) for name, rest in OUTPUTS.items()} | MACHINE.extra


def _fail(reason: str) -> bool:
    MACHINE.said(1, reason)
    return False


def module() -> Any:
    """Return what stands for `import tensorrt`, or `import tensorrt_rtx`."""
    made: Any = ModuleType("tensorrt_rtx" if MACHINE.rtx else "tensorrt")
    if MACHINE.rtx:
        made.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="EAGER")
    made.__version__ = "11.4.0.106"
    made.ILogger = ILogger
    made.Runtime = Runtime
    made.TensorIOMode = SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT")
    made.TensorLocation = SimpleNamespace(DEVICE="DEVICE", HOST="HOST")
    made.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="USER_MANAGED")
    made.nptype = {"FLOAT": np.float32}.__getitem__
    return made


@pytest.fixture
def machine(gpu_on_cpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Let streams be recorded, and return what decides about the engine."""
    assert gpu_on_cpu
    cuda = sys.modules["cupy"].cuda
    monkeypatch.setattr(cuda, "Stream", CapturingStream)
    monkeypatch.setattr(cuda.runtime, "CUDARuntimeError", CUDARuntimeError, raising=False)
    monkeypatch.setattr(cuda.runtime, "streamCaptureModeRelaxed", RELAXED, raising=False)
    fresh = Machine()
    monkeypatch.setattr(sys.modules[__name__], "MACHINE", fresh)
    return fresh
