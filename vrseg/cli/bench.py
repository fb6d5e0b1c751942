"""`vrseg bench`: every stage alone, then the pipeline, beside its bound."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from vrseg.bench.clip import write_clip
from vrseg.bench.measure import BenchResult, run_bench
from vrseg.config.schema import Batching, Model, Output
from vrseg.job import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIP_FRAMES = 240


def bench(
    models: Annotated[list[str] | None, typer.Option("--model", "-m", help="ONNX files, or `demo`.")] = None,
    source: Annotated[str | None, typer.Option("--input", "-i", help="A clip; a drawn scene when left out.")] = None,
    size: Annotated[str, typer.Option(help="Of the drawn scene.")] = "1920x1080",
    description: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the models' descriptions are, by their stem.")
    ] = None,
    view: Annotated[Literal["overlay", "mask", "matte", "green", "blur", "none"], typer.Option()] = "overlay",
    batch: Annotated[int, typer.Option(min=1, max=256)] = 4,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Medians are of so many rounds.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Data on stdout instead of tables.")] = False,
) -> None:
    """Measure every stage alone, then the pipeline, beside what the cores allow."""
    console = Console(stderr=as_json)
    with TemporaryDirectory(prefix="vrseg-bench-") as folder:
        clip = source or str(_draw(Path(folder) / f"scene_{size}.mp4", size, console))
        results = []
        for model in models or ["demo"]:
            job = Job(
                input=clip,
                output=Output(uri=str(Path(folder) / "ignored.mp4")),
                model=Model(path=model, description=_description(model, description), batch=Batching(max_size=batch)),
                view=view,
            )
            results.append(run_bench(job, rounds=rounds))
            console.print(_table(results[-1]))
    if as_json:
        print(json.dumps([result.as_dict() for result in results], indent=2))
    elif len(results) > 1:
        console.print(_overview(results))


def _draw(path: Path, size: str, console: Console) -> Path:
    with console.status(f"drawing a scene of {CLIP_FRAMES} frames, {size}"):
        write_clip(path, f"synthetic:{size}@30?frames={CLIP_FRAMES}&pace=none")
    return path


def _description(model: str, folder: Path | None) -> str | None:
    if folder is None or model == "demo":
        return None
    beside = folder / f"{Path(model).stem}.yaml"
    return str(beside) if beside.exists() else None


def _table(result: BenchResult) -> Table:
    table = Table(title=f"{result.model} on {result.input}", title_justify="left", box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("CPU ms/frame", justify="right")
    table.add_column("alone frames/s", justify="right")
    for stage in result.stages:
        table.add_row(stage.stage, f"{1000 * stage.cpu_s_per_frame:.2f}", f"{1 / stage.wall_s_per_frame:,.0f}")
    total_s = sum(stage.cpu_s_per_frame for stage in result.stages)
    table.add_row("sum", f"{1000 * total_s:.2f}", "", style="dim")
    table.add_row(f"bound ({result.cores} cores)", "", f"{result.bound_fps:.1f}", style="bold")
    table.add_row(
        "pipeline", f"{1000 * result.pipeline_cpu_s_per_frame:.2f}", f"{result.pipeline_fps:.1f}", style="bold"
    )
    table.add_row("ratio", "", f"{result.ratio:.2f}", style="bold")
    return table


def _overview(results: Sequence[BenchResult]) -> Table:
    table = Table(title="all", title_justify="left", box=None, pad_edge=False)
    for heading in ("model", "bound", "pipeline", "ratio"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for result in results:
        table.add_row(result.model, f"{result.bound_fps:.1f}", f"{result.pipeline_fps:.1f}", f"{result.ratio:.2f}")
    return table
