"""From FP32 to FP16, measured: what would overflow or blur stays FP32, and what still differs is refused."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from onnx import TensorProto, numpy_helper

from vrseg.errors import ModelError
from vrseg.models.fp16 import LARGEST, blocked_operators, is_fp16, rounding, to_fp16, with_names
from vrseg.models.fp16_steps import in_steps
from vrseg.models.on_cpu import outputs_on_cpu, runs_on_cpu
from vrseg.models.precision_search import find_exact
from vrseg.models.trial import trial_tensor

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import numpy.typing as npt

    from vrseg.models.spec import Layout, ModelSpec

    Array: TypeAlias = npt.NDArray[Any]

# Other pictures may reach further than those tried: half of the range is left to them.
_SAFE = LARGEST / 2
_FORMAT = 3
"""Of converted files: a new number makes old ones be converted again."""


class Judgement(Protocol):
    """What a judge found."""

    @property
    def passed(self) -> bool:
        """Good enough."""

    @property
    def text(self) -> str:
        """What was measured."""


class Judge(Protocol):
    """Compares the outputs of the same pictures in FP32 and in FP16; `vrseg.infer.gate.compare_foreseeing` is one."""

    def __call__(self, spec: ModelSpec, exact: list[Array], coarse: list[Array], /) -> Judgement:
        """Tell whether the model still says the same."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A node that stays FP32."""

    name: str
    operator: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A converted model, and how well it does."""

    model: onnx.ModelProto = field(repr=False)
    nodes: int
    """Of the FP32 model."""
    kept: tuple[Kept, ...]
    measured: str


def convert(spec: ModelSpec, judge: Judge, pictures: Array | None = None) -> Conversion:
    """Convert a model to FP16, inputs and outputs too.

    Accuracy is foreseen on the CPU, in FP32 with each value rounded where ONNX Runtime's CUDA provider would round it.
    What stays FP32 is taken as FP32, so a GPU may not compute that in TF32. Engines measure again on their own GPU.

    Args:
        spec: an FP32 model.
        judge: decides what is good enough.
        pictures: (N, ...) as the model takes them; drawn ones if not given.

    Raises:
        ModelError: it is FP16 already, has control flow, or is not accurate enough whatever stays FP32.
    """
    model = with_names(read_fp32(spec.path))
    pictures = varied(trial_tensor(spec.input), spec.input.layout) if pictures is None else pictures
    exact = outputs_on_cpu(spec, model, pictures)
    kept = {one.name: one for one in [*_without_fp16(model), *_too_large(spec, model, pictures)]}
    trial = _Trial(spec, model, judge, exact, pictures)
    verdict = trial.judged(kept)
    if not verdict.passed:
        reason = f"rounding here costs too much; without it: {verdict.text}"
        names = [node.name for node in model.graph.node if node.name not in kept]
        more = find_exact(names, lambda also: trial.error({*kept, *also}), lambda also: trial.passes({*kept, *also}))
        if more is None:
            raise ModelError(f"{spec.path}: FP16 is not accurate enough for this model: {verdict.text}; use fp32")
        kept |= {node.name: Kept(node.name, node.op_type, reason) for node in model.graph.node if node.name in more}
        verdict = trial.judged(kept)
    return Conversion(
        model=to_fp16(model, kept), nodes=len(model.graph.node), kept=tuple(kept.values()), measured=verdict.text
    )


def as_fp16(spec: ModelSpec, folder: Path, judge: Judge) -> ModelSpec:
    """Return the same model in FP16, converted now or taken from `folder`; itself when it is FP16 already.

    `input.dtype` of what is returned is `float16` (`uint8` stays): preprocessing writes that, and buffers have its
    size. So a lane, preprocessing and engine are to be made from the returned spec.

    Raises:
        ModelError: the model cannot be converted; see `convert`.
        OSError: the folder cannot be written to.
    """
    if is_fp16(_read(spec.path)):
        return spec
    key = sha256(spec.path.read_bytes() + f"{_FORMAT} {ort.__version__} {onnx.__version__}".encode()).hexdigest()[:16]
    path = folder / f"{spec.path.stem}-fp16-{key}.onnx"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write(convert(spec, judge), path)
    taken = spec.input if spec.input.dtype == "uint8" else replace(spec.input, dtype="float16")
    return replace(spec, path=path, input=taken)


def write(conversion: Conversion, path: Path) -> None:
    """Save a converted model; a reader sees all of it or nothing."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    onnx.save(conversion.model, beside)
    beside.replace(path)


