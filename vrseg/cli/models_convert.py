"""`vrseg models convert`: FP16, measured."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from vrseg.config.build import build as build_section
from vrseg.config.schema import Model
from vrseg.decode.cpu import PyavDecoder
from vrseg.errors import ConfigError, MediaError
from vrseg.infer.gate import compare_foreseeing
from vrseg.models.convert import convert as convert_model
from vrseg.models.convert import read_fp32, write
from vrseg.models.load import load_spec, model_path
from vrseg.preprocess.cpu import SwscalePreprocess
from vrseg.source.file import FileSource
from vrseg.source.synthetic import SyntheticSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from vrseg.frame import Frame
    from vrseg.models.convert import Conversion
    from vrseg.models.spec import ModelSpec
    from vrseg.stage import Source

# Enough for a person to come near and go; FP32 and rounded FP32 run on the CPU for each.
_FRAMES = 12
_SCENES = "synthetic:640x360@1?frames=12&pace=none&seed=3"
"""One picture a second: figures and light have moved from one to the next."""


def convert(
    model: Annotated[str, typer.Argument(metavar="MODEL.onnx", help="An FP32 model, or `demo`.")],
    output: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write.")],
    frames: Annotated[
        Path | None, typer.Option(metavar="CLIP", help="A video to measure on; drawn scenes if not given.")
    ] = None,
    description: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="The model's description, when not beside it.")
    ] = None,
) -> None:
    """Convert a model from FP32 to FP16, if it says the same then."""
    section = build_section(Model, {"path": model, "description": str(description) if description else None})
    path = model_path(section, Path.cwd())
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; check the path")
    if output.resolve() == path.resolve() or not output.resolve().parent.is_dir():
        raise ConfigError(f"{output}: this is the model itself, or its folder is not there; name another file")
    read_fp32(path)
    spec = load_spec(path.stem, section, Path.cwd())
    source: Source = SyntheticSource(_SCENES) if frames is None else FileSource(str(frames))
    conversion = convert_model(spec, compare_foreseeing, _pictures(spec, source))
    write(conversion, output)
    _describe(path.with_suffix(".yaml") if description is None else description, output.with_suffix(".yaml"))
    _print(conversion, output)


def _pictures(spec: ModelSpec, source: Source) -> npt.NDArray[Any]:
    """Decode frames from all over a video, and prepare them as the network takes them: (n, ...)."""
    try:
        info = source.open()
        step = max(1, (info.frame_count or _FRAMES) // _FRAMES)
        preprocess = SwscalePreprocess(spec)
        preprocess.open()
        tensors = []
        for frame in _every(step, _decoded(source)):
            (batch,) = preprocess.process((frame,))
            tensors.append(batch.tensor.copy())
            if len(tensors) == _FRAMES:
                break
    finally:
        source.close()
    if not tensors:
        raise MediaError("the clip holds no frame to measure on; name another")
    return np.concatenate(tensors)


def _decoded(source: Source) -> Iterator[Frame]:
    decoder = PyavDecoder("frames", live=False, threads=0)
    try:
        decoder.open()
        while packets := source.read():
            for packet in packets:
                yield from decoder.process(packet)
        yield from decoder.flush()
    finally:
        decoder.close()


def _every(step: int, frames: Iterator[Frame]) -> Iterator[Frame]:
    return (frame for number, frame in enumerate(frames) if number % step == 0)


def _describe(original: Path, copy: Path) -> None:
    """Let the converted model have the description too, which holds for both."""
    if original.is_file() and not copy.exists():
        shutil.copyfile(original, copy)


def _print(conversion: Conversion, output: Path) -> None:
    print(
        f"{output}: {conversion.measured} (foreseen on the CPU; a GPU measures it when it opens the file); "
        f"{len(conversion.kept)} of {conversion.nodes} nodes stay FP32"
    )
    for (operator, reason), count in Counter((one.operator, one.reason) for one in conversion.kept).items():
        names = [one.name for one in conversion.kept if (one.operator, one.reason) == (operator, reason)]
        print(f"  {count} x {operator} ({', '.join(names[:3])}{', ...' if count > 3 else ''}): {reason}")
