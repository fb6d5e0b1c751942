from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper
from plugins.networks import color_network, save_network

from vrseg.config.schema import Model
from vrseg.models.batching import free_batch
from vrseg.models.load import load_spec
from vrseg.models.trial import trial_tensor

if TYPE_CHECKING:
    from pathlib import Path

    from vrseg.models.spec import ModelSpec

ONE = [[1.0, 0.5, 0.25]]


def load(path: Path) -> ModelSpec:
    return load_spec("body", Model(path=path.name), path.parent)


def test_a_network_without_fixed_shapes_inside_takes_any_batch(tmp_path: Path) -> None:
    spec = load(color_network(tmp_path / "body.onnx", ONE, [0.1], batch=1))
    graph = free_batch(spec)
    assert graph is not None
    pictures = trial_tensor(spec.input)
    (answers,) = ort.InferenceSession(graph).run(None, {"picture": pictures})
    assert answers.shape == (3, 1, 32, 48)
    assert np.ptp(answers) > 0


def test_reshapes_and_resizes_to_a_fixed_batch_are_freed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["picture", "flat"], ["a"]),
        helper.make_node("Reshape", ["a", "back"], ["b"]),
        helper.make_node("Resize", ["b", "", "", "sizes"], ["c"], mode="linear"),
        helper.make_node("ReduceMean", ["c"], ["scores"], axes=[1], keepdims=1),
    ]
    weights = {
        "flat": np.array([1, 3, -1], np.int64),
        "back": np.array([1, 3, 16, 16], np.int64),
        "sizes": np.array([1, 3, 24, 40], np.int64),
    }
    path = save_network(
        tmp_path / "body.onnx", nodes, takes=(1, 3, 16, 16), gives={"scores": (1, 1, 24, 40)}, weights=weights
    )
    graph = free_batch(load(path))
    assert graph is not None
    (answers,) = ort.InferenceSession(graph).run(None, {"picture": np.zeros((5, 3, 16, 16), np.float32)})
    assert answers.shape == (5, 1, 24, 40)


def test_a_network_that_mixes_its_batch_is_left_as_it_is(tmp_path: Path) -> None:
    # Subtracts the mean over the whole batch: right for one picture, wrong for several.
    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["picture", "mean"], ["centred"]),
        helper.make_node("ReduceMean", ["centred"], ["scores"], axes=[1], keepdims=1),
    ]
    path = save_network(tmp_path / "body.onnx", nodes, takes=(1, 3, 16, 16), gives={"scores": (1, 1, 16, 16)})
    assert free_batch(load(path)) is None


def test_a_network_whose_inside_needs_one_picture_is_left_as_it_is(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Concat", ["picture", "more"], ["two"], axis=0),
        helper.make_node("ReduceMean", ["two"], ["scores"], axes=[0, 1], keepdims=1),
    ]
    path = save_network(
        tmp_path / "body.onnx",
        nodes,
        takes=(1, 3, 16, 16),
        gives={"scores": (1, 1, 16, 16)},
        weights={"more": np.ones((1, 3, 16, 16), np.float32)},
    )
    assert free_batch(load(path)) is None


@pytest.mark.parametrize("batch", ["N", 4])
def test_only_a_batch_of_one_is_freed(tmp_path: Path, batch: int | str) -> None:
    assert free_batch(load(color_network(tmp_path / "body.onnx", ONE, [0.0], batch=batch))) is None


@pytest.mark.material
@pytest.mark.parametrize(
    "name",
    [
        "mediapipe_selfie_segmentation_256x256",
        "mediapipe_selfie_segmentation_landscape_144x256",
        "pp_humanseg_v1_lite_portrait_398x224",
        "yolox_nano_416",
    ],
)
def test_real_models_with_a_batch_of_one_are_freed(models_dir: Path, name: str) -> None:
    assert free_batch(load(models_dir / f"{name}.onnx")) is not None
