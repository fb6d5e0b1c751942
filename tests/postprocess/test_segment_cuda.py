from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugins.heads import HeadOnGpu, Onlooker, classes, frames_of, inference_of, read_on_cpu, toy_spec

from vrseg.frame import Segmentation
from vrseg.gpu.counts import CountsSnapshot
from vrseg.postprocess.class_map import NOTHING, in_bytes
from vrseg.postprocess.segment_plan import plan_of, window_fields

if TYPE_CHECKING:
    from vrseg.gpu.device import Gpu
    from vrseg.models.spec import Decode, ModelSpec

SIZES = st.tuples(st.integers(2, 100), st.integers(2, 100), st.sampled_from([0, 90, 180, 270]))
CLASSES = replace(toy_spec(), classes=classes(5, 0), decode="logits")


@st.composite
def networks(draw: st.DrawFn) -> tuple[ModelSpec, tuple[int, int, int]]:
    """A network, and channels, height and width of its scores."""
    channels = draw(st.integers(1, 5))
    factor = draw(st.sampled_from([1, 2, 4]))
    spec = toy_spec(
        decode=draw(st.sampled_from(["probability", "logits", "softmax"])),
        classes=classes(channels, draw(st.sampled_from([None, 0, channels - 1]))),
        channels_last=draw(st.booleans()),
    )
    limits = replace(spec.thresholds, mask=draw(st.floats(0.05, 0.95)))
    target = replace(
        spec.input,
        fit=draw(st.sampled_from(["letterbox", "stretch"])),
        anchor=draw(st.sampled_from(["center", "top-left"])),
    )
    return replace(spec, input=target, thresholds=limits), (channels, 48 // factor, 64 // factor)


def answers_of(spec: ModelSpec, shape: tuple[int, ...], *, count: int, dtype: str, seed: int) -> dict[str, Any]:
    """Make scores beyond 0..1 or -6..6, with equal ones and a few that are not numbers."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(-50, 60, (count, *shape)) / (8 if spec.decode == "logits" else 50)
    scores[rng.random(scores.shape) < 0.01] = np.nan
    if spec.channels_last:
        scores = scores.transpose(0, 2, 3, 1)
    elif shape[0] == 1 and seed % 2:
        scores = scores[:, 0]
    return {"scores": scores.astype(dtype)}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    network=networks(),
    sizes=st.lists(SIZES, min_size=1, max_size=4),
    dtype=st.sampled_from(["float32", "float16"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_scores_are_those_of_the_cpu(
    any_gpu: Gpu,
    network: tuple[ModelSpec, tuple[int, int, int]],
    sizes: list[tuple[int, int, int]],
    dtype: str,
    seed: int,
) -> None:
    spec, shape = network
    frames, answers = frames_of(sizes), answers_of(spec, shape, count=len(sizes), dtype=dtype, seed=seed)
    paint = Onlooker(any_gpu)
    with HeadOnGpu(any_gpu, spec, paint=paint) as head:
        found = head.read(frames, answers)
    expected = read_on_cpu(spec, frames, answers)
    off = 1 if spec.decode == "logits" else 0  # exponentials of two libraries
    for frame, seen, wanted in zip(found, paint.seen, expected, strict=True):
        assert isinstance(frame.result, Segmentation)
        assert (frame.result.class_ids, frame.result.threshold) == (wanted.class_ids, wanted.threshold)
        assert frame.result.scores.shape == wanted.scores.shape
        np.testing.assert_allclose(frame.result.scores.astype(int), wanted.scores, atol=off, rtol=0)
        kept = [seen["class_ids"].index(one) for one in wanted.class_ids]
        np.testing.assert_array_equal(seen["scores"][kept], in_bytes(frame.result.scores))
        assert (seen["threshold"], seen["scores"].dtype) == (wanted.threshold >> 8, np.uint8)
        assert set(seen["class_ids"]) - {NOTHING} == set(range(shape[0])) or len(seen["class_ids"]) == 1


@pytest.mark.parametrize("channels", [3, 21, 24, 25, 150])
@pytest.mark.parametrize("decode", ["logits", "softmax", "probability"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("spread", [0.01, 9.0], ids=["uniform", "decided"])
def test_any_number_of_channels_is_read_as_on_the_cpu(
    any_gpu: Gpu, channels: int, decode: Decode, dtype: str, spread: float
) -> None:
    spec = toy_spec(decode=decode, classes=classes(channels))
    frames = frames_of([(64, 48, 0), (62, 48, 0), (61, 48, 0), (48, 64, 90)])
    scores = np.random.default_rng(1).normal(0.3, spread, (4, channels, 48, 64)).astype(dtype)
    with HeadOnGpu(any_gpu, spec) as head:
        found = head.read(frames, {"scores": scores})
    for frame, wanted in zip(found, read_on_cpu(spec, frames, {"scores": scores}), strict=True):
        assert isinstance(frame.result, Segmentation)
        assert frame.result.class_ids == wanted.class_ids
        np.testing.assert_allclose(frame.result.scores.astype(int), wanted.scores, atol=decode == "logits", rtol=0)


def test_what_is_remembered_of_one_batch_serves_no_other(any_gpu: Gpu) -> None:
    spec = toy_spec(classes=classes(3))
    batches = [
        ([(64, 48, 0)], 3, (48, 64), "float32"),
        ([(64, 48, 180)], 3, (48, 64), "float32"),
        ([(48, 64, 90), (64, 48, 0)], 3, (48, 64), "float32"),
        ([(64, 48, 0), (48, 64, 90)], 3, (48, 64), "float32"),
        ([(64, 48, 0)], 3, (24, 32), "float32"),
        ([(64, 48, 0)], 3, (48, 64), "float16"),
        ([(64, 48, 0)], 1, (48, 64), "float32"),
    ]
    with HeadOnGpu(any_gpu, spec) as head:
        for seed, (sizes, channels, plane, dtype) in enumerate(batches * 2):
            frames = frames_of(sizes)
            scores = np.random.default_rng(seed).random((len(sizes), channels, *plane)).astype(dtype)
            found, expected = head.read(frames, {"scores": scores}), read_on_cpu(spec, frames, {"scores": scores})
            for frame, wanted in zip(found, expected, strict=True):
                assert isinstance(frame.result, Segmentation)
                assert frame.result.class_ids == wanted.class_ids
                np.testing.assert_array_equal(frame.result.scores, wanted.scores)


def test_plans_are_shared_by_batches_alike_and_written_by_none() -> None:
    plan = plan_of(
        inference_of(toy_spec(), frames_of([(64, 48, 0)] * 70), {}).placements,
        (70, 1, 48, 64),
        "float32",
        spec=toy_spec(),
        max_batch=70,
        host_results=False,
    )
    assert [launch.frames for launch in plan.launches] == [64, 6]
    assert not any(one.flags.writeable for one in (plan.scores, *(launch.windows for launch in plan.launches)))


@pytest.mark.parametrize("background", [0, 1])
@pytest.mark.parametrize("decode", ["logits", "softmax", "probability"])
def test_of_two_channels_one_is_the_background(any_gpu: Gpu, background: int, decode: Decode) -> None:
    spec = toy_spec(decode=decode, classes=classes(2, background))
    frames, scores = frames_of([(64, 48, 0)]), np.random.default_rng(0).random((1, 2, 48, 64), np.float32)
    with HeadOnGpu(any_gpu, spec) as head:
        (found,) = head.read(frames, {"scores": scores})
    (expected,) = read_on_cpu(spec, frames, {"scores": scores})
    assert isinstance(found.result, Segmentation)
    assert found.result.class_ids == (1 - background,)
    np.testing.assert_allclose(found.result.scores.astype(int), expected.scores, atol=decode == "logits", rtol=0)


def test_a_class_that_is_not_a_number_wins_as_it_does_on_the_cpu(any_gpu: Gpu) -> None:
    scores = np.zeros((1, 5, 48, 64), np.float32)
    scores[0, 1] = 3
    scores[0, 3, 7, 9] = scores[0, 4, 7, 9] = np.nan
    frames = frames_of([(64, 48, 0)])
    with HeadOnGpu(any_gpu, CLASSES) as head:
        (found,) = head.read(frames, {"scores": scores})
    (expected,) = read_on_cpu(CLASSES, frames, {"scores": scores})
    assert isinstance(found.result, Segmentation)
    assert found.result.class_ids == expected.class_ids == (0, 1, 3)


def test_results_may_be_kept_for_ever(any_gpu: Gpu) -> None:
    frames = frames_of([(64, 48, 0)])
    with HeadOnGpu(any_gpu, toy_spec()) as head:
        kept = [head.read(frames, {"scores": np.full((1, 1, 48, 64), n / 40, np.float32)}) for n in range(40)]
    values = [int(frame.result.scores.max()) for (frame,) in kept if isinstance(frame.result, Segmentation)]
    assert values == pytest.approx([65535 * n / 40 for n in range(40)], abs=0.51)


def test_frames_that_nobody_reads_on_the_host_cross_no_bus(any_gpu: Gpu) -> None:
    frames, before = frames_of([(64, 48, 0)] * 2), any_gpu.counts.snapshot()
    with HeadOnGpu(any_gpu, CLASSES, host_results=False) as head:
        found = head.read(frames, {"scores": np.zeros((2, 5, 48, 64), np.float32)})
    assert [frame.result for frame in found] == [None, None]
    assert [frame.picture for frame in found] == ["as decoded"] * 2
    spent = any_gpu.counts.snapshot() - before
    assert (spent.to_host_bytes, spent.pinned_allocations, spent.launches, spent.host_waits) == (0, 0, 1, 1)


def test_a_batch_is_one_launch_one_wait_and_no_allocation(any_gpu: Gpu) -> None:
    frames = frames_of([(64, 48, 0), (48, 64, 90), (64, 32, 0)])
    with HeadOnGpu(any_gpu, CLASSES) as head:
        outputs = {"scores": np.zeros((3, 5, 48, 64), np.float32)}
        head.read(frames[:1], outputs)
        item = [inference_of(CLASSES, frames, head.uploaded(outputs)) for _ in range(5)]
        before = any_gpu.counts.snapshot()
        for one in item:
            list(head.stage.process(one))
        spent = any_gpu.counts.snapshot() - before
    planes = 5 * (48 * 64 + 48 * 64 + 32 * 64)  # each of them a multiple of 256
    assert spent == CountsSnapshot(launches=5, host_waits=5, to_host_bytes=5 * (256 + 2 * planes))


def test_answers_go_back_to_the_engine_with_the_batch(any_gpu: Gpu) -> None:
    spec = toy_spec()
    with HeadOnGpu(any_gpu, spec) as head:
        outputs = head.uploaded({"scores": np.zeros((1, 1, 48, 64), np.float32)})
        list(head.stage.process(inference_of(spec, frames_of([(64, 48, 0)]), outputs)))
        assert outputs["scores"].lease._block is None


def test_a_batch_may_be_larger_than_what_one_launch_takes(any_gpu: Gpu) -> None:
    frames = frames_of([(64, 48, 0)] * 70)
    answers = {"scores": np.linspace(0, 1, 70, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 4), np.float32)}
    with HeadOnGpu(any_gpu, toy_spec(), max_batch=70) as head:
        found = head.read(frames, answers)
    for frame, wanted in zip(found, read_on_cpu(toy_spec(), frames, answers), strict=True):
        assert isinstance(frame.result, Segmentation)
        np.testing.assert_array_equal(frame.result.scores, wanted.scores)


def test_drawn_frames_carry_the_new_picture_and_device_time_is_known(any_gpu: Gpu) -> None:
    paint = Onlooker(any_gpu)
    with HeadOnGpu(any_gpu, toy_spec(), paint=paint) as head:
        found = head.read(frames_of([(64, 48, 0)] * 2), {"scores": np.zeros((2, 1, 48, 64), np.float32)})
        assert getattr(head.stage, "device_s", 0) > 0
        head.stage.close()
    assert (found[0].picture.width, found[1].picture) == (2, "as decoded")
    assert (paint.opened, paint.closed) == (1, 2)


def test_planes_of_frames_lie_one_after_the_other_and_aligned() -> None:
    spec = toy_spec()
    frames = frames_of([(64, 48, 0), (10, 10, 90), (100, 7, 180)])
    fields, size = window_fields(inference_of(spec, frames, {}).placements, 32, 24, 3, spec)
    assert fields["offset"].tolist() == [0, 2304, 2304 + 1792]
    assert fields["width"].tolist() == [32, 24, 32]
    assert size == 2304 + 1792 + 256
