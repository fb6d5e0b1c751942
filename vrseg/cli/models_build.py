"""`vrseg models build`, `engines` and `forget`: TensorRT engines, ahead of time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from vrseg.config.build import build as build_section
from vrseg.config.places import cache_folder
from vrseg.config.schema import Model
from vrseg.errors import ConfigError
from vrseg.gpu.device import open_gpu
from vrseg.infer.gate import compare_foreseeing
from vrseg.models.background_build import BackgroundBuild
from vrseg.models.build_request import BuildRequest, Card
from vrseg.models.convert import as_fp16
from vrseg.models.engine_cache import EngineCache, engines_folder
from vrseg.models.load import load_spec, model_path
from vrseg.models.tensorrt_library import library_for, load_tensorrt

if TYPE_CHECKING:
    from vrseg.models.spec import ModelSpec
    from vrseg.models.tensorrt_library import LibraryName

_REFRESH_S = 0.1


def build(
    model: Annotated[str, typer.Argument(metavar="MODEL.onnx", help="An ONNX file, or `demo`.")],
    precision: Annotated[Literal["fp32", "fp16"], typer.Option(help="What it shall compute in.")] = "fp32",
    max_batch: Annotated[int, typer.Option(min=1, max=256, help="Frames per inference call at most.")] = 8,
    library: Annotated[
        Literal["auto", "tensorrt", "tensorrt-rtx"], typer.Option(help="`auto` takes what fits the GPU.")
    ] = "auto",
    description: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="The model's description, when not beside it.")
    ] = None,
    device: Annotated[int, typer.Option(min=0, help="Number of the GPU.")] = 0,
    compute_capability: Annotated[
        str | None,
        typer.Option(metavar="MAJOR.MINOR", help="Build for such a GPU, which need not be here: TensorRT-RTX only."),
    ] = None,
) -> None:
    """Build a TensorRT engine now, so that `run` and `process` find it ready."""
    request = _request(
        _spec(model, description, precision, max_batch),
        precision,
        max_batch,
        None if library == "auto" else library,
        _card(device, compute_capability),
    )
    work = BackgroundBuild(request, EngineCache(engines_folder()))
    console = Console(stderr=True)
    started_s = time.monotonic()
    already = work.cached()
    plan = already.plan if already is not None else _wait(work, console, request)
    size = f"{plan.stat().st_size / 1e6:.1f} MB"
    how = "was there already" if already is not None else f"built in {time.monotonic() - started_s:.1f} s"
    print(f"{plan}: {how}, {size}")


def engines(as_json: Annotated[bool, typer.Option("--json", help="Print all that is known as JSON.")] = False) -> None:
    """List the TensorRT engines that were built."""
    found = EngineCache(engines_folder()).engines()
    if as_json:
        print(json.dumps([{"key": one.key, "size_bytes": one.size_bytes, **one.about} for one in found], indent=2))
        return
    for one in found:
        about = one.about
        least, most = about["batch"]
        words = (about["precision"], f"batch {least} to {most}", about["library"], about["gpu"])
        print(one.key, Path(about["model_path"]).name, *words, f"{one.size_bytes / 1e6:.1f} MB", sep="  ")


def forget(key: Annotated[str, typer.Argument(help="As `engines` lists it; its beginning will do.")]) -> None:
    """Delete a TensorRT engine."""
    cache = EngineCache(engines_folder())
    found = [one for one in cache.engines() if one.key.startswith(key)]
    if len(found) != 1:
        what = "no engine begins" if not found else f"{len(found)} engines begin"
        raise ConfigError(f"{what} with {key}; see: vrseg models engines")
    cache.remove(found[0].key)
    print(f"{found[0].plan}: deleted")


def _spec(model: str, description: Path | None, precision: str, max_batch: int) -> ModelSpec:
    fields = {"path": model, "description": str(description) if description else None}
    section = build_section(Model, {**fields, "batch": {"max_size": max_batch}})
    path = model_path(section, Path.cwd())
    spec = load_spec(path.stem, section, Path.cwd())
    return as_fp16(spec, cache_folder() / "fp16", compare_foreseeing) if precision == "fp16" else spec


def _card(device: int, compute_capability: str | None) -> Card:
    if compute_capability is None:
        gpu = open_gpu(device)
        return Card(
            compute_capability=gpu.compute_capability, name=gpu.name, memory_bytes=gpu.memory_bytes, index=gpu.index
        )
    major, _, minor = compute_capability.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise ConfigError(f"--compute-capability {compute_capability}: write it as 8.6")
    return Card(
        compute_capability=(int(major), int(minor)),
        name=f"compute capability {compute_capability}",
        memory_bytes=0,
        index=None,
    )


def _request(spec: ModelSpec, precision: str, max_batch: int, library: LibraryName | None, card: Card) -> BuildRequest:
    chosen = library or ("tensorrt-rtx" if card.index is None else library_for(card.compute_capability))
    if card.index is None and chosen != "tensorrt-rtx":
        raise ConfigError("--compute-capability: only TensorRT-RTX builds for a GPU that is not here; leave it out")
    version = load_tensorrt(chosen).__version__
    return BuildRequest(
        spec=spec, precision=precision, library=chosen, library_version=version, card=card, max_batch=max_batch
    )


def _wait(work: BackgroundBuild, console: Console, request: BuildRequest) -> Path:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    name = request.spec.path.name
    try:
        with bar:
            task = bar.add_task(name, total=1.0)
            work.start()
            while (plan := work.poll()) is None:
                said = f"{name} (waits for another build)" if work.waiting else name
                bar.update(task, completed=work.fraction, description=said)
                time.sleep(_REFRESH_S)
            return plan
    except KeyboardInterrupt:
        console.print("interrupted; no engine was written")
        raise typer.Exit(1) from None
    finally:
        work.close()
