"""What lives as long as the process: registry, recorder, and the networks at work."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from vrseg.assembly import credits_for, max_batch_of, model_stages, queue_rule
from vrseg.errors import VrsegError
from vrseg.gpu.nvml import GpuSampler
from vrseg.pipeline.ledger import Ledger
from vrseg.pipeline.model import ModelRunner
from vrseg.telemetry.collector import PipelineCollector
from vrseg.telemetry.gpu import GpuCollector
from vrseg.telemetry.metrics import Metrics
from vrseg.telemetry.recorder import SAMPLE_INTERVAL_S, Recorder
from vrseg.version import __version__
from vrseg.viewing.views import Views
from vrseg.watching import Watches, WatchesCollector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    import structlog

    from vrseg.gpu.device import Gpu
    from vrseg.plan import Plan
    from vrseg.stage import ResultSink


class Running:
    """Everything that lives as long as the process: registry, recorder, models, and the wish to stop."""

    def __init__(
        self,
        plan: Plan,
        log: structlog.stdlib.BoundLogger,
        extra_results: Mapping[str, tuple[ResultSink, ...]] | None = None,
    ) -> None:
        self.plan = plan
        """What runs now; a reload puts another one in its place."""
        self.log = log
        self.extra_results = extra_results or {}
        """Sinks beside the configured ones, by stream."""
        self.stop = asyncio.Event()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.recorder = Recorder(self.metrics, log)
        self.models: dict[str, ModelRunner] = {}
        """Those that are loaded, by name."""
        self.registry.register(PipelineCollector(self.recorder))
        self.watches = Watches(log, plan.base_dir)
        self.views = Views(plan.backend)
        """For those who look in."""
        self.recorder.on_stream_state = self.watches.stream_state
        self.registry.register(WatchesCollector(self.watches))
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

    def watch_stream(self, name: str) -> Ledger:
        """Open the books of a stream of the plan, and show them."""
        section = self.plan.config.streams[name]
        backend, max_batch = self.plan.backend, max_batch_of(self.plan.config, section)
        deadline_s = queue_rule(section, backend, live=self.plan.live[name]).max_age_s
        ledger = Ledger(name, credits_for(max_batch, backend), self.recorder, deadline_s=deadline_s)
        self.recorder.add_stream(ledger)
        return ledger

    def not_ready(self) -> list[str]:
        """Reasons why this is not the moment to send traffic here; empty when there are none."""
        reasons = [f"model {name} is loading" for name in self.plan.config.models if name not in self.models]
        if self.stop.is_set():
            reasons.append("draining")
        return reasons


class Models:
    """Loads networks and keeps them at work, in a task group of somebody else."""

    def __init__(self, running: Running, group: asyncio.TaskGroup) -> None:
        self._running = running
        self._group = group
        self._at_work: list[ModelRunner] = []

    async def load(self, plan: Plan, name: str) -> ModelRunner:
        """Return a model of `plan` when it is warm. It is at work until it is unloaded; if it fails, so does the group.

        Raises:
            VrsegError: it did not load; nothing is left of it.
        """
        running = self._running
        running.log.info("model loading", model=name, path=str(plan.specs[name].path))
        stages = model_stages(
            name,
            plan.config,
            plan.specs[name],
            plan.backend,
            read_by=running.extra_results,
            niceness=plan.niceness,
        )
        runner = ModelRunner(stages, running.recorder)
        loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = self._group.create_task(self._keep(runner, loaded))
        try:
            await loaded
        except asyncio.CancelledError:
            task.cancel()
            raise
        self._at_work.append(runner)
        return runner

    def unload(self, runner: ModelRunner) -> None:
        """Let a model go, once the streams that it still serves have ended."""
        self._at_work.remove(runner)
        runner.close()

    def unload_all(self) -> None:
        """Let all models go."""
        for runner in list(self._at_work):
            self.unload(runner)

    async def _keep(self, runner: ModelRunner, loaded: asyncio.Future[None]) -> None:
        async def tell() -> None:
            await runner.ready.wait()
            if not loaded.done():
                loaded.set_result(None)

        telling = asyncio.create_task(tell())
        try:
            await runner.run()
        except Exception as error:
            if runner.ready.is_set() or loaded.done():
                raise
            loaded.set_exception(first_error(error) if isinstance(error, BaseExceptionGroup) else error)
        finally:
            telling.cancel()


@asynccontextmanager
async def models_at_work(running: Running) -> AsyncIterator[Models]:
    """Load all models of the plan, serve with them inside the block, and let them finish after it."""
    if running.gpu_sampler is not None:
        running.gpu_sampler.open()
    try:
        async with asyncio.TaskGroup() as group:
            sampler = group.create_task(_sample(running.recorder))
            models = Models(running, group)
            running.models.update(await load_models(models, running.plan, running.plan.config.models))
            running.recorder.engines = engines_of(running.plan)
            # What is here now stays: the collector need not look at it again while frames wait.
            gc.collect()
            gc.freeze()
            try:
                yield models
            finally:
                gc.unfreeze()  # else it lives until the interpreter is taken down, where FFmpeg's objects crash
                models.unload_all()
                sampler.cancel()
    except* VrsegError as group_error:
        raise first_error(group_error) from group_error
    finally:
        await asyncio.to_thread(running.watches.close)  # brokers that hang: the port goes on answering meanwhile
        if running.gpu_sampler is not None:
            running.gpu_sampler.close()


async def load_models(models: Models, plan: Plan, names: Iterable[str]) -> dict[str, ModelRunner]:
    """Load several models beside each other; when one fails, none is left.

    Raises:
        VrsegError: the first that failed.
    """
    loading: dict[str, asyncio.Task[ModelRunner]] = {}
    failure: VrsegError | None = None
    try:
        async with asyncio.TaskGroup() as group:
            loading |= {name: group.create_task(models.load(plan, name)) for name in names}
    except* VrsegError as errors:
        failure = first_error(errors)
    if failure is None:
        return {name: task.result() for name, task in loading.items()}
    for task in loading.values():
        if not task.cancelled() and task.exception() is None:
            models.unload(task.result())
    raise failure


def engines_of(plan: Plan) -> dict[str, str]:
    """Tell which engine each model has."""
    return {name: plan.backend.engine_name(model) for name, model in plan.config.models.items()}


async def _sample(recorder: Recorder) -> None:
    while True:
        await asyncio.sleep(SAMPLE_INTERVAL_S)
        recorder.sample()


def first_error(group: BaseExceptionGroup[VrsegError]) -> VrsegError:
    """Return the first error of a group that may hold groups."""
    found = group.exceptions[0]
    return first_error(found) if isinstance(found, BaseExceptionGroup) else found