def varied(pictures: Array, layout: Layout) -> Array:
    """Return pictures, (N, ...), also mirrored, and both also shifted: (4 N, ...).

    What rounding costs is another draw for each picture, and the worst of a few is far below the worst of many.
    """
    rows, columns = (2, 3) if layout == "nchw" else (1, 2)
    both = np.concatenate([pictures, np.flip(pictures, columns)])
    # Odd numbers: a shift by a whole step of a network's grid would show it the same cells again.
    return np.concatenate([both, np.roll(both, (5, 11), (rows, columns))])


def read_fp32(path: Path) -> onnx.ModelProto:
    """Read a model that can be converted.

    Raises:
        ModelError: it cannot.
    """
    model = _read(path)
    if is_fp16(model):
        raise ModelError(f"{path}: is FP16 already; use it as it is")
    inner = next((node for node in model.graph.node if any(one.HasField("g") for one in node.attribute)), None)
    if inner is not None:
        raise ModelError(f"{path}: has control flow ({inner.op_type}), which is not converted; use fp32")
    return model


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}; check the path") from error
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{path}: not an ONNX file; download or export it again") from error


def _without_fp16(model: onnx.ModelProto) -> list[Kept]:
    blocked = blocked_operators()
    return [
        Kept(node.name, node.op_type, "the operator has no FP16, or a poor one")
        for node in model.graph.node
        if node.op_type in blocked
    ]


def _too_large(spec: ModelSpec, model: onnx.ModelProto, pictures: Array) -> list[Kept]:
    """Find nodes that take or give numbers near to or beyond the end of FP16."""
    peaks = _peaks(spec, model, pictures)
    found = []
    for node in model.graph.node:
        peak, tensor = max(((peaks.get(name, 0.0), name) for name in [*node.input, *node.output]), default=(0.0, ""))
        if peak > _SAFE:
            found.append(Kept(node.name, node.op_type, f"'{tensor}' reaches {peak:.3g}, FP16 ends at {LARGEST:.0f}"))
    return found


def _peaks(spec: ModelSpec, model: onnx.ModelProto, pictures: Array) -> dict[str, float]:
    """Run with every inner value as an output; return the largest magnitude of each float tensor."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = {value.name for value in model.graph.output}
    inner = [
        value.name
        for value in inferred.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name not in known
    ]
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    outputs = [value.name for value in open_model.graph.output]
    peaks: dict[str, float] = {}
    for values in runs_on_cpu(spec, open_model, pictures, outputs):
        for name, value in zip(outputs, values, strict=True):
            peaks[name] = max(peaks.get(name, 0.0), _magnitude(value))
    for weight in model.graph.initializer:
        peaks[weight.name] = _magnitude(numpy_helper.to_array(weight))
    return peaks


def _magnitude(values: Array) -> float:
    # Infinity is meant where it stands as a constant, and is the same number in FP16.
    if values.dtype != np.float32 or not values.size:
        return 0.0
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


class _Trial:
    """One model on the same pictures, with more or less of it in FP16."""

    def __init__(
        self, spec: ModelSpec, model: onnx.ModelProto, judge: Judge, exact: list[Array], pictures: Array
    ) -> None:
        self._spec = spec
        self._model = model
        self._judge = judge
        self._exact = exact
        self._pictures = pictures if spec.input.dtype == "uint8" else pictures.astype(np.float16).astype(np.float32)

    def judged(self, kept: Collection[str]) -> Judgement:
        return self._judge(self._spec, self._exact, self._outputs(kept))

    def passes(self, kept: Collection[str]) -> bool:
        return self.judged(kept).passed

    def error(self, kept: Collection[str]) -> float:
        """Root mean square of what the outputs are off; infinite when they are no numbers."""
        squares = [
            float(np.mean((one.astype(np.float64) - other) ** 2))
            for one, other in zip(self._outputs(kept), self._exact, strict=True)
        ]
        total = sum(squares)
        return total**0.5 if np.isfinite(total) else float("inf")

    def _outputs(self, kept: Collection[str]) -> list[Array]:
        return outputs_on_cpu(self._spec, rounding(in_steps(to_fp16(self._model, kept))), self._pictures)
