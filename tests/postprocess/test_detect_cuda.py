from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugins.heads import HeadOnGpu, Onlooker, classes, frames_of, inference_of, read_on_cpu, toy_spec

from vrseg.errors import ModelError
from vrseg.frame import Detections
from vrseg.gpu.counts import CountsSnapshot
from vrseg.postprocess.detect_cuda import kept_layout, places_of

if TYPE_CHECKING:
    from vrseg.frame import Frame
    from vrseg.gpu.device import Gpu
    from vrseg.models.spec import Decode, ModelSpec

SIZES = st.tuples(st.integers(8, 200), st.integers(8, 200), st.sampled_from([0, 90, 180, 270]))
CELLS = 62  # of the grids of 64 x 48: 8 x 6, 4 x 3, 2 x 1
SPEC = replace(toy_spec(), task="detect", outputs=("rows",), classes=classes(3))


@dataclass(frozen=True, slots=True)
class Scene:
    """What a network saw, before it is written down in the way of its family."""

    centres: Any
    """(N, A, 4): centre and size in input pixels."""
    scores: Any
    """(N, A, 3) of each class."""


@st.composite
def networks(draw: st.DrawFn) -> ModelSpec:
    decode: Decode = draw(st.sampled_from(["yolox", "yolov5", "yolov8", "end2end"]))
    outputs = draw(st.sampled_from([("rows",), ("boxes", "scores", "labels")])) if decode == "end2end" else ("rows",)
    limits = replace(
        SPEC.thresholds,
        score=draw(st.sampled_from([0.0, 0.3, 0.61])),
        iou=draw(st.sampled_from([0.2137, 0.4521, 0.7003])),
        max_boxes=draw(st.sampled_from([1, 5, 30])),
    )
    target = replace(
        SPEC.input,
        fit=draw(st.sampled_from(["letterbox", "stretch"])),
        anchor=draw(st.sampled_from(["center", "top-left"])),
    )
    return replace(SPEC, decode=decode, outputs=outputs, thresholds=limits, input=target)


def scene(count: int, seed: int, rows: int = CELLS) -> Scene:
    """Make crowds of boxes that overlap, many with equal scores; most score nothing."""
    rng = np.random.default_rng(seed)
    crowds = rng.uniform(0, 64, (count, 4, 2))[:, rng.integers(0, 4, rows)]
    centres = np.concatenate([crowds + rng.normal(0, 3, crowds.shape), rng.uniform(4, 24, (count, rows, 2))], axis=2)
    scores = rng.integers(-2, 9, (count, rows, 3)) / 8 * (rng.random((count, rows, 1)) < 0.6)
    return Scene(centres, scores)


def written(seen: Scene, spec: ModelSpec, dtype: str, seed: int) -> dict[str, Any]:
    """Write it down, with a few numbers that no network should give."""
    rng = np.random.default_rng(seed + 1)
    count, rows, _ = seen.scores.shape
    best = seen.scores.max(axis=2)
    half = seen.centres[..., 2:] / 2
    corners = np.concatenate([seen.centres[..., :2] - half, seen.centres[..., :2] + half], axis=2)
    if spec.decode == "yolox":
        sizes = np.log(seen.centres[..., 2:] / 8)
        boxes = np.concatenate([rng.uniform(-1, 2, (count, rows, 2)), sizes], axis=2)
    else:
        boxes = corners if spec.decode == "end2end" else seen.centres
    odd = rng.random(boxes.shape) < 0.01
    boxes = np.where(odd, rng.choice([np.nan, np.inf, 1e7, -60.0], boxes.shape), boxes)
    scores = np.where(rng.random(seen.scores.shape) < 0.01, rng.choice([np.nan, 2e6], seen.scores.shape), seen.scores)
    if spec.decode == "yolov8":
        table = np.concatenate([boxes, scores], axis=2).transpose(0, 2, 1)
    elif spec.decode == "end2end":
        labels = rng.integers(-1, 3, (count, rows))
        if len(spec.outputs) == 3:
            kind = ["int64", "int32", dtype][seed % 3]
            return {"boxes": _as(boxes, dtype), "scores": _as(best, dtype)[..., None], "labels": labels.astype(kind)}
        table = np.concatenate([boxes, best[..., None], labels[..., None]], axis=2)
    else:
        objectness = rng.choice([0.0, 0.5, 0.75, 1.0, np.nan], (count, rows, 1), p=[0.1, 0.2, 0.2, 0.45, 0.05])
        table = np.concatenate([boxes, objectness, scores], axis=2)
    return {"rows": _as(table, dtype)}


