"""The daemon: models, streams, HTTP port and signals, put together and taken apart."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from vrseg.assembly import backoff_of, credits_for, is_live, model_stages, queue_rule, stream_stages
from vrseg.backend.choose import choose_backend
from vrseg.config.load import redacted
from vrseg.errors import ConfigError, DeviceError, ModelError, StreamLostError, TransientError, VrsegError
from vrseg.gpu.nvml import GpuSampler
from vrseg.models.load import load_spec
from vrseg.pipeline.backoff import wait_or_stop
from vrseg.pipeline.ledger import Ledger
from vrseg.pipeline.model import ModelRunner
from vrseg.pipeline.stream import run_stream
from vrseg.server.app import serve_http
from vrseg.server.site import Site, site_routes
from vrseg.signals import drain_on_signals
from vrseg.telemetry.collector import PipelineCollector
from vrseg.telemetry.gpu import GpuCollector
from vrseg.telemetry.metrics import Metrics
from vrseg.telemetry.recorder import SAMPLE_INTERVAL_S, Recorder
from vrseg.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    import structlog

    from vrseg.backend.backend import Backend
    from vrseg.config.schema import Config
    from vrseg.gpu.device import Gpu
    from vrseg.models.spec import ModelSpec
    from vrseg.pipeline.stream import StreamStages
    from vrseg.stage import ResultSink


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A configuration that has been looked at from all sides: it can be started."""

    config: Config
    base_dir: Path
    """Relative paths in the configuration count from here."""
    backend: Backend
    specs: dict[str, ModelSpec]
    """By model name."""
    live: dict[str, bool]
    """By stream name."""
    niceness: int
    """See `StreamStages.niceness`."""


def make_plan(config: Config, base_dir: Path, *, niceness: int = 0) -> Plan:
    """Choose the device, read the models, look at the sources. Opens nothing.

    Raises:
        ConfigError, DeviceError, ModelError: the plan cannot work.
    """
    backend = choose_backend(config.device)
    specs = {name: load_spec(name, model, base_dir) for name, model in config.models.items()}
    live = {name: is_live(stream) for name, stream in config.streams.items()}
    for name, stream in config.streams.items():
        # made once for their constructors' objections, before anything runs
        spec = specs[stream.model] if stream.model else None
        stream_stages(name, stream, spec, backend, base_dir, live=live[name])
    return Plan(config=config, base_dir=base_dir, backend=backend, specs=specs, live=live, niceness=niceness)


class Running:
    """Everything that lives as long as the process: registry, recorder, models, and the wish to stop."""

    def __init__(
        self,
        plan: Plan,
        log: structlog.stdlib.BoundLogger,
        extra_results: Mapping[str, tuple[ResultSink, ...]],
    ) -> None:
        self.plan = plan
        self.log = log
        self.extra_results = extra_results
        self.stop = asyncio.Event()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.recorder = Recorder(self.metrics, log)
        self.models = {
            name: ModelRunner(
                model_stages(
                    name, plan.config, plan.specs[name], plan.backend, read_by=extra_results, niceness=plan.niceness
                ),
                self.recorder,
            )
            for name in plan.config.models
        }
        self.recorder.engines = {name: plan.backend.engine_name(one) for name, one in plan.config.models.items()}
        self.ledgers = {name: self._ledger(name) for name in plan.config.streams}
        for ledger in self.ledgers.values():
            self.recorder.add_stream(ledger)
        self.registry.register(PipelineCollector(self.recorder))
        self.gpu_sampler = self._watch_gpu(plan.backend.gpu)
        self.metrics.build_info.labels(__version__, plan.backend.device).set(1)
        self.metrics.reload_successful.set(1)

    def _watch_gpu(self, gpu: Gpu | None) -> GpuSampler | None:
        if gpu is None:
            return None
        sampler = GpuSampler(gpu)
        counts = gpu.counts
        self.registry.register(
            GpuCollector(str(gpu.index), lambda: sampler.latest, counts.snapshot, counts.encoder_fallbacks)
        )
        return sampler

    def _ledger(self, stream: str) -> Ledger:
        section = self.plan.config.streams[stream]
        max_batch = self.models[section.model].max_batch if section.model else 1
        deadline_s = queue_rule(section, live=self.plan.live[stream]).max_age_s
        return Ledger(stream, credits_for(max_batch, self.plan.backend), self.recorder, deadline_s=deadline_s)

    async def ill(self) -> str:
        """Tell why the process must be started anew; empty when it is well."""
        return ""

    def not_ready(self) -> list[str]:
        """Reasons why this is not the moment to send traffic here; empty when there are none."""
        reasons = [f"model {name} is loading" for name, model in self.models.items() if not model.ready.is_set()]
        if self.stop.is_set():
            reasons.append("draining")
        return reasons


