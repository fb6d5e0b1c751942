"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from vrseg.errors import ModelError
from vrseg.frame import Inference
from vrseg.infer.pieces import in_pieces
from vrseg.models.batching import free_batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import Batch
    from vrseg.models.spec import ModelSpec

_ERRORS_ONLY = 3


class OnnxEngine:
    """Runs a model with ONNX Runtime. An `Infer` stage.

    A graph whose batch is fixed is rewritten to take any batch, where that gives the same numbers; otherwise its
    batches are cut into pieces of the fixed size.
    """

    def __init__(self, spec: ModelSpec, *, threads: int = 0) -> None:
        self._spec = spec
        self._threads = threads
        self._session: Any = None
        self.batch: int | None = spec.batch
        """Frames that one call takes; None when any number will do. Known after `open`."""

    def open(self) -> None:
        """Load the model and run it once.

        Raises:
            ModelError: ONNX Runtime cannot load or run it.
        """
        spec = self._spec
        graph = free_batch(spec) if spec.batch is not None else None
        self.batch = spec.batch if graph is None else None
        try:
            self._session = ort.InferenceSession(
                graph if graph is not None else str(spec.path),
                session_options(self._threads),
                providers=["CPUExecutionProvider"],
            )
            self._run(np.zeros((self.batch or 1, *spec.input.shape), spec.input.dtype))
        except Exception as error:
            # ONNX Runtime's own exceptions share no base class of theirs.
            self._session = None
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{spec.path}: ONNX Runtime cannot use this model: {reason}") from error

    def process(self, item: Batch, /) -> Iterable[Inference]:
        """Infer a batch.

        Raises:
            ModelError: the model failed on it.
        """
        try:
            outputs = in_pieces(self._run, item.tensor, self.batch)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{self._spec.path}: inference failed: {reason}") from error
        named = dict(zip(self._spec.outputs, outputs, strict=True))
        return (Inference(frames=item.frames, placements=item.placements, outputs=named),)

    def flush(self) -> Iterable[Inference]:
        return ()

    def close(self) -> None:
        self._session = None

    def _run(self, tensor: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        results: list[np.ndarray[Any, Any]] = self._session.run(self._spec.outputs, {self._spec.input.name: tensor})
        return results


def session_options(threads: int) -> ort.SessionOptions:
    """Options for one session on a machine that decodes and encodes at the same time.

    Args:
        threads: of one inference call; 0 takes every CPU that this process may use.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Threads that spin between calls take the cores that decoding and encoding need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