def _as(values: Any, dtype: str) -> Any:
    with np.errstate(over="ignore"):  # 1e7 has no 16 bits
        return np.ascontiguousarray(values.astype(dtype))


def assert_same(frame: Frame, expected: Detections, *, rtol: float = 0.0, atol: float = 0.0) -> Detections:
    found = frame.result
    assert isinstance(found, Detections)
    assert found.class_ids.tolist() == expected.class_ids.tolist()
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, rtol=rtol, atol=atol)
    types = [one.dtype.name for one in (found.boxes_xyxy, found.scores, found.class_ids)]
    assert types == ["float32", "float32", "int64"]
    return found


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spec=networks(),
    sizes=st.lists(SIZES, min_size=1, max_size=3),
    dtype=st.sampled_from(["float32", "float16"]),
    seed=st.integers(0, 2**32 - 2),
)
def test_boxes_are_those_of_the_cpu_in_the_same_order(
    any_gpu: Gpu, spec: ModelSpec, sizes: list[tuple[int, int, int]], dtype: str, seed: int
) -> None:
    frames = frames_of(sizes)
    answers = written(scene(len(sizes), seed), spec, dtype, seed)
    paint = Onlooker(any_gpu)
    with HeadOnGpu(any_gpu, spec, paint=paint) as head:
        found = head.read(frames, answers)
    for frame, seen, expected in zip(found, paint.seen, read_on_cpu(spec, frames, answers), strict=True):
        # Exponentials of two libraries differ in their last bit.
        result = assert_same(frame, expected, **({"rtol": 1e-5, "atol": 1e-4} if spec.decode == "yolox" else {}))
        (count,) = seen["count"]
        assert count == len(result)
        np.testing.assert_array_equal(seen["boxes_xyxy"][:count], result.boxes_xyxy)
        np.testing.assert_array_equal(seen["scores"][:count], result.scores)
        np.testing.assert_array_equal(seen["class_ids"][:count], result.class_ids)


def test_what_is_remembered_of_one_batch_serves_no_other(any_gpu: Gpu) -> None:
    spec = replace(SPEC, decode="yolov5")
    batches = [[(64, 48, 0)], [(64, 48, 180)], [(48, 64, 90), (100, 30, 0)], [(100, 30, 0), (48, 64, 90)]]
    with HeadOnGpu(any_gpu, spec) as head:
        for seed, sizes in enumerate(batches * 2):
            frames, answers = frames_of(sizes), written(scene(len(sizes), seed), spec, "float32", seed)
            for frame, expected in zip(head.read(frames, answers), read_on_cpu(spec, frames, answers), strict=True):
                assert_same(frame, expected)


def test_places_are_shared_by_batches_alike_and_written_by_none() -> None:
    placements = inference_of(SPEC, frames_of([(64, 48, 0)] * 70), {}).placements
    first, second = places_of(placements)
    assert places_of(placements) == (first, second)
    assert not first.flags.writeable
    assert not second.flags.writeable


@pytest.mark.parametrize("objects", [0, 1, 700, 2500])
def test_any_number_of_candidates_is_right(any_gpu: Gpu, objects: int) -> None:
    rows = np.zeros((1, 2500, 8), np.float32)
    rng = np.random.default_rng(objects)
    rows[0, rng.permutation(2500)[:objects], 4:] = 1.0  # all equal: the earlier row wins
    rows[0, :, :2] = rng.uniform(4, 44, (2500, 2))
    rows[0, :, 2:4] = rng.uniform(2, 12, (2500, 2))
    spec = replace(SPEC, decode="yolov5", thresholds=replace(SPEC.thresholds, max_boxes=12))
    frames = frames_of([(640, 480, 0)])
    with HeadOnGpu(any_gpu, spec) as head:
        (found,) = head.read(frames, {"rows": rows})
    result = assert_same(found, read_on_cpu(spec, frames, {"rows": rows})[0])
    assert len(result) == min(objects, 12)


