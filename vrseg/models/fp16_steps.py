"""An FP16 network with each step of its own that ONNX Runtime's CUDA provider rounds on the way.

Two of its kernels round more often than once, and both are where networks are made of them. A convolution is summed in
FP32, but written as FP16 before the bias is added. A sigmoid is computed in FP16 throughout, below zero as
1 - 1 / (1 + exp(-|x|)), so that it is off by up to 2^-12 however small it is itself; `x * sigmoid(x)` fused does the
same. With YOLOX this makes up most of what FP16 costs.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_ONE, _ZERO = "fp16_steps/one", "fp16_steps/zero"
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def in_steps(converted: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same FP16 network with a node for each rounding of the CUDA provider."""
    model = onnx.ModelProto()
    model.CopyFrom(converted)
    graph = model.graph
    halves = _values_of(model, TensorProto.FLOAT16)
    weights = {one.name: one for one in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Sigmoid" and node.output[0] in halves:
            nodes += _sigmoid_steps(node.input[0], node.output[0])
        elif node.op_type == "Conv" and node.output[0] in halves and node.input[2:] and node.input[2] in weights:
            bias = numpy_helper.to_array(weights[node.input[2]])
            rank = len(weights[node.input[1]].dims) if node.input[1] in weights else 4
            shaped = numpy_helper.from_array(bias.reshape(-1, *[1] * (rank - 2)), f"{node.output[0]}/bias")
            graph.initializer.append(shaped)
            nodes += _convolution_steps(node, shaped.name)
        else:
            nodes.append(_copy(node))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.float16), _ONE))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.float16), _ZERO))
    return model


def multiplies_fp32(model: onnx.ModelProto) -> bool:
    """Tell whether convolutions or matrix products of FP32 are left in a network.

    A GPU would compute those in TF32, which rounds what they take to no more digits than FP16 has.
    """
    full = _values_of(model, TensorProto.FLOAT)
    return any(node.op_type in _PRODUCTS and node.output[0] in full for node in model.graph.node)


def _sigmoid_steps(x: str, result: str) -> list[onnx.NodeProto]:
    def step(operator: str, inputs: list[str], name: str) -> onnx.NodeProto:
        return helper.make_node(operator, inputs, [name])

    size, minus, power, total, above, below, sign = (
        f"{result}/{what}" for what in ("size", "minus", "power", "total", "above", "below", "sign")
    )
    return [
        step("Abs", [x], size),
        step("Neg", [size], minus),
        step("Exp", [minus], power),
        step("Add", [_ONE, power], total),
        step("Div", [_ONE, total], above),
        step("Sub", [_ONE, above], below),
        step("Greater", [x, _ZERO], sign),
        step("Where", [sign, above, below], result),
    ]


def _convolution_steps(node: onnx.NodeProto, bias: str) -> list[onnx.NodeProto]:
    product = _copy(node)
    product.output[0] = f"{node.output[0]}/product"
    del product.input[2:]
    return [product, helper.make_node("Add", [product.output[0], bias], [node.output[0]])]


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _values_of(model: onnx.ModelProto, dtype: int) -> frozenset[str]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.value_info, *graph.output]
    return frozenset(one.name for one in values if one.type.tensor_type.elem_type == dtype)
