from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrseg.telemetry.bottleneck import find_bottleneck
from vrseg.telemetry.readings import Quantiles, Readings, StageReading

if TYPE_CHECKING:
    from vrseg.pipeline.observer import StageName

NOTHING = Quantiles(p50_s=0.0, p95_s=0.0, p99_s=0.0)


def stage(name: StageName, busy: float, input_full: float = 0.0, output_full: float = 0.0) -> StageReading:
    return StageReading(
        stage=name,
        workers=1,
        items=100,
        busy_ratio=busy,
        input_full_ratio=input_full,
        output_full_ratio=output_full,
        duration=NOTHING,
        wait=NOTHING,
    )


def readings(*stages: StageReading, cores_busy: float = 1.0, window_s: float = 10.0) -> Readings:
    return Readings(window_s=window_s, stages=stages, cores=8, cores_busy=cores_busy)


def test_the_busiest_stage_with_a_full_input_and_room_behind_it_limits() -> None:
    verdict = find_bottleneck(
        readings(stage("decode", 0.61, 0.9, 0.95), stage("infer", 0.97, 0.95, 0.0), stage("encode", 0.3))
    )
    assert (verdict.stage, verdict.kind) == ("infer", "compute")
    assert "inference 97 % busy" in verdict.evidence
    assert "next is decode at 61 %" in verdict.evidence
    assert "1.6 x" in verdict.evidence


def test_a_stage_that_is_held_up_by_the_next_does_not_limit() -> None:
    verdict = find_bottleneck(readings(stage("decode", 0.99, 0.9, 0.9), stage("encode", 0.8, 0.9, 0.0)))
    assert (verdict.stage, verdict.kind) == ("encode", "encode")


def test_when_all_wait_the_source_sets_the_pace() -> None:
    verdict = find_bottleneck(readings(stage("source", 0.99), stage("decode", 0.1), stage("infer", 0.3)))
    assert (verdict.stage, verdict.kind) == ("source", "source")


def test_when_all_cores_are_busy_and_no_stage_stands_out_the_cores_limit() -> None:
    verdict = find_bottleneck(readings(stage("decode", 0.5, 0.3), stage("infer", 0.55, 0.4), cores_busy=7.8))
    assert (verdict.stage, verdict.kind) == ("infer", "cores")


@pytest.mark.parametrize(
    "unclear",
    [
        readings(),
        readings(stage("infer", 0.99, 0.99), window_s=0.1),
        readings(stage("decode", 0.5, 0.4), stage("infer", 0.5, 0.4)),
    ],
)
def test_what_is_not_clear_is_called_unknown(unclear: Readings) -> None:
    assert find_bottleneck(unclear).kind == "unknown"


ratios = st.floats(0, 1)


@given(st.lists(st.tuples(ratios, ratios, ratios), max_size=6), st.floats(0, 8))
def test_a_stage_is_named_only_when_its_input_waits_and_its_output_does_not(
    values: list[tuple[float, float, float]], cores_busy: float
) -> None:
    names: tuple[StageName, ...] = ("decode", "preprocess", "infer", "postprocess", "render", "encode")
    stages = [stage(name, *value) for name, value in zip(names, values, strict=False)]
    verdict = find_bottleneck(readings(*stages, cores_busy=cores_busy))
    if verdict.kind in {"decode", "preprocess", "compute", "encode", "sink"}:
        named = next(one for one in stages if one.stage == verdict.stage)
        assert named.input_full_ratio >= 0.5 > named.output_full_ratio
        assert all(
            other.busy_ratio <= named.busy_ratio
            for other in stages
            if other.input_full_ratio >= 0.5 > other.output_full_ratio
        )
