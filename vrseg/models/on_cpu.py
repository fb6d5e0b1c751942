"""A network run on the CPU, to see what it says: once and for all pictures, not for speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnxruntime as ort

from vrseg.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from vrseg.models.spec import ModelSpec

    Array: TypeAlias = npt.NDArray[Any]


def outputs_on_cpu(spec: ModelSpec, model: onnx.ModelProto, pictures: Array) -> list[Array]:
    """Return the model's outputs in the order of `spec.outputs`, (N, ...) each.

    Raises:
        ModelError: ONNX Runtime cannot run it.
    """
    runs = runs_on_cpu(spec, model, pictures, list(spec.outputs))
    return [np.concatenate(values)[: len(pictures)] for values in zip(*runs, strict=True)]


def runs_on_cpu(spec: ModelSpec, model: onnx.ModelProto, pictures: Array, names: list[str]) -> list[list[Array]]:
    """Run as many pictures at a time as the model takes, one if it takes any number.

    Args:
        spec: of which only `path`, `batch` and the input's name count.
        model: what is run.
        pictures: (N, ...); repeated to fill the last run.
        names: of the values to return.

    Returns:
        For each run, what has these names.

    Raises:
        ModelError: ONNX Runtime cannot run it.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails here is told by the exception
    size = spec.batch or 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [
            session.run(
                names, {spec.input.name: np.resize(pictures[start : start + size], (size, *pictures.shape[1:]))}
            )
            for start in range(0, len(pictures), size)
        ]
    except Exception as error:
        raise ModelError(f"{spec.path}: ONNX Runtime cannot run this: {str(error).splitlines()[0]}") from error
