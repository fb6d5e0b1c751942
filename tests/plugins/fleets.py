"""A fleet of streams within the test's own process."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from vrseg.config.schema import Config
from vrseg.fleet import Fleet
from vrseg.plan import make_plan
from vrseg.running import Running, models_at_work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vrseg.plan import Plan


def camera(rate: int = 30, **section: Any) -> dict[str, Any]:
    return {"source": {"uri": f"synthetic:64x48@{rate}?figures=0"}, **section}


def plan_of(**streams: dict[str, Any]) -> Plan:
    return make_plan(Config.model_validate({"device": "cpu", "streams": streams}), Path())


def running_of(**streams: dict[str, Any]) -> Running:
    """Return what would run these streams; it says nothing but errors."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return Running(plan_of(**streams), structlog.get_logger())


def with_fleet(
    work: Callable[[Fleet, Running], Awaitable[None]],
    prepare: Callable[[Running], object] = lambda _running: None,
    **streams: dict[str, Any],
) -> None:
    """Let a fleet live while `work` works on it."""

    async def main() -> None:
        running = running_of(**streams)
        prepare(running)
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
