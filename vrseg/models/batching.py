"""A graph that was exported for one picture, made to take any number of them; proved before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from vrseg.models.trial import TRIAL_PICTURES, trial_tensor

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.models.spec import ModelSpec

    Array: TypeAlias = npt.NDArray[Any]

_TOLERANCE = 1e-4
_ANY = "N"
_RESIZE_SIZES = 3
"""Position of the target sizes among the inputs of a Resize node."""


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
    """Free the first dimension of inputs and outputs and of what fixes it in between, in place.

    Returns:
        False when an input or output has another first dimension than 1; the model is then half changed.
    """
    graph = model.graph
    constants = _constants(graph)
    weights = {weight.name for weight in graph.initializer}
    for value in [*(one for one in graph.input if one.name not in weights), *graph.output]:
        sizes = value.type.tensor_type.shape.dim
        if not sizes or sizes[0].dim_value != 1:
            return False
        sizes[0].dim_param = _ANY
    nodes: list[onnx.NodeProto] = []
    for number, node in enumerate(graph.node):
        tag = f"{node.op_type}_{number}_any_batch"
        if node.op_type == "Reshape" and node.input[0] not in constants:
            _free_reshape(node, graph, constants.get(node.input[1]), tag)
        elif node.op_type == "Resize" and len(node.input) > _RESIZE_SIZES:
            nodes += _free_resize(node, graph, constants.get(node.input[_RESIZE_SIZES]), tag)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    # Recorded shapes of inner tensors still hold the old batch.
    del graph.value_info[:]
    return True


def _free_reshape(node: onnx.NodeProto, graph: onnx.GraphProto, constant: onnx.TensorProto | None, tag: str) -> None:
    """Turn a shape (1, ...) into (0, ...), which stands for the first dimension of what is reshaped."""
    literal_zero = any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)
    shape = _first_is_one(constant)
    if literal_zero or shape is None:
        return
    freed = shape.copy()
    freed[0] = 0
    graph.initializer.append(numpy_helper.from_array(freed, tag))
    node.input[1] = tag


def _free_resize(
    node: onnx.NodeProto, graph: onnx.GraphProto, constant: onnx.TensorProto | None, tag: str
) -> list[onnx.NodeProto]:
    """Take the first of the target sizes from the input's own shape; returns the nodes that do so."""
    sizes = _first_is_one(constant)
    if sizes is None:
        return []
    first, rest = f"{tag}_first", f"{tag}_rest"
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), first))
    graph.initializer.append(numpy_helper.from_array(sizes[1:].astype(np.int64), rest))
    made = [
        onnx.helper.make_node("Shape", [node.input[0]], [f"{tag}_shape"]),
        onnx.helper.make_node("Gather", [f"{tag}_shape", first], [f"{tag}_batch"], axis=0),
        onnx.helper.make_node("Concat", [f"{tag}_batch", rest], [f"{tag}_sizes"], axis=0),
    ]
    node.input[_RESIZE_SIZES] = f"{tag}_sizes"
    return made


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    found = {weight.name: weight for weight in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                found[node.output[0]] = attribute.t
    return found


def _first_is_one(constant: onnx.TensorProto | None) -> Array | None:
    values = numpy_helper.to_array(constant) if constant is not None else np.empty(0)
    return values if values.ndim == 1 and values.size > 1 and values[0] == 1 else None


def _proved(spec: ModelSpec, graph: bytes) -> bool:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a graph that fails here is no news
    sessions = [
        ort.InferenceSession(source, options, providers=["CPUExecutionProvider"]) for source in (str(spec.path), graph)
    ]
    pictures = trial_tensor(spec.input)
    names = list(spec.outputs)
    single = [sessions[0].run(names, {spec.input.name: picture[None]}) for picture in pictures]
    together = sessions[1].run(names, {spec.input.name: pictures})
    return all(
        joined.shape == (TRIAL_PICTURES, *one_by_one[0].shape[1:])
        and np.allclose(joined, np.concatenate(one_by_one), rtol=_TOLERANCE, atol=_TOLERANCE)
        for joined, one_by_one in zip(together, zip(*single, strict=True), strict=True)
    )