async def run_daemon(
    plan: Plan,
    log: structlog.stdlib.BoundLogger,
    *,
    on_listening: Callable[[str, Running], None],
    extra_results: Mapping[str, tuple[ResultSink, ...]] | None = None,
) -> int:
    """Run all streams of the plan until they end or a signal says so; return the exit code.

    `extra_results` are sinks beside the configured ones, by stream.

    Raises:
        VrsegError: it could not start, or a model or device failed.
    """
    running = Running(plan, log, extra_results or {})
    site = Site(
        registry=running.registry,
        recorder=running.recorder,
        not_ready=running.not_ready,
        ill=running.ill,
        config=lambda: redacted(plan.config),
        device=plan.backend.device,
    )
    server = plan.config.server
    with drain_on_signals(running.stop, plan.config.drain_timeout, log):
        async with serve_http(site_routes(site), server.listen, server.token) as address:
            on_listening(address, running)
            async with models_at_work(running):
                failures = await run_streams(running)
    return exit_code(failures, streams=len(plan.config.streams))


@asynccontextmanager
async def models_at_work(running: Running) -> AsyncIterator[None]:
    """Load all models, serve with them inside the block, and let them finish after it."""
    if running.gpu_sampler is not None:
        running.gpu_sampler.open()
    try:
        async with asyncio.TaskGroup() as group:
            sampler = group.create_task(_sample(running.recorder))
            for name, model in running.models.items():
                running.log.info("model loading", model=name, path=str(running.plan.specs[name].path))
                group.create_task(model.run())
            for model in running.models.values():
                await model.ready.wait()
            # What is here now stays: the collector need not look at it again while frames wait.
            gc.collect()
            gc.freeze()
            try:
                yield
            finally:
                gc.unfreeze()  # else it lives until the interpreter is taken down, where FFmpeg's objects crash
                for model in running.models.values():
                    model.close()
                sampler.cancel()
    except* VrsegError as group_error:
        raise first_error(group_error) from group_error
    finally:
        if running.gpu_sampler is not None:
            running.gpu_sampler.close()


async def run_streams(running: Running) -> list[VrsegError]:
    """Run every stream to its end; return what made some of them fail."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(keep_stream(running, name)) for name in running.plan.config.streams]
    return [error for task in tasks if (error := task.result()) is not None]


async def keep_stream(running: Running, name: str) -> VrsegError | None:
    """Run one stream, life after life, until it ends, is told to stop, or is beyond help; return what it died of."""
    plan, recorder = running.plan, running.recorder
    section, live = plan.config.streams[name], plan.live[name]
    spec = plan.specs[section.model] if section.model else None
    model = running.models[section.model] if section.model else None
    ledger = running.ledgers[name]

    def stages() -> StreamStages:
        configured = stream_stages(name, section, spec, plan.backend, plan.base_dir, live=live, niceness=plan.niceness)
        return replace(configured, results=configured.results + running.extra_results.get(name, ()))

    backoff = backoff_of(section.source)
    delays = backoff.delays_s()
    while True:
        delivered_before = ledger.delivered
        error = await _one_life(stages(), model, ledger, running)
        if error is None or (running.stop.is_set() and isinstance(error, TransientError)):
            recorder.stream_state(name, "ended")
            return None
        if isinstance(error, DeviceError):
            raise error  # nothing else will work on this device either: the process ends, for a clean one to begin
        beyond_help = isinstance(error, (ConfigError, ModelError, StreamLostError))
        if beyond_help or not live or running.stop.is_set():
            recorder.stream_state(name, "failed", str(error))
            return error
        if ledger.delivered > delivered_before:
            delays = backoff.delays_s()
        delay_s = next(delays, None)
        if delay_s is None:
            recorder.stream_state(name, "failed", str(error))
            return StreamLostError(f"stream {name}: gave up after {backoff.attempts} tries: {error}")
        recorder.stream_reconnecting(name, error.reason if isinstance(error, TransientError) else "media")
        recorder.stream_state(name, "reconnecting", f"{error}; next try in {delay_s:.1f} s")
        await wait_or_stop(running.stop, delay_s)


async def _one_life(
    stages: StreamStages, model: ModelRunner | None, ledger: Ledger, running: Running
) -> VrsegError | None:
    error: VrsegError | None = None
    try:
        await run_stream(stages, model, ledger, running.recorder, running.stop)
    except* VrsegError as group:
        error = first_error(group)
    return error


async def _sample(recorder: Recorder) -> None:
    while True:
        await asyncio.sleep(SAMPLE_INTERVAL_S)
        recorder.sample()


def first_error(group: BaseExceptionGroup[VrsegError]) -> VrsegError:
    """Return the first error of a group that may hold groups."""
    found = group.exceptions[0]
    return first_error(found) if isinstance(found, BaseExceptionGroup) else found


def exit_code(failures: list[VrsegError], *, streams: int) -> int:
    """Return the code of what failed when nothing worked, 1 when something did, 0 when everything did."""
    if not failures:
        return 0
    return failures[0].exit_code if len(failures) == streams else 1
