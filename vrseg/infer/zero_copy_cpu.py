"""Tensors of your own on the CPU: the network reads and writes NumPy arrays in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from vrseg.errors import ModelError
from vrseg.infer.onnx import session_options
from vrseg.infer.zero_copy import Buffers, check
from vrseg.models.batching import free_batch

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.models.spec import ModelSpec

    Array = npt.NDArray[Any]


class CpuRunner:
    """See `Runner`."""

    stream = None

    def __init__(self, spec: ModelSpec, batch: int) -> None:
        self._spec = spec
        self._batch = batch
        self._session: Any = None
        self._input: Array = np.empty(0)
        self._outputs: dict[str, Array] = {}

    def open(self) -> None:
        graph = free_batch(self._spec)
        # Calls for exactly so many frames; one call takes all where any number will do.
        self._step = (self._spec.batch or self._batch) if graph is None else self._batch
        capacity = -(-self._batch // self._step) * self._step
        self._input = np.zeros((capacity, *self._spec.input.shape), self._spec.input.dtype)
        try:
            self._session = ort.InferenceSession(
                graph or str(self._spec.path), session_options(0), providers=["CPUExecutionProvider"]
            )
            answers = self._session.run(list(self._spec.outputs), {self._spec.input.name: self._input[: self._step]})
        except Exception as error:
            raise self._failure(error) from error
        self._outputs = {
            name: np.zeros((capacity, *answer.shape[1:]), answer.dtype)
            for name, answer in zip(self._spec.outputs, answers, strict=True)
        }

    def buffers(self) -> Buffers:
        outputs = {name: output[: self._batch] for name, output in self._outputs.items()}
        return Buffers(input=self._input[: self._batch], outputs=outputs)

    def upload(self, host: Array) -> None:
        self._input[: len(host)] = host

    def take(self, array: Any) -> int:
        pictures = np.asarray(array) if hasattr(array, "__array__") else np.from_dlpack(array)
        check(self._spec, pictures.shape, str(pictures.dtype), self._batch)
        if pictures.ctypes.data != self._input.ctypes.data:
            self.upload(pictures)
        return len(pictures)

    def run(self, frames: int) -> dict[str, Any]:
        any_number = self._spec.batch is None or self._step != self._spec.batch
        for first in range(0, frames, self._step):
            last = frames if any_number else first + self._step
            binding = self._session.io_binding()
            binding.bind_ortvalue_input(self._spec.input.name, _in_place(self._input[first:last]))
            for name, output in self._outputs.items():
                binding.bind_ortvalue_output(name, _in_place(output[first:last]))
            try:
                self._session.run_with_iobinding(binding)
            except Exception as error:
                raise self._failure(error) from error
        return {name: output[:frames] for name, output in self._outputs.items()}

    def download(self, outputs: dict[str, Any]) -> dict[str, Array]:
        return {name: np.array(output) for name, output in outputs.items()}

    def close(self) -> None:
        self._session = None
        self._outputs = {}
        self._input = np.empty(0)

    def _failure(self, error: Exception) -> ModelError:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return ModelError(f"{self._spec.path}: ONNX Runtime cannot use this model: {lines[0]}")


def _in_place(array: Array) -> Any:
    """Wrap an array without copying it: on the CPU a session's value may share NumPy's memory."""
    return ort.OrtValue.ortvalue_from_numpy(array)
