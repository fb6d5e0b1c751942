"""The daemon: models, streams, HTTP port and signals, put together and taken apart."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrseg.config.show import redacted
from vrseg.fleet import Fleet
from vrseg.heap import give_back_often
from vrseg.notify import Watched, service_manager
from vrseg.reload import Reloads, watch_file
from vrseg.running import Running, models_at_work
from vrseg.server.app import serve_http
from vrseg.server.control import Control, control_routes
from vrseg.server.health import Health
from vrseg.server.live import live_routes
from vrseg.server.openapi import with_document
from vrseg.server.pages import page_routes
from vrseg.server.preview import preview_routes
from vrseg.server.site import Site, site_routes
from vrseg.signals import drain_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import structlog
    from aiohttp.web import RouteDef

    from vrseg.errors import VrsegError
    from vrseg.plan import Plan
    from vrseg.reload import ReadPlan
    from vrseg.server.route import Route
    from vrseg.stage import ResultSink


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """Where a plan came from."""

    path: Path
    read: ReadPlan


async def run_daemon(
    plan: Plan,
    log: structlog.stdlib.BoundLogger,
    *,
    on_listening: Callable[[str, Running], None],
    extra_results: Mapping[str, tuple[ResultSink, ...]] | None = None,
    file: PlanFile | None = None,
) -> int:
    """Run all streams of the plan until they end or a signal says so; return the exit code.

    Args:
        plan: what to begin with.
        log: of the process.
        on_listening: told the address of the page.
        extra_results: sinks beside the configured ones, by stream.
        file: what a reload reads; None where nothing can be reloaded.

    Raises:
        VrsegError: it could not start, or a model or device failed.
    """
    running = Running(plan, log, extra_results)
    fleet = Fleet(running)
    reloads = Reloads(running, fleet, file.read) if file is not None else None
    health = Health(plan.backend.gpu)
    with drain_on_signals(running.stop, lambda: running.plan.config.drain_timeout, log), _on_hangup(reloads):
        async with (
            running.views.at_work(),
            health.at_work(),
            serve_http(_routes(running, fleet, reloads, health), plan.config.server, plan.base_dir) as address,
        ):
            on_listening(address, running)
            async with (
                service_manager(_watched(running, health), log) as manager,
                models_at_work(running) as models,
                asyncio.TaskGroup() as group,
            ):
                manager.ready()
                beside: list[asyncio.Task[None]] = [group.create_task(give_back_often())]
                if file is not None and reloads is not None:
                    reloads.on_begin, reloads.on_end = manager.reloading, manager.ready
                    beside.append(group.create_task(reloads.run(models)))
                    watching = watch_file(file.path, reloads.ask, lambda: running.plan.config.watch)
                    beside.append(group.create_task(watching))
                failures = await fleet.run()
                for task in beside:
                    task.cancel()
    return exit_code(failures, streams=len(fleet.members))


def _watched(running: Running, health: Health) -> Watched:
    return Watched(
        recorder=running.recorder,
        config=lambda: running.plan.config,
        not_ready=running.not_ready,
        stop=running.stop,
        ill=health.ill,
    )


def _routes(running: Running, fleet: Fleet, reloads: Reloads | None, health: Health) -> list[Route | RouteDef]:
    site = Site(
        registry=running.registry,
        recorder=running.recorder,
        not_ready=running.not_ready,
        ill=health.ill,
        config=lambda: redacted(running.plan.config),
        device=running.plan.backend.device,
    )
    described = (
        site_routes(site),
        control_routes(Control(running, fleet, reloads)),
        preview_routes(running.views),
        live_routes(running.views),
    )
    return [*page_routes(), *with_document([route for table in described for route in table])]


@contextmanager
def _on_hangup(reloads: Reloads | None) -> Iterator[None]:
    """Within the block, SIGHUP asks for a reload, where there is something to reload."""
    if reloads is None:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reloads.ask)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def exit_code(failures: list[VrsegError], *, streams: int) -> int:
    """Return the code of what failed when nothing worked, 1 when something did, 0 when everything did."""
    if not failures:
        return 0
    return failures[0].exit_code if len(failures) == streams else 1