def test_boxes_that_overlap_by_just_the_limit_are_two_objects(any_gpu: Gpu) -> None:
    columns = np.zeros((1, 7, 62), np.float32)
    columns[0, :5, 0] = 20, 20, 16, 8, 0.9
    columns[0, :5, 1] = 16, 20, 8, 8, 0.8  # its left half
    columns[0, :5, 2] = 16.25, 20, 8.5, 8, 0.7  # a little more
    spec = replace(SPEC, decode="yolov8", thresholds=replace(SPEC.thresholds, iou=0.5))
    with HeadOnGpu(any_gpu, spec) as head:
        (found,) = head.read(frames_of([(64, 48, 0)]), {"rows": columns})
    assert isinstance(found.result, Detections)
    np.testing.assert_array_equal(found.result.boxes_xyxy, [[12, 16, 28, 24], [12, 16, 20, 24]])


def test_a_batch_is_two_launches_and_only_kept_boxes_cross_the_bus(any_gpu: Gpu) -> None:
    spec = replace(SPEC, decode="yolov8")
    frames = frames_of([(64, 48, 0)] * 3)
    answers = written(scene(3, 7), spec, "float32", 7)
    with HeadOnGpu(any_gpu, spec) as head:
        kept = sum(len(one.result) for one in head.read(frames, answers) if isinstance(one.result, Detections))
        items = [inference_of(spec, frames, head.uploaded(answers)) for _ in range(5)]
        before = any_gpu.counts.snapshot()
        for item in items:
            list(head.stage.process(item))
        spent = any_gpu.counts.snapshot() - before
    assert kept > 3
    assert spent == CountsSnapshot(launches=10, host_waits=5, to_host_bytes=5 * (3 * 4 + kept * 24))


def test_a_batch_may_be_larger_than_what_one_launch_takes(any_gpu: Gpu) -> None:
    spec = replace(SPEC, decode="yolov8")
    frames = frames_of([(64 + n, 48, 0) for n in range(66)])
    answers = written(scene(66, 3), spec, "float32", 3)
    with HeadOnGpu(any_gpu, spec, max_batch=66) as head:
        found = head.read(frames, answers)
    for frame, expected in zip(found, read_on_cpu(spec, frames, answers), strict=True):
        assert_same(frame, expected)


def test_results_may_be_kept_for_ever(any_gpu: Gpu) -> None:
    spec = replace(SPEC, decode="yolov8")
    frames, kept = frames_of([(64, 48, 0)]), []
    answers = [written(scene(1, seed), spec, "float32", seed) for seed in range(20)]
    with HeadOnGpu(any_gpu, spec) as head:
        for answer in answers:
            kept += head.read(frames, answer)
    for frame, answer in zip(kept, answers, strict=True):
        assert_same(frame, read_on_cpu(spec, frames, answer)[0])


def test_rows_that_are_not_those_of_the_yolox_grids_are_refused(any_gpu: Gpu) -> None:
    with (
        HeadOnGpu(any_gpu, replace(SPEC, decode="yolox")) as head,
        pytest.raises(ModelError, match="63 rows, but YOLOX has 62 for an input of 64 x 48"),
    ):
        head.read(frames_of([(64, 48, 0)]), {"rows": np.zeros((1, CELLS + 1, 8), np.float32)})


def test_kept_boxes_of_all_frames_have_room_and_do_not_overlap() -> None:
    layout = kept_layout(3, 5, 256)
    starts = [layout.counts, layout.boxes, layout.scores, layout.classes, layout.end]
    sizes = [3 * 4, 15 * 16, 15 * 4, 15 * 4]
    assert layout.counts == 256
    assert all(end - start >= size for start, end, size in zip(starts, starts[1:], sizes, strict=False))
    assert all(start % 256 == 0 for start in starts)
