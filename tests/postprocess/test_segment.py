from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.frames import rgb_frame
from plugins.networks import color_network

from vrseg.config.schema import Model
from vrseg.frame import Frame, Inference, Placement, Segmentation
from vrseg.models.load import load_spec
from vrseg.postprocess.class_map import NOTHING, class_map
from vrseg.postprocess.segment import SegmentHead, in_steps, softmax

if TYPE_CHECKING:
    from pathlib import Path

    from vrseg.models.spec import ModelSpec


def spec_with(tmp_path: Path, channels: int, last: str = "", **keys: Any) -> ModelSpec:
    path = color_network(tmp_path / "body.onnx", [[0.0] * 3] * channels, [0.0] * channels, size=(24, 32), last=last)
    return load_spec("body", Model.model_validate({"path": path.name, **keys}), tmp_path)


def read(spec: ModelSpec, scores: np.ndarray[Any, Any], **place: int) -> Segmentation:
    """Read one frame's scores, which lie in the whole input unless `place` says otherwise."""
    where = {"left": 0, "top": 0, "width": 32, "height": 24, "frame_width": 64, "frame_height": 48} | place
    frame = rgb_frame(np.zeros((where["frame_height"], where["frame_width"], 3), np.uint8))
    placement = Placement(**where)
    head = SegmentHead(spec)
    head.open()
    (out,) = head.process(
        Inference(frames=(frame,), placements=(placement,), outputs={spec.outputs[0]: scores[None].astype(np.float32)})
    )
    head.close()
    assert out == replace(frame, result=out.result)
    assert isinstance(out.result, Segmentation)
    return out.result


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.95])
def test_a_score_exceeds_the_threshold_where_the_probability_does(tmp_path: Path, threshold: float) -> None:
    spec = spec_with(tmp_path, 1, "Sigmoid", thresholds={"mask": threshold})
    probability = np.linspace(0, 1, 24 * 32).reshape(1, 24, 32)
    found = read(spec, probability)
    assert found.class_ids == (0,)
    unsure = np.abs(probability - threshold) < 0.5 / 65535
    np.testing.assert_array_equal((found.scores > found.threshold)[~unsure], (probability > threshold)[~unsure])


def test_half_is_the_exact_border_of_the_usual_threshold() -> None:
    below, half, above = np.float32(0.49999), np.float32(0.5), np.float32(0.5001)
    assert (in_steps(np.array([below, half, above], np.float32)) > 32767).tolist() == [False, False, True]
    assert in_steps(np.array([-3, 0, 1, 7, np.nan], np.float32)).tolist() == [0, 0, 65535, 65535, 0]


def test_logits_of_one_channel_pass_a_sigmoid(tmp_path: Path) -> None:
    logits = np.linspace(-200, 200, 24 * 32).reshape(1, 24, 32)
    found = read(spec_with(tmp_path, 1), logits)
    np.testing.assert_allclose(found.scores, 65535 / (1 + np.exp(-logits)), atol=0.55)


@pytest.mark.parametrize("last", ["", "Softmax"])
@pytest.mark.parametrize("background", [0, 1])
def test_two_channels_are_one_class_against_the_background(tmp_path: Path, last: str, background: int) -> None:
    names: list[dict[str, Any]] = [{"name": "a"}, {"name": "b"}]
    names[background]["background"] = True
    logits = np.random.default_rng(0).normal(0, 3, (2, 24, 32))
    powers = np.exp(logits)
    probability = powers / powers.sum(axis=0)
    found = read(spec_with(tmp_path, 2, last, classes=names), probability if last else logits)
    assert found.class_ids == (1 - background,)
    np.testing.assert_allclose(found.scores[0], probability[1 - background] * 65535, atol=0.55)


@pytest.mark.parametrize("last", ["", "Softmax"])
def test_only_classes_that_win_somewhere_and_the_background_are_kept(tmp_path: Path, last: str) -> None:
    names = [{"name": "nothing", "background": True}, "sky", "road", "car", "tree"]
    logits = np.full((5, 24, 32), -5.0)
    logits[2, :12] = 4
    logits[4, 12:] = 6
    powers = np.exp(logits)
    found = read(spec_with(tmp_path, 5, last, classes=names), powers / powers.sum(axis=0) if last else logits)
    assert found.class_ids == (0, 2, 4)
    winners = class_map(found, 32, 24)
    assert (winners[:12] == 2).all()
    assert (winners[12:] == 4).all()


def test_independent_probabilities_leave_room_for_nothing(tmp_path: Path) -> None:
    probability = np.full((3, 24, 32), 0.1)
    probability[1, :, 16:] = 0.8
    found = read(spec_with(tmp_path, 3, "Sigmoid"), probability)
    winners = class_map(found, 32, 24)
    assert set(np.unique(winners)) == {1, NOTHING}
    assert (winners[:, 16:] == 1).all()


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_padding_of_a_letterbox_is_cut_off_at_any_resolution_of_the_scores(tmp_path: Path, factor: int) -> None:
    scores = np.zeros((1, 24 // factor, 32 // factor))
    scores[0, 4 // factor : 20 // factor, 8 // factor : 24 // factor] = 1
    found = read(spec_with(tmp_path, 1, "Sigmoid"), scores, left=8, top=4, width=16, height=16)
    assert found.scores.shape == (1, 16 // factor, 16 // factor)
    assert (found.scores == 65535).all()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_scores_are_turned_back_to_the_frame_s_own_orientation(tmp_path: Path, rotation: int) -> None:
    coded = np.zeros((24, 32)) if rotation in (0, 180) else np.zeros((32, 24))
    coded[: len(coded) // 2, : coded.shape[1] // 2] = 1  # top left of the coded frame
    upright = np.rot90(coded, -rotation // 90)
    found = read(spec_with(tmp_path, 1, "Sigmoid"), upright[None], rotation_deg=rotation)
    np.testing.assert_array_equal(found.scores[0], coded * 65535)


@pytest.mark.parametrize("shape", [(1, 24, 32, 1), (1, 24, 32)])
def test_scores_without_a_channel_axis_or_with_it_last_are_the_same(tmp_path: Path, shape: tuple[int, ...]) -> None:
    spec = replace(spec_with(tmp_path, 1, "Sigmoid"), channels_last=len(shape) == 4)
    values = np.random.default_rng(1).random((24, 32), np.float32)
    frame: Frame = rgb_frame(np.zeros((24, 32, 3), np.uint8))
    placement = Placement(left=0, top=0, width=32, height=24, frame_width=32, frame_height=24)
    outputs = {spec.outputs[0]: values.reshape(shape)}
    (out,) = SegmentHead(spec).process(Inference(frames=(frame,), placements=(placement,), outputs=outputs))
    assert isinstance(out.result, Segmentation)
    np.testing.assert_allclose(out.result.scores[0], values * 65535, atol=0.51)


def test_softmax_survives_large_logits() -> None:
    logits = np.array([1000, 0, -1000], np.float32).reshape(3, 1, 1)
    assert softmax(logits, np.array([0, 2])).ravel().tolist() == [1, 0]
