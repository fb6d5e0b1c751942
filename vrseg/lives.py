"""One stream, life after life, until it ends, is told to stop, or is beyond help."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING

from vrseg.assembly import backoff_of, max_batch_of, stream_stages
from vrseg.backoff import wait_or_stop
from vrseg.errors import (
    NO_MEMORY,
    ConfigError,
    DeviceError,
    ExhaustedError,
    ModelError,
    StreamLostError,
    TransientError,
    VrsegError,
)
from vrseg.pipeline.stream import run_stream
from vrseg.running import first_error

if TYPE_CHECKING:
    import asyncio

    from vrseg.pipeline.ledger import Ledger
    from vrseg.pipeline.model import ModelRunner
    from vrseg.pipeline.stream import StreamStages
    from vrseg.running import Running


async def keep_stream(running: Running, name: str, ledger: Ledger, stop: asyncio.Event) -> VrsegError | None:
    """Run one stream, life after life, until it ends, is told to stop, or is beyond help; return what it died of.

    Raises:
        DeviceError: nothing else will work on this device either: the process ends, for a clean one to begin.
    """
    plan, recorder = running.plan, running.recorder
    section, live = plan.config.streams[name], plan.live[name]
    model = running.models[section.model] if section.model else None
    backoff = backoff_of(section.source)
    delays = backoff.delays_s()
    while True:
        delivered_before = ledger.delivered
        error = await _one_life(running, name, model, ledger, stop)
        if error is None or (stop.is_set() and isinstance(error, TransientError)):
            return None
        if isinstance(error, DeviceError):
            raise error
        beyond_help = isinstance(error, (ConfigError, ModelError, StreamLostError))
        if beyond_help or not live or stop.is_set():
            return error
        if ledger.delivered > delivered_before:
            delays = backoff.delays_s()
        delay_s = next(delays, None)
        if delay_s is None:
            return StreamLostError(f"stream {name}: gave up after {backoff.attempts} tries: {error}")
        recorder.stream_reconnecting(name, error.reason if isinstance(error, TransientError) else "media")
        recorder.stream_state(name, "reconnecting", f"{error}; next try in {delay_s:.1f} s")
        await wait_or_stop(stop, delay_s)


def _stages(running: Running, name: str) -> StreamStages:
    plan = running.plan
    section = plan.config.streams[name]
    spec = plan.specs[section.model] if section.model else None
    view = running.views.of(name, section, spec)
    configured = stream_stages(
        name,
        section,
        spec,
        plan.backend,
        plan.base_dir,
        live=plan.live[name],
        max_batch=max_batch_of(plan.config, section),
        niceness=plan.niceness,
        watcher=view.live_sink(),
    )
    results = running.watches.results(name, section, spec)
    return replace(configured, results=results + running.extra_results.get(name, ()), taps=view.taps)


async def _one_life(
    running: Running, name: str, model: ModelRunner | None, ledger: Ledger, stop: asyncio.Event
) -> VrsegError | None:
    error: VrsegError | None = None
    try:
        await run_stream(_stages(running, name), model, ledger, running.recorder, stop)
    except* VrsegError as group:
        error = first_error(group)
    except* (MemoryError, BlockingIOError):  # the latter is what FFmpeg says when there is no room for a thread
        if not isinstance(error, DeviceError):  # on which nothing works any more
            error = ExhaustedError(NO_MEMORY)
    if isinstance(error, ExhaustedError):
        gc.collect()  # what failed is held by its own traceback, and so is the memory that it had got
    return error
