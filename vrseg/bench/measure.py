"""How fast each stage is alone, how fast the pipeline is, and how near it comes to what the cores allow.

The bound is cores / sum of the stages' CPU-seconds per frame. A pipeline at its bound wastes nothing: no core ever
idles, and nothing costs CPU time but the stages' own work.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from vrseg.assembly import encode_settings, model_stages, render_stage
from vrseg.job import MODEL, STREAM, Job, plan_job, run_job
from vrseg.sink.file import FileSink
from vrseg.source.open import make_source
from vrseg.telemetry.logs import make_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vrseg.frame import Frame
    from vrseg.plan import Plan
    from vrseg.stage import Stage

In = TypeVar("In")
Out = TypeVar("Out")

# Decoded pictures are large: 60 of 1080p are 190 MB.
FRAMES_IN_MEMORY = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One stage alone."""

    stage: str
    cpu_s_per_frame: float
    """CPU time of all its threads."""
    wall_s_per_frame: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """One clip, one model, one machine."""

    input: str
    model: str
    cores: int
    stages: tuple[StageCost, ...]
    bound_fps: float
    pipeline_fps: float
    pipeline_cpu_s_per_frame: float
    ratio: float
    """pipeline / bound."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def run_bench(job: Job, *, rounds: int = 3) -> BenchResult:
    """Measure `rounds` times, stages and pipeline in turn, and return the medians.

    The output of `job` is ignored: what is written goes to a temporary folder.

    Raises:
        VrsegError: the input or the model cannot be used.
    """
    plan = plan_job(job)
    costs: dict[str, list[StageCost]] = {}
    speeds: list[tuple[float, float]] = []
    with TemporaryDirectory(prefix="vrseg-bench-") as folder:
        frames = _measure_stages(job, plan, Path(folder), costs={})  # warm-up: caches, pools, clocks
        for _ in range(rounds):
            _measure_stages(job, plan, Path(folder), costs)
            speeds.append(_measure_pipeline(job, Path(folder)))
    stages = tuple(
        StageCost(
            stage=stage,
            cpu_s_per_frame=statistics.median(cost.cpu_s_per_frame for cost in each),
            wall_s_per_frame=statistics.median(cost.wall_s_per_frame for cost in each),
        )
        for stage, each in costs.items()
    )
    cores = len(os.sched_getaffinity(0))
    bound_fps = cores / sum(stage.cpu_s_per_frame for stage in stages)
    pipeline_fps = statistics.median(fps for fps, _ in speeds)
    return BenchResult(
        input=f"{Path(job.input).name} {frames[0].width}x{frames[0].height}",
        model=Path(job.model.path).stem,
        cores=cores,
        stages=stages,
        bound_fps=bound_fps,
        pipeline_fps=pipeline_fps,
        pipeline_cpu_s_per_frame=statistics.median(cpu_s for _, cpu_s in speeds),
        ratio=pipeline_fps / bound_fps,
    )


def _measure_stages(job: Job, plan: Plan, folder: Path, costs: dict[str, list[StageCost]]) -> list[Frame]:
    """Run each stage by itself over the same frames, adding to `costs`; return the frames as decoded."""
    section, spec, backend = plan.config.streams[STREAM], plan.specs[MODEL], plan.backend
    model = model_stages(MODEL, plan.config, spec, backend)

    def timed(name: str, stage: Stage[In, Out], items: Iterable[In], frames: int) -> list[Out]:
        outputs, cost = _run_alone(name, stage, items, frames)
        costs.setdefault(name, []).append(cost)
        return outputs

    decoded = timed("decode", backend.make_decoder(STREAM, live=False, first_index=0), _packets(plan), 0)
    count = len(decoded)
    size = model.max_batch  # also where the file fixes another: the pipeline gathers so many, and the engine shares out
    groups = [tuple(decoded[start : start + size]) for start in range(0, count, size)]
    # The preprocessor's buffers go round: one batch at a time through preprocess and infer, timed apart.
    finished: list[Frame] = []
    chain: list[tuple[str, Stage[Any, Any]]] = [
        ("preprocess", model.preprocess),
        ("infer", model.infer),
        ("postprocess", model.postprocess),
    ]
    cpu_spent_s, wall_spent_s = dict.fromkeys(dict(chain), 0.0), dict.fromkeys(dict(chain), 0.0)
    for _, stage in chain:
        stage.open()
    for group in groups:
        item: Any = group
        for name, stage in chain:
            outputs, cpu_s, wall_s = _clocked(stage.process, item)
            cpu_spent_s[name] += cpu_s
            wall_spent_s[name] += wall_s
            item = outputs[0] if name != "postprocess" else outputs
        finished.extend(item)
    for name, stage in chain:
        stage.close()
        costs.setdefault(name, []).append(_cost(name, cpu_spent_s[name], wall_spent_s[name], count))
    render = render_stage(section, spec, backend)
    rendered = timed("render", render, finished, count) if render is not None else finished
    encoder = backend.make_encoder(encode_settings(job.output, live=False))
    packets = timed("encode", encoder, rendered, count)
    timed("sink", FileSink(folder / "alone.mp4", codec=job.output.codec, replace=True), packets, count)
    return decoded


def _packets(plan: Plan) -> Iterator[Any]:
    source = make_source(plan.config.streams[STREAM].source)
    source.open()
    sent = 0
    try:
        while sent < FRAMES_IN_MEMORY and (batch := source.read()):
            sent += len(batch)
            yield from batch
    finally:
        source.close()


def _run_alone(name: str, stage: Stage[In, Out], items: Iterable[In], frames: int) -> tuple[list[Out], StageCost]:
    stage.open()
    try:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        outputs = [output for item in items for output in stage.process(item)]
        outputs += stage.flush()
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    finally:
        stage.close()
    return outputs, _cost(name, cpu_s, wall_s, frames or len(outputs))


def _clocked(work: Callable[[In], Iterable[Out]], item: In) -> tuple[list[Out], float, float]:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    outputs = list(work(item))
    return outputs, time.process_time() - cpu_s, time.perf_counter() - wall_s


def _cost(name: str, cpu_s: float, wall_s: float, frames: int) -> StageCost:
    return StageCost(stage=name, cpu_s_per_frame=cpu_s / frames, wall_s_per_frame=wall_s / frames)


def _measure_pipeline(job: Job, folder: Path) -> tuple[float, float]:
    """Return frames per second and CPU-seconds per frame of the whole job, model loading left out."""
    target = job.output.model_copy(update={"uri": str(folder / "pipeline.mp4")})
    timed_job = Job(input=job.input, output=target, model=job.model, view=job.view, device=job.device)
    log = make_logger("text", "error")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(run_job(timed_job, plan_job(timed_job), log, on_start=lambda _recorder, _ledger: None))
    cpu_s = report.readings.cores_busy * report.readings.window_s
    return report.frames / report.elapsed_s, cpu_s / report.frames
