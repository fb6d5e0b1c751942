"""FP32 networks in FP16: the conversion, and the way back to FP32 graphs that accuracy is measured with.

One rounds where the converted network does, since ONNX Runtime's CPU kernels would hide an overflow: they compute FP16
networks in FP32 from one cast to the next. The other does not round, and is what a GPU's answers are held against.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Collection

LARGEST = 65504.0
"""Largest number of FP16."""


def is_fp16(model: onnx.ModelProto) -> bool:
    """Tell whether a network holds weights or takes or gives values of FP16."""
    values = [*model.graph.input, *model.graph.output]
    return any(one.type.tensor_type.elem_type == TensorProto.FLOAT16 for one in values) or any(
        one.data_type == TensorProto.FLOAT16 for one in model.graph.initializer
    )


def blocked_operators() -> frozenset[str]:
    """Return the operators that have no FP16, or none that is any good."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST  # noqa: PLC0415 -- only a conversion needs it

    return frozenset(DEFAULT_OP_BLOCK_LIST)


def with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a network and give each node a name of its own; nodes are kept in FP32 by name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    seen: set[str] = set()
    for number, node in enumerate(copy.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)
    return copy


def to_fp16(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Convert weights, inputs, outputs and all nodes but those `kept` by name, and those without FP16.

    ONNX Runtime's converter does it, a better kept descendant of onnxconverter-common. It casts to FP16 and back
    between two nodes that both stay, through which a value that is too large would not get: those casts are bridged.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415 -- as above

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted: onnx.ModelProto = convert_float_to_float16(copy, node_block_list=list(kept))
    _drop_duplicates(converted.graph)
    _bridge_casts(converted.graph)
    _sort(converted.graph)
    return converted


def rounding(converted: onnx.ModelProto) -> onnx.ModelProto:
    """Return an FP32 network that rounds each value to FP16 wherever the converted network holds FP16.

    It takes inputs as float32; round them before.
    """
    model, halves = _widened(converted)
    graph = model.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in halves:
                node.output[index] = f"{name}/wide"
                nodes.append(helper.make_node("Cast", [f"{name}/wide"], [f"{name}/half"], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def widened(converted: onnx.ModelProto) -> onnx.ModelProto:
    """Return an FP32 network with the weights of an FP16 one: the same function, without the rounding on its way.

    It takes inputs as float32. What is within control flow is left as it is.
    """
    return _widened(converted)[0]


def _widened(converted: onnx.ModelProto) -> tuple[onnx.ModelProto, frozenset[str]]:
    """Return the network in FP32, and the names of what was FP16."""
    model = onnx.shape_inference.infer_shapes(converted)
    graph = model.graph
    values = [*graph.input, *graph.value_info, *graph.output]
    halves = frozenset(one.name for one in values if one.type.tensor_type.elem_type == TensorProto.FLOAT16)
    for value in [*graph.input, *graph.output]:
        if value.name in halves:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    del graph.value_info[:]
    for weight in graph.initializer:
        _widen(weight)
    for node in graph.node:
        for attribute in node.attribute:
            _widen(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    return model, halves


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _drop_duplicates(graph: onnx.GraphProto) -> None:
    """Keep one of several casts that make the same tensor."""
    made: set[str] = set()
    nodes = []
    for node in graph.node:
        if not any(name in made for name in node.output):
            nodes.append(node)
            made.update(node.output)
    del graph.node[:]
    graph.node.extend(nodes)


def _bridge_casts(graph: onnx.GraphProto) -> None:
    """Let who casts a value back, which the converter has narrowed, have the value itself."""
    narrowed = {
        node.output[0]: node.input[0]
        for node in graph.node
        if _casts_to(node, TensorProto.FLOAT16) and node.input[0] == f"{node.output[0]}_cast_to_fp16"
    }
    bridged = {
        node.output[0]: narrowed[node.input[0]]
        for node in graph.node
        if _casts_to(node, TensorProto.FLOAT) and node.input[0] in narrowed
    }
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = bridged.get(name, name)
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    nodes = [node for node in graph.node if node.op_type != "Cast" or node.output[0] in used]
    del graph.node[:]
    graph.node.extend(nodes)


def _casts_to(node: onnx.NodeProto, dtype: int) -> bool:
    return node.op_type == "Cast" and any(one.name == "to" and one.i == dtype for one in node.attribute)


def _sort(graph: onnx.GraphProto) -> None:
    """Put each node behind those whose values it takes."""
    made_by = {name: node for node in graph.node for name in node.output}
    placed: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for start in graph.node:
        stack = [(start, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                nodes.append(node)
            elif node.output[0] not in placed:
                placed.add(node.output[0])
                stack.append((node, True))
                stack.extend((made_by[name], False) for name in node.input if name in made_by)
    del graph.node[:]
    graph.node.extend(nodes)
