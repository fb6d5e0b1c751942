"""Streams that come and go for as long as a site lasts leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import structlog
from prometheus_client import generate_latest

from vrseg.config.schema import Config, Stream
from vrseg.fleet import BusyError, Fleet, NoSuchStreamError
from vrseg.plan import make_plan
from vrseg.running import Running, models_at_work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.alone

SETTLED_AFTER = 50
MOST_GROWTH = 5 * 2**20


def camera(rate: int = 30) -> dict[str, Any]:
    return {"source": {"uri": f"synthetic:64x48@{rate}"}}


def quiet() -> structlog.stdlib.BoundLogger:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger


def with_fleet(work: Callable[[Fleet, Running], Awaitable[None]], **streams: dict[str, Any]) -> None:
    """Let a fleet live while `work` works on it."""
    config = Config.model_validate(
        {
            "device": "cpu",
            "streams": streams,
        }
    )

    async def main() -> None:
        running = Running(make_plan(config, Path()), quiet())
        fleet = Fleet(running)

        async def then_stop() -> None:
            try:
                await until(lambda: not fleet.closed_for)
                await work(fleet, running)
            finally:
                running.stop.set()

        async with models_at_work(running), asyncio.TaskGroup() as group:
            group.create_task(then_stop())
            await fleet.run()

    asyncio.run(main())


async def until(claim: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not claim():  # noqa: ASYNC110 -- nobody tells a test
            await asyncio.sleep(0.002)


def state(running: Running, name: str) -> str:
    return running.recorder.streams[name].state


def come_and_go(rounds: int) -> None:
    usage: list[int] = []

    async def work(fleet: Fleet, running: Running) -> None:
        await until(lambda: state(running, "host") == "running")
        process = psutil.Process()
        labels_before = generate_latest(running.registry)
        threads, descriptors = threading.active_count(), process.num_fds()
        for number in range(rounds):
            name = f"guest{number}"
            fleet.admit(name, Stream.model_validate(camera(240)))
            await until(lambda name=name: running.recorder.streams[name].ledger.delivered > 0)  # type: ignore[misc]
            fleet.order(name, "remove", 5)
            await until(lambda name=name: name not in fleet.members)  # type: ignore[misc]
            if number >= min(SETTLED_AFTER, rounds // 2):
                gc.collect()
                usage.append(process.memory_info().rss)
        await until(lambda: threading.active_count() <= threads)
        assert process.num_fds() <= descriptors
        left = generate_latest(running.registry).decode()
        assert "guest" not in left
        assert len(left.splitlines()) <= len(labels_before.splitlines()) + 60  # stages that had not worked before
        assert running.plan.config.streams.keys() == {"host"}

    with_fleet(work, host=camera())
    half = len(usage) // 2
    assert max(usage[half:]) - max(usage[:half]) < MOST_GROWTH, usage
    assert usage[-1] - usage[0] < MOST_GROWTH, usage


def test_60_streams_that_came_and_went_leave_nothing() -> None:
    come_and_go(60)


@pytest.mark.slow
def test_500_streams_that_came_and_went_leave_nothing() -> None:
    come_and_go(500)


def test_a_paused_stream_has_no_source_and_no_thread_and_goes_on_when_it_is_told() -> None:
    async def work(fleet: Fleet, running: Running) -> None:
        await until(lambda: state(running, "a") == "running")
        fleet.order("a", "pause", 5)
        await until(lambda: state(running, "a") == "paused")
        await until(lambda: not [one for one in threading.enumerate() if one.name.startswith("a.")])
        before = running.recorder.streams["a"].ledger.delivered
        await asyncio.sleep(0.2)
        assert running.recorder.streams["a"].ledger.delivered == before
        assert b'vrseg_stream_state{state="paused",stream="a"} 1.0' in generate_latest(running.registry)
        fleet.resume("a")
        await until(lambda: running.recorder.streams["a"].ledger.delivered > before)
        assert state(running, "a") == "running"

    with_fleet(work, a=camera())


def test_one_thing_at_a_time_is_done_to_a_stream() -> None:
    async def work(fleet: Fleet, running: Running) -> None:
        await until(lambda: state(running, "a") == "running")
        fleet.order("a", "restart", 5)
        with pytest.raises(BusyError, match="restart is under way"):
            fleet.order("a", "remove", 5)
        with pytest.raises(BusyError, match="restart is under way"):
            fleet.resume("a")
        with pytest.raises(BusyError, match="named 'a' already"):
            fleet.admit("a", Stream.model_validate(camera()))
        with pytest.raises(NoSuchStreamError, match="'nobody'"):
            fleet.order("nobody", "remove", 5)
        await until(lambda: fleet.members["a"].change is None)
        with fleet.closed("a reload"), pytest.raises(BusyError, match="a reload is under way"):
            fleet.order("a", "remove", 5)

    with_fleet(work, a=camera())


def test_a_restarted_stream_keeps_its_books() -> None:
    async def work(fleet: Fleet, running: Running) -> None:
        ledger = running.recorder.streams["a"].ledger
        await until(lambda: ledger.delivered > 3)
        before = ledger.delivered
        fleet.order("a", "restart", 5)
        await until(lambda: ledger.delivered > before + 3)
        assert running.recorder.streams["a"].ledger is ledger
        assert ledger.unaccounted == 0

    with_fleet(work, a=camera())


def test_who_took_away_the_last_stream_may_bring_another() -> None:
    async def work(fleet: Fleet, running: Running) -> None:
        fleet.order("a", "remove", 5)
        await until(lambda: not fleet.members)
        await asyncio.sleep(0.1)
        fleet.admit("b", Stream.model_validate(camera()))
        await until(lambda: state(running, "b") == "running")

    with_fleet(work, a=camera())


def test_a_file_s_streams_that_have_all_ended_end_the_run() -> None:
    section = {"source": {"uri": "synthetic:64x48@30?frames=3"}}
    config = Config.model_validate({"device": "cpu", "streams": {"a": section}})

    async def main() -> None:
        running = Running(make_plan(config, Path()), quiet())
        async with asyncio.timeout(10), models_at_work(running):
            assert await Fleet(running).run() == []

    asyncio.run(main())
