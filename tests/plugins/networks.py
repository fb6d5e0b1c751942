"""Small ONNX networks made on the spot: what they answer is known without running them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

Shape = tuple[int | str, ...]
_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
_OPSET = 17
_IR = 8


def save_network(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    *,
    takes: Shape,
    gives: Mapping[str, Shape],
    weights: Mapping[str, npt.NDArray[Any]] | None = None,
    dtype: str = "float32",
    integer_outputs: tuple[str, ...] = (),
) -> Path:
    """Write a network whose input is called `picture`."""
    graph = helper.make_graph(
        list(nodes),
        "toy",
        [helper.make_tensor_value_info("picture", _TYPES[dtype], takes)],
        [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name in integer_outputs else TensorProto.FLOAT, shape
            )
            for name, shape in gives.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = _IR
    onnx.save(model, path)
    return path


def color_network(
    path: Path,
    matrix: Sequence[Sequence[float]],
    bias: Sequence[float],
    *,
    size: tuple[int | str, int | str] = (32, 48),
    batch: int | str = "N",
    layout: str = "nchw",
    dtype: str = "float32",
    last: str = "",
) -> Path:
    """Write a network whose channel k is `matrix[k] . colour + bias[k]`, passed through `last` (Sigmoid, Softmax).

    `size` is height, width. Answers have the layout of the picture.
    """
    channels, (height, width) = len(bias), size
    weights = {
        "matrix": np.array(matrix, np.float32).reshape(channels, 3, 1, 1),
        "bias": np.array(bias, np.float32),
    }
    nodes = [helper.make_node("Cast", ["picture"], ["numbers"], to=TensorProto.FLOAT)]
    source = "numbers"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [source], ["planes"], perm=[0, 3, 1, 2]))
        source = "planes"
    nodes.append(helper.make_node("Conv", [source, "matrix", "bias"], ["answer"]))
    source = "answer"
    if last:
        node = helper.make_node(last, [source], ["activated"])
        if last == "Softmax":
            node.attribute.append(helper.make_attribute("axis", 1))
        nodes.append(node)
        source = "activated"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [source], ["scores"], perm=[0, 2, 3, 1]))
        takes: Shape = (batch, height, width, 3)
        gives: Shape = (batch, height, width, channels)
    else:
        nodes.append(helper.make_node("Identity", [source], ["scores"]))
        takes, gives = (batch, 3, height, width), (batch, channels, height, width)
    return save_network(path, nodes, takes=takes, gives={"scores": gives}, weights=weights, dtype=dtype)


def fixed_network(
    path: Path,
    answers: Mapping[str, npt.NDArray[Any]],
    *,
    size: tuple[int, int] = (64, 64),
) -> Path:
    """Write a network that says the same of every picture: `answers`, without the batch, by output name."""
    height, width = size
    nodes = [
        helper.make_node("Shape", ["picture"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["batch"], axis=0),
    ]
    weights: dict[str, npt.NDArray[Any]] = {"first": np.zeros(1, np.int64)}
    for name, answer in answers.items():
        weights[f"{name}_value"] = answer
        weights[f"{name}_rest"] = np.array(answer.shape, np.int64)
        nodes += [
            helper.make_node("Concat", ["batch", f"{name}_rest"], [f"{name}_shape"], axis=0),
            helper.make_node("Expand", [f"{name}_value", f"{name}_shape"], [name]),
        ]
    return save_network(
        path,
        nodes,
        takes=("N", 3, height, width),
        gives={name: ("N", *answer.shape) for name, answer in answers.items()},
        weights=weights,
        integer_outputs=tuple(name for name, answer in answers.items() if answer.dtype == np.int64),
    )
