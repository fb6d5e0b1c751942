"""TensorRT on an NVIDIA GPU: a plan from disk, run in place on the lane's stream; nobody waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import structlog

from vrseg.errors import ModelError
from vrseg.frame import Inference
from vrseg.gpu.memory import Pool
from vrseg.gpu.tensor import DeviceTensor
from vrseg.infer.cuda_session import BatchTooLargeError, is_short_of_memory
from vrseg.infer.onnx_cuda import batch_sizes
from vrseg.infer.output_block import ALIGNMENT, OutputBlock, lay_out
from vrseg.infer.tensorrt_call import Call
from vrseg.infer.tensorrt_ports import Ports, read_ports
from vrseg.infer.tensorrt_trial import Trial
from vrseg.models.tensorrt_library import is_rtx
from vrseg.models.tensorrt_log import TensorRtLog, failure, log_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import cupy

    from vrseg.frame import Batch
    from vrseg.gpu.lane import Lane
    from vrseg.gpu.memory import Lease
    from vrseg.infer.fp16_gate import Fp16Gate
    from vrseg.models.tensorrt_api import Engine, ExecutionContext, RtxEngine, TensorRtRtx, TensorRtRuntime

_log = structlog.get_logger(__name__)


class PlanRefusedError(ModelError):
    """The plan is damaged, or of another version or GPU: build it again."""


class TensorRtEngine:
    """Runs the lane's model from a TensorRT plan. An `Infer` stage.

    One context for each batch size 1, 2, 4, ...: a batch runs in the smallest that holds it, as one CUDA graph where
    that works. Contexts share their scratch memory, since their calls come one after the other on one stream. A plan
    that fixes its batch has a context for each piece of a batch instead. The first batch takes longer: it shows where
    the lane's input lies, and only then can all calls be bound, tried and recorded.
    """

    def __init__(
        self,
        lane: Lane,
        *,
        trt: TensorRtRuntime,
        plan_path: Path,
        gate: Fp16Gate,
        cuda_graphs: bool = True,
    ) -> None:
        """Store what is given; what `gate` does not let pass is refused by `open`."""
        self._lane = lane
        self._trt = trt
        self._gate = gate
        self._plan_path = plan_path
        self._cuda_graphs = cuda_graphs
        self._stream: cupy.cuda.Stream | None = None
        self._runtime: Any = None
        self._ports: Ports | None = None
        self._calls: list[Call] = []
        self._block: OutputBlock | None = None
        self._scratch: tuple[Pool, Lease] | None = None
        self._outputs: Pool | None = None
        self._bound: tuple[int, int] | None = None
        self.largest_batch = lane.max_batch
        """Frames of one run at most."""

    @property
    def captured(self) -> bool:
        """True when every batch is replayed as CUDA graphs. Known after the first batch."""
        return bool(self._calls) and all(call.captured for call in self._calls)

    def open(self) -> None:
        """Load the plan and make its contexts.

        Raises:
            BatchTooLargeError: the GPU's memory does not hold it.
            DeviceError: the GPU failed.
            ModelError: the engine does not fit the model or the batch size, or is not accurate enough in FP16.
            PlanRefusedError: TensorRT does not load the plan.
        """
        self._stream = self._lane.open()
        log = log_of(self._trt)
        try:
            engine = self._load(log)
            self._ports = read_ports(self._trt, engine, self._lane.spec)
            self._calls = self._make_calls(engine, self._ports, log)
            self._block = self._lay_out()
            self._check_alignment()
            name = self._lane.spec.name
            self._outputs = Pool(
                self._lane.gpu, "device", self._block.size_bytes, limit=1, name=f"{name}.output", timed=True
            )
            self._outputs.lend(self._stream).release()
            self._measure(self._block, self._outputs)
        except Exception as error:
            if is_short_of_memory(error):
                raise BatchTooLargeError(
                    f"{self._title}: not enough GPU memory for its engine; write a smaller batch.max_size"
                ) from error
            raise

    def process(self, item: Batch, /) -> Iterable[Inference]:
        """Put the inference of a batch on the lane's stream.

        Raises:
            DeviceError: the GPU failed.
            ModelError: TensorRT refused the batch.
        """
        if self._stream is None or self._outputs is None or self._block is None:
            raise ModelError(f"{self._title}: the engine is not open")
        frames = len(item.frames)
        lease = self._outputs.lend(self._stream)
        try:
            self._bind(self._stream, item.tensor.address, lease.address)
            for call in self._calls_for(frames):
                call.enqueue(self._stream)
        except BaseException:
            lease.release()
            raise
        item.tensor.lease.release()
        outputs = {
            place.name: DeviceTensor(
                lease=lease, shape=(frames, *place.frame_shape), dtype=place.dtype, offset_bytes=place.offset_bytes
            )
            for place in self._block.places
            if place.name in self._lane.spec.outputs
        }
        return (Inference(frames=item.frames, placements=item.placements, outputs=outputs),)

    def flush(self) -> Iterable[Inference]:
        return ()

    def close(self) -> None:
        bound, self._bound = self._bound, None
        try:
            if self._stream is not None and bound is not None:
                # Graphs, contexts and scratch may be in use still.
                self._stream.synchronize()
        finally:
            self._release()

    def _release(self) -> None:
        self._calls.clear()
        if self._outputs is not None:
            self._outputs.close()
        if self._scratch is not None:
            pool, lease = self._scratch
            lease.release()
            pool.close()
        self._runtime = self._outputs = self._scratch = self._block = self._ports = None

    @property
    def _title(self) -> str:
        return str(self._lane.spec.path)

    def _load(self, log: TensorRtLog) -> Engine:
        try:
            plan = self._plan_path.read_bytes()
        except OSError as error:
            raise PlanRefusedError(f"{self._plan_path}: cannot be read: {error.strerror}") from error
        log.forget()
        self._runtime = self._trt.Runtime(log.handle)
        engine = cast("Engine | None", self._runtime.deserialize_cuda_engine(plan))
        if engine is None:
            reason = (log.errors() or ["no reason given"])[-1]
            library = f"{self._trt.__name__} {self._trt.__version__}"
            raise PlanRefusedError(
                f"{self._plan_path}: {library} does not load it: {reason}; build it again: vrseg models build"
            )
        return engine

    def _make_calls(self, engine: Engine, ports: Ports, log: TensorRtLog) -> list[Call]:
        """Make a call for each batch size, or for each piece where the engine takes one size only."""
        most, fixed = self._lane.max_batch, ports.largest_batch
        if ports.least_batch == fixed:
            if most % fixed:
                raise ModelError(
                    f"{self._title}: takes exactly {fixed} frames at once; write a multiple of it as batch.max_size"
                )
            sizes = [fixed] * (most // fixed)
        elif ports.least_batch > 1 or fixed < most:
            raise ModelError(
                f"{self._title}: its engine was built for batches of {ports.least_batch} to {fixed}, not for {most}; "
                "build it again: vrseg models build"
            )
        else:
            sizes = batch_sizes(most)
        scratch = self._lend_scratch(engine.device_memory_size_v2)
        calls = []
        for size in sizes:
            log.forget()
            context = _new_context(self._trt, engine)
            if context is None:
                raise failure(f"{self._title}: TensorRT cannot make a context for {size} frames", log)
            context.set_device_memory(scratch.address, engine.device_memory_size_v2)
            calls.append(Call(context, ports, size=size, title=self._title, log=log))
        return calls

    def _lend_scratch(self, size_bytes: int) -> Lease:
        name = f"{self._lane.spec.name}.scratch"
        pool = Pool(self._lane.gpu, "device", max(size_bytes, ALIGNMENT), limit=1, name=name)
        lease = pool.lend(self._stream)
        self._scratch = (pool, lease)
        return lease

    def _lay_out(self) -> OutputBlock:
        """Find room for the outputs of a full batch."""
        outputs: Mapping[str, tuple[tuple[int, ...], str]] = {}
        for call in self._calls:
            for port, shape in call.shape():
                if not shape or shape[0] != call.size or -1 in shape:
                    raise ModelError(
                        f"{self._title}: output '{port.name}' is {shape} for {call.size} frames; its first dimension "
                        "must be the frame, and none may depend on the data"
                    )
                outputs = {**outputs, port.name: (shape[1:], port.dtype)}
        return lay_out(((name, *rest) for name, rest in outputs.items()), self._lane.max_batch)

    def _check_alignment(self) -> None:
        if self._in_pieces and len(self._calls) > 1:
            size = self._calls[0].size
            if any(address % ALIGNMENT for address in self._addresses(0, 0, size).values()):
                raise ModelError(
                    f"{self._title}: takes exactly {size} frames at once, and the next ones would not lie at a "
                    f"multiple of {ALIGNMENT} bytes, as TensorRT wants; write batch.max_size: {size}"
                )

    def _measure(self, block: OutputBlock, outputs: Pool) -> None:
        """Let FP16 pass only where it is accurate enough, with each batch size."""
        whole = [(self._lane.max_batch, self._calls)]
        runs = whole if self._in_pieces else [(call.size, [call]) for call in self._calls]
        Trial(self._lane, block, outputs, self._bind_calls).measure(runs, self._gate)

    def _bind(self, stream: cupy.cuda.Stream, input_address: int, output_address: int) -> None:
        """Fix all calls to where the lane's batches lie; try each once and record it."""
        if self._bound == (input_address, output_address):
            return
        self._bound = None
        self._bind_calls(self._calls, stream, input_address, output_address)
        self._bound = (input_address, output_address)
        if self._cuda_graphs:
            stream.synchronize()
            self._lane.gpu.counts.add(host_waits=1)
            refused = [reason for call in self._calls if (reason := call.capture(stream)) is not None]
            if refused:
                _log.warning("TensorRT runs without CUDA graphs", model=self._lane.spec.name, reason=refused[-1])

    def _bind_calls(
        self, calls: Sequence[Call], stream: cupy.cuda.Stream, input_address: int, output_address: int
    ) -> None:
        first = 0
        for call in calls:
            call.bind(self._addresses(input_address, output_address, first))
            first += call.size if self._in_pieces else 0
            # What was put off until the sizes were known happens in the first run, and cannot be recorded.
            call.enqueue(stream)

    def _addresses(self, input_address: int, output_address: int, first: int) -> dict[str, int]:
        """Return by name where a call reads and writes whose first frame is the batch's frame `first`."""
        frame_bytes = self._lane.input_bytes // self._lane.max_batch
        addresses = {self._lane.spec.input.name: input_address + first * frame_bytes}
        for place in self._block.places if self._block else ():
            addresses[place.name] = output_address + place.offset_bytes + first * place.frame_bytes
        return addresses

    @property
    def _in_pieces(self) -> bool:
        return self._ports is not None and self._ports.least_batch == self._ports.largest_batch

    def _calls_for(self, frames: int) -> list[Call]:
        if frames > self._lane.max_batch:
            raise ModelError(f"{self._title}: {frames} frames at once, where {self._lane.max_batch} are the most")
        if self._in_pieces:
            return self._calls[: -(-frames // self._calls[0].size)]
        return [next(call for call in self._calls if call.size >= frames)]


def _new_context(trt: TensorRtRuntime, engine: Engine) -> ExecutionContext | None:
    """Make a context that brings no memory of its own."""
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if not is_rtx(trt):
        return engine.create_execution_context(strategy)
    # RTX would compile kernels for the size in the background, and a graph would keep the slow ones of before.
    config = cast("RtxEngine", engine).create_runtime_config()
    if config is None:
        return None
    config.set_execution_context_allocation_strategy(strategy)
    strategies = cast("TensorRtRtx", trt).DynamicShapesKernelSpecializationStrategy
    config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
    return engine.create_execution_context(config)
