from __future__ import annotations

import asyncio
import time

import pytest

from vrseg.pipeline.channel import Channel
from vrseg.telemetry.readings import StageMeter


def slept_s(wished_s: float) -> float:
    """Sleep, and say how long it was: a busy machine takes its time."""
    began_s = time.monotonic()
    time.sleep(wished_s)
    return time.monotonic() - began_s


def test_busy_is_work_over_time_and_threads() -> None:
    meter = StageMeter()
    meter.worker_started("decode", None, None)
    meter.worker_started("decode", None, None)
    start = meter.mark()
    took_s = slept_s(0.1)
    meter.stage_done("decode", waited_s=0.01, busy_s=took_s / 2)
    meter.stage_done("decode", waited_s=0.03, busy_s=took_s / 2)
    (decode,) = meter.since(start).stages
    assert decode.busy_ratio == pytest.approx(0.5, rel=0.2)
    assert decode.items == 2
    assert decode.wait.p50_s == pytest.approx(0.02)
    assert decode.duration.p99_s == pytest.approx(took_s / 2)


def test_a_thread_that_is_gone_counts_for_the_time_it_was_there() -> None:
    meter = StageMeter()
    start = meter.mark()
    meter.worker_started("infer", None, None)
    meter.stage_done("infer", waited_s=0.0, busy_s=slept_s(0.05))
    meter.worker_ended("infer", None, None)
    time.sleep(0.1)
    (infer,) = meter.since(start).stages
    assert infer.busy_ratio == pytest.approx(1.0, abs=0.15)
    assert infer.workers == 0


def test_a_full_queue_shows_at_the_stage_behind_it_and_before_it() -> None:
    async def main() -> None:
        meter, queue = StageMeter(), Channel[int]("q", 1)
        meter.worker_started("decode", None, queue)
        meter.worker_started("render", queue, None)
        start = meter.mark()
        await queue.put(1)
        full_s = slept_s(0.1)
        for name in ("decode", "render"):
            meter.stage_done(name, 0.0, 0.0)
        decode, render = meter.since(start).stages
        assert decode.output_full_ratio > 0.9
        assert render.input_full_ratio > 0.9
        meter.worker_ended("render", queue, None)
        await queue.take()
        empty_s = slept_s(0.1)
        decode, render = meter.since(start).stages
        assert render.input_full_ratio > 0.9, "what was full while the thread lived stays true"
        assert decode.output_full_ratio == pytest.approx(full_s / (full_s + empty_s), abs=0.1)

    asyncio.run(main())
