"""OpenVINO on the CPU, in fp32, or in bf16 where that is accurate enough. Needs the extra `openvino`."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vrseg.errors import DeviceError, ModelError
from vrseg.frame import Inference
from vrseg.infer.gate import Verdict, compare
from vrseg.infer.pieces import run_pieces
from vrseg.models.trial import trial_tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import Batch
    from vrseg.infer.pieces import Array, Run
    from vrseg.models.spec import ModelSpec

# OpenVINO fills a table when it is first asked what NumPy calls a type; two threads that ask at once wait for each
# other for ever (seen in 2026.4, at one start of ten).
_TABLE = Lock()


class OpenVinoEngine:
    """Runs a model with OpenVINO. An `Infer` stage. The frames of a batch run side by side, one thread each."""

    def __init__(self, spec: ModelSpec, *, precision: Literal["fp32", "bf16"] = "fp32", threads: int = 0) -> None:
        self._spec = spec
        self._precision = precision
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._run: Run | None = None
        self.verdict: Verdict | None = None
        """What the accuracy gate measured; None in fp32. Known after `open`."""

    @property
    def threads(self) -> int:
        """Threads that work at once."""
        return self._threads or len(os.sched_getaffinity(0))

    def open(self) -> None:
        """Load the model and run it; in bf16, compare it with fp32 first.

        Raises:
            DeviceError: OpenVINO is not installed, or this CPU has no bf16.
            ModelError: OpenVINO cannot load or run the model, or bf16 is not accurate enough.
        """
        try:
            import openvino  # noqa: PLC0415 - an extra: whoever does not use it need not have it
        except ImportError as error:
            raise DeviceError("OpenVINO is not installed; run: pip install 'vrseg[openvino]'") from error
        with _TABLE:
            openvino.Type.f32.to_dtype()
        core = openvino.Core()
        if self._precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise DeviceError(f"model {self._spec.name}: this CPU does not compute bf16; write precision: fp32")
        self._run = self._loaded(core, "bf16" if self._precision == "bf16" else "f32", self.threads)
        pictures = trial_tensor(self._spec.input)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=f"{self._spec.name}.infer")
        outputs = self._outputs(self._run, pictures)
        if self._precision == "bf16":
            exact = self._outputs(self._loaded(core, "f32", 1), pictures)
            self.verdict = compare(self._spec, exact, outputs)
            if not self.verdict.passed:
                raise ModelError(
                    f"{self._spec.path}: bf16 is not accurate enough for this model: {self.verdict.text}; "
                    "write precision: fp32"
                )

    def process(self, item: Batch, /) -> Iterable[Inference]:
        """Infer a batch.

        Raises:
            ModelError: the model failed on it.
        """
        if self._run is None:
            raise ModelError(f"{self._spec.path}: the engine is not open")
        named = dict(zip(self._spec.outputs, self._outputs(self._run, item.tensor), strict=True))
        return (Inference(frames=item.frames, placements=item.placements, outputs=named),)

    def flush(self) -> Iterable[Inference]:
        return ()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = self._run = None

    def _outputs(self, run: Run, tensor: Array) -> list[Array]:
        if self._pool is None:
            raise ModelError(f"{self._spec.path}: the engine is not open")
        try:
            return run_pieces(run, tensor, self._spec.batch or 1, self._pool, exact=True)
        except Exception as error:
            raise self._failure("failed on a batch", error) from error

    def _loaded(self, core: Any, precision: str, threads: int) -> Run:
        """Compile for one frame to a call, with a stream and a request for each thread."""
        target = self._spec.input
        try:
            model = core.read_model(self._spec.path)
            model.reshape({target.name: [self._spec.batch or 1, *target.shape]})
            compiled = core.compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": precision,
                    "NUM_STREAMS": str(threads),
                    "INFERENCE_NUM_THREADS": threads,
                },
            )
            outputs = [compiled.output(name) for name in self._spec.outputs]
            free: SimpleQueue[Any] = SimpleQueue()
            for _ in range(threads):
                free.put(compiled.create_infer_request())
        except Exception as error:
            raise self._failure("cannot use this model", error) from error

        def run(tensor: Array) -> list[Array]:
            request = free.get()
            try:
                request.infer({0: tensor}, share_inputs=True)
                # The request owns its output tensors and overwrites them in the next call.
                return [np.array(request.get_tensor(one).data) for one in outputs]
            finally:
                free.put(request)

        return run

    def _failure(self, what: str, error: Exception) -> ModelError:
        """Put OpenVINO's words, which run over many lines, into one."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return ModelError(f"{self._spec.path}: OpenVINO {what}: {lines[-1] if lines else type(error).__name__}")
