from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.networks import color_network, fixed_network

from vrseg.config.schema import Model
from vrseg.errors import ConfigError, ModelError
from vrseg.models.decoding import grid_cells
from vrseg.models.load import load_spec, model_path
from vrseg.models.palette import class_color

if TYPE_CHECKING:
    from vrseg.models.spec import ModelSpec

DESCRIPTIONS = Path(__file__).resolve().parents[2] / "configs" / "models"
ONE = [[1.0, 0.0, 0.0]]
TWO = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
CELLS_64 = 84


def load(path: Path, **keys: Any) -> ModelSpec:
    return load_spec("body", Model.model_validate({"path": path.name, **keys}), path.parent)


def zeros(*shape: int, dtype: type = np.float32) -> np.ndarray[Any, Any]:
    return np.zeros(shape, dtype)


def test_the_grids_of_an_input_of_416_have_3549_cells() -> None:
    assert grid_cells(416, 416) == 3549
    assert grid_cells(64, 64) == CELLS_64


@pytest.mark.parametrize(
    ("last", "channels", "decode"),
    [("Sigmoid", ONE, "probability"), ("", ONE, "logits"), ("Softmax", TWO, "softmax"), ("", TWO, "logits")],
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_segmentation_network_explains_itself(
    tmp_path: Path, last: str, channels: list[list[float]], decode: str, layout: str
) -> None:
    path = color_network(tmp_path / "body.onnx", channels, [0.0] * len(channels), last=last, layout=layout)
    spec = load(path)
    assert (spec.task, spec.decode, spec.batch, spec.outputs) == ("segment", decode, None, ("scores",))
    assert (spec.input.width, spec.input.height, spec.input.layout) == (48, 32, layout)
    assert (spec.input.fit, spec.input.color, spec.input.scale) == ("stretch", "rgb", 1 / 255)
    assert spec.channels_last == (layout == "nhwc")
    assert [one.background for one in spec.classes] == ([False] if len(channels) == 1 else [True, False])


@pytest.mark.parametrize(
    ("shape", "decode", "color", "anchor"),
    [
        ((CELLS_64, 85), "yolox", "bgr", "top-left"),
        ((CELLS_64 * 3, 85), "yolov5", "rgb", "center"),
        ((84, CELLS_64), "yolov8", "rgb", "center"),
    ],
)
def test_a_detector_is_known_by_the_shape_of_its_output(
    tmp_path: Path, shape: tuple[int, int], decode: str, color: str, anchor: str
) -> None:
    spec = load(fixed_network(tmp_path / "body.onnx", {"output": zeros(*shape)}))
    assert (spec.task, spec.decode, len(spec.classes)) == ("detect", decode, 80)
    assert (spec.input.fit, spec.input.pad, spec.input.color, spec.input.anchor) == ("letterbox", 114, color, anchor)
    assert spec.input.scale == (1.0 if decode == "yolox" else 1 / 255)


def test_rows_of_six_are_boxes_after_suppression(tmp_path: Path) -> None:
    assert load(fixed_network(tmp_path / "body.onnx", {"output": zeros(300, 6)})).decode == "end2end"


def test_boxes_scores_and_classes_are_told_apart_in_any_order(tmp_path: Path) -> None:
    answers = {
        "num_dets": zeros(1, dtype=np.int64),
        "det_classes": zeros(100),
        "det_scores": zeros(100),
        "det_boxes": zeros(100, 4),
    }
    spec = load(fixed_network(tmp_path / "body.onnx", answers))
    assert (spec.decode, spec.outputs) == ("end2end", ("det_boxes", "det_scores", "det_classes"))


def test_the_configuration_wins_over_the_file_and_the_file_over_what_is_usual(tmp_path: Path) -> None:
    path = fixed_network(tmp_path / "body.onnx", {"output": zeros(CELLS_64, 6)})
    path.with_suffix(".yaml").write_text(
        "input: {color: rgb, pad: 7}\nclasses: [person]\nthresholds: {score: 0.6, iou: 0.7}\nlicence: MIT\n"
    )
    spec = load(path, input={"pad": 9}, thresholds={"score": 0.5}, title="Bodies")
    assert (spec.input.color, spec.input.pad, spec.input.anchor) == ("rgb", 9, "top-left")
    assert (spec.thresholds.score, spec.thresholds.iou, spec.thresholds.max_boxes) == (0.5, 0.7, 300)
    assert ([one.name for one in spec.classes], spec.licence, spec.title) == (["person"], "MIT", "Bodies")


def test_a_description_may_lie_elsewhere(tmp_path: Path) -> None:
    path = color_network(tmp_path / "body.onnx", ONE, [0.0])
    (tmp_path / "other.yaml").write_text("classes: [cat]\n")
    assert [one.name for one in load(path, description="other.yaml").classes] == ["cat"]
    with pytest.raises(ConfigError, match=r"models\.body\.description: .*gone\.yaml: no such file"):
        load(path, description="gone.yaml")


def test_two_channels_and_one_name_are_background_and_the_named(tmp_path: Path) -> None:
    path = color_network(tmp_path / "body.onnx", TWO, [0.0, 0.0], last="Softmax")
    assert [(one.name, one.background) for one in load(path, classes=["person"]).classes] == [
        ("background", True),
        ("person", False),
    ]


def test_a_uint8_network_takes_pixels_as_they_are(tmp_path: Path) -> None:
    path = color_network(tmp_path / "body.onnx", ONE, [0.0], dtype="uint8")
    assert (load(path).input.dtype, load(path).input.scale) == ("uint8", 1.0)


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ("input: {width: 256}", ["float32 ?x3x32x48", "body.yaml says width 256"]),
        ("input: {layout: nhwc}", ["float32 ?x3x32x48", "body.yaml says layout nhwc"]),
        ("input: {dtype: uint8}", ["float32 ?x3x32x48", "body.yaml says dtype uint8"]),
        ("classes: [a, b, c]", ["output has 1 class", "body.yaml names 3"]),
        ("task: detect", ["'scores' is float32 ?x1x32x48", "body.yaml says task detect"]),
        ("output: {decode: logits}", ["passed a Sigmoid", "body.yaml says logits"]),
        ("output: {decode: yolox}", ["task is segment", "body.yaml says decode yolox"]),
        ("output: {names: [mask]}", ["outputs scores", "body.yaml names 'mask'"]),
        ("input: {std: [1, 0, 1]}", ["std of 0", "body.yaml"]),
    ],
)
def test_a_contradiction_names_both_sides_in_one_line(tmp_path: Path, said: str, parts: list[str]) -> None:
    path = color_network(tmp_path / "body.onnx", ONE, [0.0], last="Sigmoid")
    path.with_suffix(".yaml").write_text(said)
    with pytest.raises(ModelError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith("body.onnx: ")
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert caught.value.exit_code == 4


def test_a_contradiction_with_the_configuration_names_its_key(tmp_path: Path) -> None:
    path = color_network(tmp_path / "body.onnx", ONE, [0.0])
    path.with_suffix(".yaml").write_text("input: {width: 48}")
    with pytest.raises(ModelError, match=r"but models\.body\.input says width 64"):
        load(path, input={"width": 64})


def test_scaling_for_a_uint8_network_is_a_contradiction(tmp_path: Path) -> None:
    path = color_network(tmp_path / "body.onnx", ONE, [0.0], dtype="uint8")
    with pytest.raises(ModelError, match=r"uint8 \?x3x32x48 but models\.body\.input says scale 0\.5"):
        load(path, input={"scale": 0.5})


def test_a_yolox_output_must_have_the_rows_of_its_input(tmp_path: Path) -> None:
    path = fixed_network(tmp_path / "body.onnx", {"output": zeros(100, 85)})
    with pytest.raises(ModelError, match="100x85 but YOLOX at 64x64 has 84 rows"):
        load(path, output={"decode": "yolox"})
    with pytest.raises(ModelError, match=r"of no known detector at 64x64; write output\.decode"):
        load(path)


def test_an_open_size_must_be_said(tmp_path: Path) -> None:
    path = color_network(tmp_path / "body.onnx", ONE, [0.0], size=("h", "w"))
    with pytest.raises(ModelError, match=r"leaves the width open; write input\.width in body\.yaml or models\.body"):
        load(path)
    spec = load(path, input={"width": 320, "height": 192})
    assert (spec.input.width, spec.input.height) == (320, 192)


@pytest.mark.parametrize("task", ["matte", "instances", "keypoints"])
def test_tasks_of_later_versions_are_named_as_such(tmp_path: Path, task: str) -> None:
    path = color_network(tmp_path / "body.onnx", ONE, [0.0])
    with pytest.raises(ModelError, match=f"task {task} is not supported yet by this version; use segment or detect"):
        load(path, task=task)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no network|not an ONNX file"),
        (b"<!DOCTYPE html><html>", "not an ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (bytes(range(256)) * 20, "not an ONNX file"),
    ],
)
def test_a_file_that_is_no_model_gets_one_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "body.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=complaint) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_model_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\.body\.path: .*gone\.onnx: no such file") as caught:
        load(tmp_path / "gone.onnx")
    assert caught.value.exit_code == 2


