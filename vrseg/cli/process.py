"""`vrseg process`: one file, lossless, with a progress bar."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from vrseg.address import redact
from vrseg.config.build import build
from vrseg.config.schema import Model, Output, ResultOutput
from vrseg.errors import ConfigError, MediaError
from vrseg.job import Job, JobReport, plan_job, run_job
from vrseg.telemetry.bottleneck import find_bottleneck
from vrseg.telemetry.html import report_page
from vrseg.telemetry.logs import make_logger
from vrseg.telemetry.report import stage_table, verdict_line

if TYPE_CHECKING:
    from vrseg.pipeline.ledger import Ledger
    from vrseg.plan import Plan
    from vrseg.telemetry.recorder import Recorder

REFRESH_S = 0.1

Input = Annotated[str, typer.Argument(metavar="INPUT", help="A video file, or a folder of images.")]
Target = Annotated[Path, typer.Argument(metavar="OUTPUT", help="The file to write: .mp4, .mkv, .mov, .ts, .webm.")]
ModelName = Annotated[str, typer.Option("--model", "-m", help="An ONNX file, or `demo`.")]
View = Annotated[
    Literal["overlay", "mask", "matte", "green", "blur", "none", "alpha-pack"],
    typer.Option(help="What the output shows."),
]
Results = Annotated[Path | None, typer.Option(metavar="FILE.jsonl", help="Also write boxes and classes as JSON lines.")]
Masks = Annotated[Literal["none", "rle"], typer.Option(help="Masks in the results, as run lengths.")]
Report = Annotated[Path | None, typer.Option(metavar="FILE.html", help="Also write a report of where the time went.")]
Description = Annotated[
    Path | None, typer.Option(metavar="FILE.yaml", help="The model's description, when not beside it.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Precision = Annotated[Literal["fp32", "bf16", "fp16", "int8"], typer.Option(help="What the model computes in.")]
Engine = Annotated[
    Literal["auto", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"], typer.Option(help="What the model runs on.")
]
Batch = Annotated[int, typer.Option(min=1, max=256, help="Frames per inference call at most.")]
Codec = Annotated[Literal["h264", "hevc", "av1"], typer.Option(help="Of the output.")]
Quality = Annotated[int | None, typer.Option(min=0, max=63, help="CRF; lower is better and larger.")]
Preset = Annotated[str | None, typer.Option(help="The encoder's preset.")]
Stats = Annotated[bool, typer.Option("--stats", help="Print the stage table at the end.")]


def process(
    source: Input,
    output: Target,
    model: ModelName,
    view: View = "overlay",
    results: Results = None,
    masks: Masks = "none",
    report: Report = None,
    description: Description = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    engine: Engine = "auto",
    batch: Batch = 4,
    codec: Codec = "h264",
    quality: Quality = None,
    preset: Preset = None,
    stats: Stats = False,
) -> None:
    """Process one file: every frame, in order, with sound and metadata."""
    network = {
        "path": model,
        "description": str(description) if description else None,
        "precision": precision,
        "engine": engine,
        "batch": {"max_size": batch},
    }
    job = Job(
        input=source,
        output=build(Output, {"uri": str(output), "codec": codec, "quality": quality, "preset": preset}),
        model=build(Model, network),
        view=view,
        results=build(ResultOutput, {"uri": str(results), "masks": masks}) if results else None,
        device=device,
    )
    if report is not None and (report.is_dir() or not report.resolve().parent.is_dir()):
        raise ConfigError(f"{report}: this is a folder, or its folder is not there; name a file")
    console = Console(stderr=True)
    done = _run(job, console)
    console.print(_summary(done, output), soft_wrap=True, highlight=False)
    if stats:
        console.print(stage_table(done.readings))
        console.print(verdict_line(find_bottleneck(done.readings)))
    if report is not None:
        _write_report(report, f"{Path(redact(source)).name} to {output.name}", _summary(done, output), done)


def _run(job: Job, console: Console) -> JobReport:
    plan = plan_job(job)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_watched(job, plan, progress))
        except (asyncio.CancelledError, KeyboardInterrupt):
            console.print("interrupted; nothing was written")
            raise typer.Exit(1) from None


async def _watched(job: Job, plan: Plan, progress: Progress) -> JobReport:
    """Run the job with the bar beside it."""
    watcher: asyncio.Task[None] | None = None

    def on_start(recorder: Recorder, ledger: Ledger) -> None:
        nonlocal watcher
        watcher = asyncio.create_task(_show_progress(progress, Path(job.input).name, recorder, ledger))

    try:
        return await run_job(job, plan, make_logger("text", "warning"), on_start=on_start)
    finally:
        if watcher is not None:
            watcher.cancel()


async def _show_progress(progress: Progress, name: str, recorder: Recorder, ledger: Ledger) -> None:
    bar = progress.add_task(name, total=None, speed="")
    started_s = time.monotonic()
    while True:
        await asyncio.sleep(REFRESH_S)
        info = recorder.streams[ledger.stream].info
        speed = ledger.delivered / (time.monotonic() - started_s)
        progress.update(
            bar,
            completed=ledger.delivered,
            total=info.frame_count if info else None,
            speed=f"{speed:.1f} frames/s",
        )


def _write_report(path: Path, title: str, summary: str, done: JobReport) -> None:
    try:
        path.write_text(report_page(title, summary, done.readings), encoding="utf-8")
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror}; the video itself is complete") from error


def _summary(done: JobReport, output: Path) -> str:
    speed = done.frames / done.elapsed_s if done.elapsed_s else 0.0
    length = f", {done.media_s:.1f} s of video" if done.media_s else ""
    damage = f" ({done.damaged_units} damaged parts of the input were passed over)" if done.damaged_units else ""
    return f"{output}: {done.frames} frames{length} in {done.elapsed_s:.1f} s, {speed:.1f} frames/s{damage}"
