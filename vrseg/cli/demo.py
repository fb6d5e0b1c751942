"""`vrseg demo`: the whole product on its embedded defaults."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop
from rich.console import Console

from vrseg.address import local_path
from vrseg.config.build import build
from vrseg.config.schema import Config
from vrseg.daemon import run_daemon
from vrseg.demo.truth import Poster, TruthMeter
from vrseg.errors import ConfigError
from vrseg.plan import make_plan
from vrseg.telemetry.bottleneck import find_bottleneck
from vrseg.telemetry.logs import make_logger
from vrseg.telemetry.report import stage_table, verdict_line

if TYPE_CHECKING:
    from vrseg.plan import Plan
    from vrseg.running import Running

STREAM = "demo"
SCENE = "synthetic:1280x720@30?seed=7&figures=4&frames={frames}"
FRAME_RATE = 30


def demo(
    source: Annotated[
        str | None, typer.Option("--input", "-i", help="Your own video, instead of the drawn scene.")
    ] = None,
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder for the video and the poster.")] = Path(
        "demo-output"
    ),
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="Length of the drawn scene.")] = 20,
    model: Annotated[str, typer.Option("--model", "-m", help="An ONNX file instead of the embedded model.")] = "demo",
    listen: Annotated[str, typer.Option(help="Address and port of the page; port 0 takes a free one.")] = "127.0.0.1:0",
) -> None:
    """Show the whole product: no arguments, no GPU, no network."""
    console = Console(stderr=True)
    video, poster = folder / "demo.mp4", folder / "demo.png"
    if source and video.exists() and Path(local_path(source)).exists() and video.samefile(local_path(source)):
        raise ConfigError(f"{video}: input and output are the same file; choose another folder with --output")
    plan = make_plan(_config(source, model, video, seconds, listen), Path.cwd())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        video.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; choose another folder with --output") from error
    what = source or f"a drawn scene of {seconds:g} s, live at {FRAME_RATE} frames/s"
    console.print(f"[bold]vrseg demo[/] -- {what}, on {plan.backend.device}", highlight=False)
    if source and model == "demo":
        console.print("note    the embedded network knows only drawn people; for real ones: --model YOUR.onnx")
    code = _run(plan, console, poster)
    if code == 0:
        console.print(f"\nvideo   {video}\nposter  {poster}", highlight=False)
        console.print(
            "next    vrseg process YOUR.mp4 out.mp4 --model YOUR.onnx   one file\n"
            "        vrseg run configs/vrseg.yaml                       a daemon\n"
            "        vrseg doctor                                       this machine",
            highlight=False,
            soft_wrap=True,
        )
    raise typer.Exit(code)


def _config(source: str | None, model: str, video: Path, seconds: float, listen: str) -> Config:
    scene = SCENE.format(frames=round(seconds * FRAME_RATE))
    stream = {"source": {"uri": source or scene}, "model": "person", "outputs": [{"uri": str(video.absolute())}]}
    return build(
        Config, {"models": {"person": {"path": model}}, "streams": {STREAM: stream}, "server": {"listen": listen}}
    )


def _run(plan: Plan, console: Console, poster: Path) -> int:
    truth = TruthMeter()
    seen: list[Running] = []

    def on_listening(address: str, running: Running) -> None:
        seen.append(running)
        console.print(f"page    {address}", highlight=False)

    log = make_logger("text", "warning")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            code = runner.run(
                run_daemon(plan, log, on_listening=on_listening, extra_results={STREAM: (truth, Poster(poster))})
            )
        except asyncio.CancelledError:
            return 1
    _print_outcome(console, seen[0], truth)
    return code


def _print_outcome(console: Console, running: Running, truth: TruthMeter) -> None:
    ledger = running.recorder.streams[STREAM].ledger
    readings = running.recorder.overall()
    console.print()
    console.print(stage_table(readings))
    console.print(verdict_line(find_bottleneck(readings)), soft_wrap=True)
    dropped = ledger.dropped.total()
    console.print(
        f"frames  {ledger.entered} in = {ledger.delivered} delivered + {dropped} dropped + {ledger.failed} failed",
        highlight=False,
    )
    if truth.iou is not None:
        console.print(f"mask IoU against the scene's truth: [bold]{truth.iou:.3f}[/]", highlight=False)