def test_a_broken_description_is_reported_by_line(tmp_path: Path) -> None:
    path = color_network(tmp_path / "body.onnx", ONE, [0.0])
    path.with_suffix(".yaml").write_text("task: segment\ninput: {widht: 3}\n")
    with pytest.raises(ConfigError, match=r"body\.yaml:2"):
        load(path)


def test_the_demo_model_needs_no_path(tmp_path: Path) -> None:
    path = model_path(Model(path="demo"), tmp_path)
    assert (path.parent.name, path.name) == ("demo", "person.onnx")


def test_the_first_forty_colours_differ() -> None:
    assert len({class_color(index) for index in range(40)}) == 40


@pytest.mark.material
@pytest.mark.parametrize("description", sorted(DESCRIPTIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_described_models_load_and_need_little_describing(models_dir: Path, description: Path) -> None:
    model = {"path": f"{description.stem}.onnx", "description": str(description)}
    if "movenet" in description.stem:
        with pytest.raises(ModelError, match="keypoints is not supported yet"):
            load_spec("body", Model.model_validate(model), models_dir)
        return
    described = load_spec("body", Model.model_validate(model), models_dir)
    bare = load_spec("body", Model(path=model["path"]), models_dir)
    assert (bare.task, bare.decode, bare.batch, bare.outputs, bare.channels_last) == (
        described.task,
        described.decode,
        described.batch,
        described.outputs,
        described.channels_last,
    )
    assert described.batch == (None if "dynbatch" in description.stem else 1)
    assert (described.licence, len(described.classes)) == ("Apache-2.0", len(bare.classes))


@pytest.mark.parametrize("path", ["~nobody-of-that-name/body.onnx", "x" * 300 + ".onnx", "a\x00b.onnx"])
def test_a_path_that_cannot_be_is_a_mistake_of_the_configuration(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"write the whole path|no such file"):
        load_spec("body", Model.model_validate({"path": path}), tmp_path)
