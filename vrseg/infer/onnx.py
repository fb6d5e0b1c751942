"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from vrseg.errors import ModelError
from vrseg.frame import Inference
from vrseg.infer.pieces import run_pieces
from vrseg.models.batching import free_batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import Batch
    from vrseg.infer.pieces import Array, Run
    from vrseg.models.spec import ModelSpec

_ERRORS_ONLY = 3
# A network slower than this on one core cannot follow one camera of 30 fps: only then are several cores put on one
# frame, which costs more of them in all.
_SLOW_S = 0.033
# Networks so small that the cost of a call shows are tried with several frames to a call, and keep that if it saves
# more than the noise of the measurement.
_SMALL_S = 0.001
_SMALL_PIECE = 4
_WORTH = 0.9


class OnnxEngine:
    """Runs a model with ONNX Runtime. An `Infer` stage.

    The frames of a batch run side by side, one thread each. A graph whose batch is fixed at 1 is made to take any
    number where that is proved to give the same numbers, and runs one by one where not.
    """

    def __init__(self, spec: ModelSpec, *, threads: int = 0) -> None:
        self._spec = spec
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._run: Run | None = None
        self._run_wide: Run | None = None
        self.batch: int | None = spec.batch
        """Frames that one call must take; None when any number will do. Final after `open`."""
        self.piece = 1
        """Frames that one call is given. Final after `open`."""

    @property
    def threads(self) -> int:
        """Threads that work at once."""
        return self._threads or len(os.sched_getaffinity(0))

    def open(self) -> None:
        """Load the model, run it, and choose how to share the work out.

        Raises:
            ModelError: ONNX Runtime cannot load or run it.
        """
        graph = free_batch(self._spec)
        self.batch = self._spec.batch if graph is None else None
        source = graph or str(self._spec.path)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=f"{self._spec.name}.infer")
        self._run = self._loaded(source, threads=1)
        self.piece = self.batch or 1
        duration_s = self._duration_s(self.piece)
        if self.batch is None and duration_s < _SMALL_S:
            together_s = self._duration_s(_SMALL_PIECE) / _SMALL_PIECE
            self.piece = _SMALL_PIECE if together_s < duration_s * _WORTH else 1
        if duration_s > _SLOW_S and self.threads > 1:
            self._run_wide = self._loaded(source, threads=self.threads)

    def process(self, item: Batch, /) -> Iterable[Inference]:
        """Infer a batch.

        Raises:
            ModelError: the model failed on it.
        """
        if self._run is None or self._pool is None:
            raise ModelError(f"{self._spec.path}: the engine is not open")
        wide = self._run_wide if len(item.frames) < self.threads else None
        try:
            outputs = run_pieces(wide or self._run, item.tensor, self.piece, self._pool, exact=self.batch is not None)
        except Exception as error:
            raise self._failure("failed on a batch", error) from error
        named = dict(zip(self._spec.outputs, outputs, strict=True))
        return (Inference(frames=item.frames, placements=item.placements, outputs=named),)

    def flush(self) -> Iterable[Inference]:
        return ()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = self._run = self._run_wide = None

    def _loaded(self, source: bytes | str, threads: int) -> Run:
        names, feed = list(self._spec.outputs), self._spec.input.name
        try:
            session = ort.InferenceSession(source, session_options(threads), providers=["CPUExecutionProvider"])
            session.run(names, {feed: self._blank(self.batch or 1)})
        except Exception as error:
            raise self._failure("cannot use this model", error) from error

        def run(tensor: Array) -> list[Array]:
            outputs: list[Array] = session.run(names, {feed: tensor})
            return outputs

        return run

    def _failure(self, what: str, error: Exception) -> ModelError:
        """Put ONNX Runtime's words into one line. Its exceptions have no base class of their own."""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return ModelError(f"{self._spec.path}: ONNX Runtime {what}: {reason}")

    def _duration_s(self, frames: int) -> float:
        """Time one call; the shortest of three, since other work only ever makes it longer."""
        if self._run is None:
            return 0.0
        blank, durations = self._blank(frames), []
        for _ in range(3):
            start = time.perf_counter()
            self._run(blank)
            durations.append(time.perf_counter() - start)
        return min(durations)

    def _blank(self, frames: int) -> Array:
        return np.zeros((frames, *self._spec.input.shape), self._spec.input.dtype)


def session_options(threads: int) -> Any:
    """Options for a session with so many threads within one call."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Threads that spin between layers take the cores that decoding and encoding need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
