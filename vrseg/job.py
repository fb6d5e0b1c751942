"""One file in, one file out: lossless, in order, as fast as the machine allows."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vrseg.address import local_path, redact, scheme_of
from vrseg.assembly import encode_settings, max_batch_of, result_sink, stream_stages
from vrseg.config.build import build
from vrseg.config.schema import Config, Model, Output, ResultOutput
from vrseg.errors import ConfigError, VrsegError
from vrseg.pipeline.outputs import OutputStages
from vrseg.pipeline.stream import run_stream
from vrseg.plan import make_plan
from vrseg.running import Running, first_error, models_at_work
from vrseg.sink.file import FileSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import structlog

    from vrseg.backend.backend import Backend
    from vrseg.pipeline.ledger import Ledger
    from vrseg.pipeline.stream import StreamStages
    from vrseg.plan import Plan
    from vrseg.stage import Decode
    from vrseg.telemetry.readings import Readings
    from vrseg.telemetry.recorder import Recorder

STREAM = "input"
MODEL = "model"
NICENESS = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be done."""

    input: str
    output: Output
    """Its `uri` is a file."""
    model: Model
    view: str
    results: ResultOutput | None = None
    device: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """What was done."""

    frames: int
    damaged_units: int
    """Parts of the input that could not be decoded, and were passed over."""
    elapsed_s: float
    media_s: float
    """Length of the video."""
    readings: Readings
    recorder: Recorder


def plan_job(job: Job) -> Plan:
    """Check everything that can be checked before the first frame.

    Raises:
        ConfigError, DeviceError, ModelError: the job cannot be done.
    """
    if scheme_of(job.input) not in ("file", "http", "synthetic"):
        raise ConfigError(f"{redact(job.input)}: `process` takes a file; watch a live stream with `vrseg run`")
    source, target = Path(local_path(job.input)), Path(job.output.uri)
    if source.exists() and target.exists() and source.samefile(target):
        raise ConfigError(f"{target}: input and output are the same file; choose another output")
    stream = {
        "source": {"uri": job.input},
        "model": MODEL,
        "view": job.view,
        "queue": {"policy": "block"},
        "outputs": [job.output],
        "results": [job.results] if job.results else [],
    }
    config = build(Config, {"device": job.device, "models": {MODEL: job.model}, "streams": {STREAM: stream}})
    plan = make_plan(config, Path.cwd(), niceness=NICENESS)
    if plan.live[STREAM]:
        raise ConfigError(f"{redact(job.input)}: `process` takes a file; watch a live stream with `vrseg run`")
    return plan


async def run_job(
    job: Job, plan: Plan, log: structlog.stdlib.BoundLogger, *, on_start: Callable[[Recorder, Ledger], None]
) -> JobReport:
    """Do the job. The output appears under its name only when all frames are in it.

    Raises:
        VrsegError: the input, the model or the output failed; nothing is left under the output's name.
    """
    running = Running(plan, log)
    recorder = running.recorder
    ledger = running.watch_stream(STREAM)
    with _cancelled_by(signal.SIGINT, signal.SIGTERM):
        async with models_at_work(running):
            on_start(recorder, ledger)
            start, started_s = recorder.meter.mark(), time.monotonic()
            try:
                await run_stream(_stages(job, plan), running.models[MODEL], ledger, recorder, running.stop)
            except* VrsegError as group:
                error: VrsegError | None = first_error(group)
            else:
                error = None
            elapsed_s, readings = time.monotonic() - started_s, recorder.meter.since(start)
            if error is not None:
                raise error
    info = recorder.streams[STREAM].info
    rate = float(info.frame_rate) if info and info.frame_rate else 0.0
    return JobReport(
        frames=ledger.delivered,
        damaged_units=recorder.streams[STREAM].damaged_units,
        elapsed_s=elapsed_s,
        media_s=ledger.delivered / rate if rate else 0.0,
        readings=readings,
        recorder=recorder,
    )


def _stages(job: Job, plan: Plan) -> StreamStages:
    section, spec = plan.config.streams[STREAM], plan.specs[MODEL]
    base = stream_stages(
        STREAM,
        section,
        spec,
        plan.backend,
        plan.base_dir,
        live=False,
        max_batch=max_batch_of(plan.config, section),
        niceness=plan.niceness,
    )
    source = Path(local_path(job.input))
    carry = source if scheme_of(job.input) == "file" and source.is_file() else None
    sink = FileSink(Path(job.output.uri), codec=job.output.codec, replace=True, carry=carry)
    results = (result_sink(job.results, spec, plan.base_dir, whole=True),) if job.results else ()
    return replace(
        base,
        ingest=replace(base.ingest, make_decoder=partial(_decoder, plan.backend)),
        outputs=(
            OutputStages(encode=plan.backend.make_encoder(encode_settings(job.output, live=False)), sinks=(sink,)),
        ),
        results=results,
    )


def _decoder(backend: Backend, first_index: int) -> Decode:
    return backend.make_file_decoder(STREAM, live=False, first_index=first_index)


@contextmanager
def _cancelled_by(*numbers: signal.Signals) -> Iterator[None]:
    """Within the block, these signals cancel the running task, so that unfinished files are removed.

    SIGINT too: Python's own way raises KeyboardInterrupt at a second one, wherever the loop is, and skips the removal.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 -- a coroutine always runs in a task
    for number in numbers:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
            if task.cancelling():
                signal.signal(number, signal.SIG_IGN)  # said once is enough: the process is about to end
