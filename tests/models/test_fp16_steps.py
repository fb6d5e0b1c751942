from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from plugins.networks import color_network, save_network

from vrseg.config.schema import Model
from vrseg.models.fp16 import rounding, to_fp16, widened, with_names
from vrseg.models.fp16_steps import in_steps, multiplies_fp32
from vrseg.models.load import load_spec
from vrseg.models.on_cpu import outputs_on_cpu

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]
HALF = np.float16


def run(path: Path, model: onnx.ModelProto, pictures: Array) -> Array:
    section = Model.model_validate({"path": str(path), "output": {"decode": "probability"}})
    (found,) = outputs_on_cpu(load_spec("body", section, path.parent), model, pictures)
    return found


def saved(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, Array]) -> onnx.ModelProto:
    save_network(path, nodes, takes=("N", 3, 8, 8), gives={"scores": ("N", 1, 8, 8)}, weights=weights)
    return with_names(onnx.load(path))


def spread(count: int = 8) -> Array:
    """All over the range of a sigmoid, each a number of FP16."""
    values = np.linspace(-14, 14, count * 64).reshape(count, 1, 8, 8).repeat(3, axis=1)
    return values.astype(HALF).astype(np.float32)


def sigmoid_in_fp16(x: Array) -> Array:
    """As CUDA kernels that know of no other type compute it."""
    one = HALF(1)
    share = (one / (one + np.exp(-np.abs(x.astype(np.float32))).astype(HALF)).astype(HALF)).astype(HALF)
    return np.where(x > 0, share, one - share)


def test_a_sigmoid_is_foreseen_to_the_last_bit(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["picture", "kernel"], ["sum"]), helper.make_node("Sigmoid", ["sum"], ["scores"])]
    kernel = np.array([1, 0, 0], np.float32).reshape(1, 3, 1, 1)
    path = tmp_path / "body.onnx"
    coarse = to_fp16(saved(path, nodes, {"kernel": kernel}), ())
    pictures = spread()
    found = run(path, rounding(in_steps(coarse)), pictures)
    wanted = sigmoid_in_fp16(pictures[:, :1].astype(HALF))
    assert np.array_equal(found, wanted.astype(np.float32))
    # This is what a single rounding does not foresee: small shares that are off by more than they are.
    exact = 1 / (1 + np.exp(-pictures[:, :1].astype(np.float64)))
    assert np.abs(found / exact - 1).max() > 0.5
    assert np.abs(run(path, rounding(coarse), pictures) / exact - 1)[exact > 1e-4].max() < 1e-3


def test_a_convolution_is_rounded_before_its_bias_is_added(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["picture", "kernel", "bias"], ["scores"])]
    kernel, bias = np.array([1, 0, 0], np.float32).reshape(1, 3, 1, 1), np.array([-2048], np.float32)
    path = tmp_path / "body.onnx"
    coarse = to_fp16(saved(path, nodes, {"kernel": kernel * 1.5, "bias": bias}), ())
    pictures = np.full((1, 3, 8, 8), 1367, np.float32)
    assert (run(path, rounding(coarse), pictures) == 2.5).all()
    # 2050.5 becomes 2050: from 2048 on FP16 knows even numbers only.
    assert (run(path, rounding(in_steps(coarse)), pictures) == 2).all()


def test_what_stays_fp32_has_no_steps(tmp_path: Path) -> None:
    path = color_network(tmp_path / "body.onnx", [[1.0, -0.5, -0.25]], [0.1], last="Sigmoid")
    model = with_names(onnx.load(path))
    coarse = to_fp16(model, [node.name for node in model.graph.node])
    assert [node.op_type for node in in_steps(coarse).graph.node] == [node.op_type for node in coarse.graph.node]


def test_a_network_in_steps_is_a_valid_fp16_network(tmp_path: Path) -> None:
    path = color_network(tmp_path / "body.onnx", [[1.0, -0.5, -0.25]], [0.1], last="Sigmoid")
    onnx.checker.check_model(in_steps(to_fp16(with_names(onnx.load(path)), ())), full_check=True)


@pytest.mark.parametrize(("kept", "left"), [((), False), (("Conv",), True), (("Sigmoid",), False)])
def test_products_that_stay_fp32_are_told_from_other_nodes(tmp_path: Path, kept: tuple[str, ...], left: bool) -> None:
    path = color_network(tmp_path / "body.onnx", [[1.0, -0.5, -0.25]], [0.1], last="Sigmoid")
    model = with_names(onnx.load(path))
    names = [node.name for node in model.graph.node if node.op_type in kept]
    assert multiplies_fp32(to_fp16(model, names)) == left
    assert multiplies_fp32(model)


def test_a_widened_network_rounds_its_weights_and_nothing_else(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["picture", "kernel"], ["sum"]), helper.make_node("Sigmoid", ["sum"], ["scores"])]
    kernel = np.array([0.1, -0.7, 0.3], np.float32).reshape(1, 3, 1, 1)
    path = tmp_path / "body.onnx"
    model = saved(path, nodes, {"kernel": kernel})
    wide = widened(to_fp16(model, ()))
    assert {one.data_type for one in wide.graph.initializer} == {TensorProto.FLOAT}
    coarse = saved(tmp_path / "coarse.onnx", nodes, {"kernel": kernel.astype(HALF).astype(np.float32)})
    assert np.array_equal(run(path, wide, spread()), run(path, coarse, spread()))
