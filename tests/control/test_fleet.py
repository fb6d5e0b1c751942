"""Streams that come and go for as long as a site lasts leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING

import psutil
import pytest
from plugins.fleets import camera, running_of, state, until, with_fleet
from prometheus_client import generate_latest

from vrseg.config.schema import Stream
from vrseg.fleet import BusyError, Fleet, NoSuchStreamError
from vrseg.running import models_at_work

if TYPE_CHECKING:
    from vrseg.running import Running

pytestmark = pytest.mark.alone

SETTLED_AFTER = 50
MOST_GROWTH = 5 * 2**20


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


@pytest.mark.parametrize("rounds", [30, pytest.param(500, marks=pytest.mark.slow)])
def test_streams_that_came_and_went_leave_nothing(rounds: int) -> None:
    come_and_go(rounds)


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
    async def main() -> None:
        running = running_of(a={"source": {"uri": "synthetic:64x48@30?frames=3"}})
        async with asyncio.timeout(10), models_at_work(running):
            assert await Fleet(running).run() == []

    asyncio.run(main())
