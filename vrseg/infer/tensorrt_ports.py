"""What an engine takes and gives, read from the engine itself and compared with the model's spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vrseg.errors import ModelError

if TYPE_CHECKING:
    from vrseg.models.spec import ModelSpec
    from vrseg.models.tensorrt_api import Engine, TensorRtRuntime


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of an engine."""

    name: str
    dtype: str
    """NumPy's name."""
    shape: tuple[int, ...]
    """-1 where the context decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All that an engine reads and writes."""

    input: Port
    outputs: tuple[Port, ...]
    least_batch: int
    largest_batch: int
    """Frames that one call takes, by the engine's profile; equal where the graph fixes the number."""


def read_ports(trt: TensorRtRuntime, engine: Engine, spec: ModelSpec) -> Ports:
    """Ask an engine what it takes and gives.

    Raises:
        ModelError: it is not an engine of this model, or of a kind that cannot run without the host.
    """
    inputs: list[Port] = []
    outputs: list[Port] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            raise ModelError(f"{spec.path}: its engine wants '{name}' from the host; export it with fixed sizes")
        port = Port(name=name, dtype=_dtype(trt, engine, name, spec), shape=tuple(engine.get_tensor_shape(name)))
        (inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs).append(port)
    wanted = spec.input
    if [(one.name, one.dtype, one.shape[1:]) for one in inputs] != [(wanted.name, wanted.dtype, wanted.shape)]:
        raise ModelError(
            f"{spec.path}: its engine takes {_told(inputs)}, the model {wanted.name} {wanted.dtype} "
            f"(N, {', '.join(map(str, wanted.shape))}); build it again: vrseg models build"
        )
    missing = set(spec.outputs) - {one.name for one in outputs}
    if missing:
        raise ModelError(
            f"{spec.path}: its engine gives {_told(outputs)}, not {', '.join(sorted(missing))}; "
            "build it again: vrseg models build"
        )
    least, most = _batches(engine, inputs[0])
    return Ports(input=inputs[0], outputs=tuple(outputs), least_batch=least, largest_batch=most)


def _batches(engine: Engine, image: Port) -> tuple[int, int]:
    """Return the smallest and the largest batch."""
    if image.shape[0] != -1:
        return image.shape[0], image.shape[0]
    least, _usual, most = engine.get_tensor_profile_shape(image.name, 0)
    return next(iter(least)), next(iter(most))


def _dtype(trt: TensorRtRuntime, engine: Engine, name: str, spec: ModelSpec) -> str:
    dtype = engine.get_tensor_dtype(name)
    try:
        return str(np.dtype(trt.nptype(dtype)))
    except TypeError as error:  # bfloat16 and smaller
        raise ModelError(
            f"{spec.path}: '{name}' is {dtype}, which NumPy does not know; export it as float16"
        ) from error


def _told(ports: list[Port]) -> str:
    return ", ".join(f"{one.name} {one.dtype} {one.shape}" for one in ports) or "nothing"
