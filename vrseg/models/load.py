"""A model's ONNX file, its description and the configuration, made one: complete, and free of contradictions."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from vrseg.errors import ConfigError, ModelError
from vrseg.models.classes import resolve_classes
from vrseg.models.decoding import (
    SEGMENT_KINDS,
    USUAL,
    box_classes,
    channel_axis,
    grid_cells,
    guess_detect,
    guess_segment,
    guess_task,
    order_end2end,
)
from vrseg.models.description import Claims, is_file, read_claims
from vrseg.models.graph import Graph, Tensor, read_graph
from vrseg.models.picture import resolve_input
from vrseg.models.spec import ModelSpec, ThresholdSpec

if TYPE_CHECKING:
    from vrseg.config.schema import Model, ModelDescription
    from vrseg.models.spec import Decode, InputSpec, SupportedTask

DEMO = "demo"


def model_path(model: Model, base_dir: Path) -> Path:
    """Tell where a model's ONNX file lies.

    Raises:
        ConfigError: in the home of a user who is not there.
    """
    if model.path == DEMO:
        return Path(str(files("vrseg.demo").joinpath("person.onnx")))
    try:
        return base_dir / Path(model.path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{model.path}: nobody of that name has a home here; write the whole path") from error


def load_spec(name: str, model: Model, base_dir: Path) -> ModelSpec:
    """Resolve everything that stages must know about a model.

    Args:
        name: the model's key in the configuration.
        model: its section.
        base_dir: the configuration's folder; paths in the section start there.

    Raises:
        ConfigError: a file is missing, or the description is broken.
        ModelError: the ONNX does not load, does not fit what is said about it, or is of a kind that is not supported.
    """
    path = model_path(model, base_dir)
    if not is_file(path):
        raise ConfigError(f"models.{name}.path: {path}: no such file; check the path")
    claims = read_claims(name, model, path, base_dir)
    graph = read_graph(path)
    try:
        return _resolve(name, path, graph, claims)
    except ModelError as error:
        raise ModelError(f"{path.name}: {error}") from error


def _resolve(name: str, path: Path, graph: Graph, claims: Claims) -> ModelSpec:
    outputs = _chosen_outputs(graph, claims)
    task = _task(outputs, claims)
    said = claims.description({})
    image = resolve_input(graph, said, claims)
    decode, channels, channels_last = _decoding(task, outputs, said, image, claims)
    said = claims.description(USUAL.get(decode, {}))
    image = resolve_input(graph, said, claims)
    named = said.output.names is not None
    return ModelSpec(
        name=name,
        path=path,
        task=task,
        input=image,
        batch=graph.inputs[0].shape[0],
        outputs=_output_names(decode, outputs, named=named),
        decode=decode,
        channels_last=channels_last,
        classes=resolve_classes(task, said.classes, channels, claims),
        thresholds=ThresholdSpec(**said.thresholds.model_dump()),
        licence=said.licence,
        title=said.title or path.stem,
    )


def _chosen_outputs(graph: Graph, claims: Claims) -> tuple[Tensor, ...]:
    names = claims.description({}).output.names
    if names is None:
        return graph.outputs
    known = {output.name: output for output in graph.outputs}
    for one in names:
        if one not in known:
            author = claims.says("output", "names")
            raise ModelError(f"has the outputs {', '.join(known)} but {author} names '{one}'; correct the name")
    return tuple(known[one] for one in names)


def _task(outputs: tuple[Tensor, ...], claims: Claims) -> SupportedTask:
    task = claims.description({}).task
    guess = guess_task(outputs)
    if task is None:
        if guess is None:
            shapes = "; ".join(str(output) for output in outputs)
            raise ModelError(f"its outputs do not tell what it does ({shapes}); write the task: segment or detect")
        return guess
    if task not in ("segment", "detect"):
        raise ModelError(f"task {task} is not supported yet by this version; use segment or detect")
    if guess is not None and guess != task:
        raise ModelError(
            f"output {outputs[0]}, as of a model for {guess}, but {claims.says('task')} says task {task}; "
            "correct the task or use another model"
        )
    return task


def _decoding(
    task: SupportedTask, outputs: tuple[Tensor, ...], said: ModelDescription, image: InputSpec, claims: Claims
) -> tuple[Decode, int | None, bool]:
    if task == "segment":
        return _segment(outputs, said, image, claims)
    decode = said.output.decode or guess_detect(outputs, image.width, image.height)
    if decode is None:
        raise ModelError(
            f"output {outputs[0]} is of no known detector at {image.width}x{image.height}; "
            "write output.decode: yolox, yolov5, yolov8 or end2end"
        )
    if decode in SEGMENT_KINDS:
        raise ModelError(
            f"{claims.says('output', 'decode')} says decode {decode}, which is for masks, but its task is detect"
        )
    classes = box_classes(decode, outputs)
    rows = outputs[0].shape[1]
    cells = grid_cells(image.width, image.height)
    if decode == "yolox" and rows is not None and rows != cells:
        raise ModelError(
            f"output {outputs[0]} but YOLOX at {image.width}x{image.height} has {cells} rows; "
            f"correct the decode or the size in {claims.says('output', 'decode')}"
        )
    if classes is not None and classes < 1:
        raise ModelError(f"output {outputs[0]} is too narrow for {decode}; correct output.decode")
    return decode, classes, False


def _segment(
    outputs: tuple[Tensor, ...], said: ModelDescription, image: InputSpec, claims: Claims
) -> tuple[Decode, int | None, bool]:
    if len(outputs) != 1:
        names = ", ".join(output.name for output in outputs)
        raise ModelError(f"has several outputs ({names}); write which one holds the scores in output.names")
    scores = outputs[0]
    if scores.dtype not in ("float32", "float16"):
        raise ModelError(f"output {scores}; scores must be floating-point: export it without the final argmax")
    if len(scores.shape) not in (3, 4):
        raise ModelError(f"output {scores}; scores must be (N, C, h, w), (N, h, w, C) or (N, h, w)")
    channels, channels_last = channel_axis(scores, image.layout, len(said.classes))
    guess = guess_segment(scores, channels)
    decode = said.output.decode or guess
    if decode not in SEGMENT_KINDS:
        raise ModelError(
            f"{claims.says('output', 'decode')} says decode {decode}, which is for boxes, but its task is segment"
        )
    if decode == "logits" and guess != "logits":
        raise ModelError(
            f"output '{scores.name}' has passed a {scores.maker} but {claims.says('output', 'decode')} says logits; "
            f"write decode: {guess}"
        )
    return decode, channels, channels_last


def _output_names(decode: Decode, outputs: tuple[Tensor, ...], *, named: bool) -> tuple[str, ...]:
    if decode == "end2end" and len(outputs) > 1:
        return tuple(one.name for one in outputs[:3]) if named else order_end2end(outputs)
    return (outputs[0].name,)
