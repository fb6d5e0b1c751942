"""A graph that was exported for one picture, made to take any number of them; proved before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

if TYPE_CHECKING:
    from vrseg.models.spec import ModelSpec

_TRIAL_BATCH = 3
_TOLERANCE = 1e-4
_ANY = "N"


def free_batch(spec: ModelSpec) -> bytes | None:
    """Return the model with a free batch, or None where its graph does not allow it.

    The new graph is only returned when a batch of three gives the same numbers as three single runs.
    """
    if spec.batch != 1:
        return None
    try:
        model = onnx.load(spec.path)
        if not rewrite(model):
            return None
        graph = model.SerializeToString()
        return graph if _proved(spec, graph) else None
    except Exception:  # noqa: BLE001 - whatever the reason, the untouched graph still works one by one
        return None


def rewrite(model: onnx.ModelProto) -> bool:
    """Free the first dimension of inputs, outputs and reshapes, in place; False when an output has another first one.

    A Reshape to (1, ...) is taken to mean the batch and becomes (0, ...): the first dimension of what it reshapes.
    """
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    for value in [*(one for one in graph.input if one.name not in weights), *graph.output]:
        sizes = value.type.tensor_type.shape.dim
        if not sizes or sizes[0].dim_value != 1:
            return False
        sizes[0].dim_param = _ANY
    constants = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[0] in weights or node.input[0] in constants:
            continue
        if any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute):
            continue
        shape = _constant(node.input[1], weights, constants)
        if shape is None or shape.size < 2 or shape[0] != 1:
            continue
        freed = shape.copy()
        freed[0] = 0
        name = f"{node.input[1]}_any_batch_{number}"
        graph.initializer.append(numpy_helper.from_array(freed, name))
        node.input[1] = name
    # Recorded shapes of inner tensors still hold the old batch.
    del graph.value_info[:]
    return True


def _constant(
    name: str, weights: dict[str, onnx.TensorProto], constants: dict[str, onnx.NodeProto]
) -> np.ndarray[Any, Any] | None:
    if name in weights:
        return numpy_helper.to_array(weights[name])
    if name in constants:
        for attribute in constants[name].attribute:
            if attribute.name == "value":
                return numpy_helper.to_array(attribute.t)
    return None


def _proved(spec: ModelSpec, graph: bytes) -> bool:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a graph that fails here is no news
    sessions = [
        ort.InferenceSession(source, options, providers=["CPUExecutionProvider"]) for source in (str(spec.path), graph)
    ]
    pictures = _pictures(spec)
    names = list(spec.outputs)
    single = [sessions[0].run(names, {spec.input.name: picture[None]}) for picture in pictures]
    together = sessions[1].run(names, {spec.input.name: pictures})
    return all(
        joined.shape == (_TRIAL_BATCH, *one_by_one[0].shape[1:])
        and np.allclose(joined, np.concatenate(one_by_one), rtol=_TOLERANCE, atol=_TOLERANCE)
        for joined, one_by_one in zip(together, zip(*single, strict=True), strict=True)
    )


def _pictures(spec: ModelSpec) -> np.ndarray[Any, Any]:
    """Three different pictures with smooth shapes and noise, in the range that the model was trained on."""
    random = np.random.default_rng(0)
    target = spec.input
    y, x = np.mgrid[0 : target.height, 0 : target.width]
    pixels = np.empty((_TRIAL_BATCH, target.height, target.width, 3), np.float32)
    for picture in pixels:
        for channel in range(3):
            fx, fy, phase = random.uniform(1, 6, 3)
            wave = np.sin(fx * x / target.width + phase) * np.cos(fy * y / target.height)
            picture[..., channel] = 127.5 + 100 * wave + random.uniform(-25, 25, wave.shape)
    if target.dtype != "uint8":
        pixels = (pixels * target.scale - np.array(target.mean)) / np.array(target.std)
    if target.layout == "nchw":
        pixels = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels.astype(target.dtype))
