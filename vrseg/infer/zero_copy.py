"""A model for tensors of your own, without the copies that a host array costs.

Pictures go in as the network takes them, normalised and in its layout; what comes out is what it says. For frames and
masks use `vrseg.Pipeline`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from vrseg.config.schema import Model
from vrseg.errors import ConfigError, VrsegError
from vrseg.models.load import load_spec

if TYPE_CHECKING:
    from types import TracebackType

    import cupy
    import numpy.typing as npt

    from vrseg.models.spec import ModelSpec

    HostArray: TypeAlias = npt.NDArray[Any]


class EngineClosedError(VrsegError, RuntimeError):
    """An engine was used that is not open, or not any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """An engine's own memory: NumPy arrays on the CPU, CuPy arrays on a GPU. Valid while the engine is open."""

    input: Any = field(repr=False)
    """(batch, ...): what is written here needs no copy at all."""
    outputs: dict[str, Any] = field(repr=False)
    """(batch, ...) each, by name; overwritten by the next run."""


class Runner(Protocol):
    """An engine on one device. Used by one thread, the one that opened it."""

    stream: cupy.cuda.Stream | None
    """Where the work is ordered; None on the CPU, where nothing is asynchronous."""

    def open(self) -> None:
        """Load the model. May fail."""

    def buffers(self) -> Buffers:
        """Show the memory that the engine reads and writes."""

    def upload(self, host: HostArray) -> None:
        """Copy (n, ...) from the host into the input."""

    def take(self, array: Any) -> int:
        """Bring (n, ...) into the input, unless it is the input; return n."""

    def run(self, frames: int) -> dict[str, Any]:
        """Infer the first `frames` of the input."""

    def download(self, outputs: dict[str, Any]) -> dict[str, HostArray]:
        """Copy outputs to the host; waits for them."""

    def close(self) -> None:
        """Release everything. Always safe."""


class Engine:
    """A model, opened on a device, for tensors that are there already.

    ::

        with Engine("body.onnx", device="cuda", batch=8) as engine:
            answers = engine.run(host_nchw)              # copies in and out, and waits

            outputs = engine.run_device(tensor_on_gpu)   # CuPy, PyTorch, ...: copies nothing over the bus, waits never
            engine.copy_out(outputs)

            engine.buffers().input[:4] = ...             # nothing is copied at all
            outputs = engine.run_device(engine.buffers().input[:4])

    Order on a GPU: all work goes to `engine.stream`. `run_device` comes after what CuPy's current stream holds, after
    the stream that the array's interface names, or as DLPack orders it; nothing waits on the host. Its outputs are
    there for work on `engine.stream` (`with engine.stream:`), for another stream after `engine.order(stream)`, and for
    the host after `copy_out` or `engine.stream.synchronize()`. They are overwritten by the next run, and what you
    write to the input buffer must come after the last one: call `engine.order` for those streams too. A tensor that
    was copied may be written to or dropped at once. On the CPU every call returns when it is done, and the same code
    runs on NumPy arrays.

    An engine is used by the thread that opened it.
    """

    def __init__(
        self,
        model: str | Path = "demo",
        *,
        description: str | Path | None = None,
        device: str = "cpu",
        batch: int = 1,
    ) -> None:
        self._model = Path(model)
        self._description = None if description is None else str(description)
        self._device = device
        self._batch = batch
        self._runner: Runner | None = None

    def open(self) -> None:
        """Load the model.

        Raises:
            ConfigError: there is no such model, device or batch.
            ModelError: the model does not load.
            DeviceError: the device does not work.
        """
        if self._batch < 1:
            raise ConfigError(f"batch {self._batch}: write 1 or more")
        section = Model.model_validate({"path": str(self._model), "description": self._description})
        self.spec: ModelSpec = load_spec("model", section, Path.cwd())
        self._runner = make_runner(self.spec, self._device, self._batch)
        try:
            self._runner.open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release everything, the buffers too. Safe to call twice."""
        if self._runner is not None:
            self._runner.close()
        self._runner = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def stream(self) -> cupy.cuda.Stream | None:
        """Where the engine's work is ordered; None on the CPU."""
        return self._opened.stream

    def buffers(self) -> Buffers:
        """Show the memory that the engine reads and writes."""
        return self._opened.buffers()

    def run(self, host: HostArray) -> dict[str, HostArray]:
        """Infer (n, ...), n <= batch, from host memory to host memory; waits."""
        self.copy_in(host)
        return self.copy_out(self._opened.run(len(host)))

    def copy_in(self, host: HostArray) -> None:
        """Copy (n, ...) from the host to the start of the input buffer.

        On a GPU the copy is only enqueued: pageable memory may be reused at once, pinned memory when the stream has
        come by.

        Raises:
            ValueError: another shape or dtype than the network takes.
        """
        runner = self._opened
        check(self.spec, host.shape, str(host.dtype), self._batch)
        runner.upload(host)

    def run_device(self, array: Any) -> dict[str, Any]:
        """Infer (n, ...), n <= batch, where it is.

        Args:
            array: anything with `__cuda_array_interface__` or DLPack on the engine's GPU; on the CPU anything that
                NumPy takes. What is not the input buffer itself is copied there, within the device's memory.

        Returns:
            Outputs by name, (n, ...): CuPy arrays, or NumPy arrays on the CPU. Overwritten by the next run.

        Raises:
            ValueError: another shape or dtype than the network takes.
        """
        runner = self._opened
        return runner.run(runner.take(array))

    def copy_out(self, outputs: dict[str, Any]) -> dict[str, HostArray]:
        """Copy outputs to new host arrays; waits until they are there."""
        return self._opened.download(outputs)

    def order(self, stream: cupy.cuda.Stream) -> None:
        """Let later work on `stream` come after all that the engine was asked for so far. Nothing waits on the host.

        On the CPU there is nothing to order.
        """
        if self._opened.stream is not None:
            stream.wait_event(self._opened.stream.record())

    @property
    def _opened(self) -> Runner:
        if self._runner is None:
            raise EngineClosedError("the engine is not open: use it within its `with` block")
        return self._runner


def check(spec: ModelSpec, shape: tuple[int, ...], dtype: str, batch: int) -> None:
    """Refuse what the network does not take.

    Raises:
        ValueError: another shape or dtype, or more frames than fit.
    """
    if shape[1:] != spec.input.shape or dtype != spec.input.dtype or not 1 <= shape[0] <= batch:
        frame = ", ".join(map(str, spec.input.shape))
        raise ValueError(f"expected {spec.input.dtype} (1 to {batch}, {frame}), got {dtype} {shape}")


def make_runner(spec: ModelSpec, device: str, batch: int) -> Runner:
    """Construct the engine of a device; nothing is loaded before it is opened.

    Raises:
        ConfigError: the device is called otherwise.
    """
    name, _, index = device.partition(":")
    if device == "cpu":
        from vrseg.infer.zero_copy_cpu import CpuRunner  # noqa: PLC0415 -- a device's libraries load when it is chosen

        return CpuRunner(spec, batch)
    if name == "cuda" and (index.isdecimal() or device == "cuda"):
        from vrseg.infer.zero_copy_cuda import CudaRunner  # noqa: PLC0415 -- as above

        return CudaRunner(spec, batch, int(index or 0))
    raise ConfigError(f"device {device!r}: write cpu, cuda or cuda:N")
