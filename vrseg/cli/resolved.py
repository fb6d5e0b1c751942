"""A configuration with every `auto` resolved: what `vrseg run` would do. Plain data, so that it can be JSON."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vrseg.address import local_path, presentable, scheme_of
from vrseg.assembly import check_watched, encode_settings, is_live, max_batch_of, queue_rule
from vrseg.backend.choose import choose_backend
from vrseg.config.quantity import format_duration
from vrseg.config.rules_results import watch_notes, watch_warnings
from vrseg.errors import ConfigError, VrsegError
from vrseg.models.licence import licence_warning
from vrseg.models.load import load_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vrseg.backend.backend import Backend
    from vrseg.config.schema import Config, Model, Output, Stream
    from vrseg.models.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModel:
    """A model as it would be loaded."""

    name: str
    file: str
    title: str
    task: str
    decode: str
    input: str
    """`256x256 rgb float32 nhwc, stretch`"""
    precision: str
    engine: str
    threads: int
    batch_size: int
    """Frames gathered for one call at most."""
    batch_delay: str
    batch_of_graph: int | None
    """Frames that the graph demands per call; None when any number will do."""
    classes: tuple[str, ...]
    licence: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedOutput:
    """A video output as it would be written."""

    uri: str
    codec: str
    encoder: str
    rate: str
    """`6 Mbit/s`, `quality 23` or `usual quality`."""
    gop: str
    latency: str
    segment: str | None
    keep: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedStream:
    """A stream as it would run. Addresses are without credentials."""

    name: str
    source: str
    kind: str
    """Scheme of the address, such as `rtsp`."""
    live: bool
    queue_size: int
    queue_policy: str
    max_age: str | None
    """None when frames are kept however old they are."""
    model: str | None
    view: str
    outputs: tuple[ResolvedOutput, ...]
    results: tuple[str, ...]
    watched: tuple[str, ...]
    """What its zones and lines mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The whole plan."""

    device: str
    device_reason: str
    models: tuple[ResolvedModel, ...]
    streams: tuple[ResolvedStream, ...]
    listen: str
    token: bool
    """True when the HTTP port asks for a token."""
    tls: bool
    """True when it speaks HTTPS."""
    warnings: tuple[str, ...]


def resolve(config: Config, base_dir: Path) -> Resolved:
    """Decide everything that can be decided without opening a source or an output.

    Raises:
        VrsegError: one line for each model, source and output that cannot work, of the first one's class.
    """
    backend = choose_backend(config.device)
    errors: list[VrsegError] = []
    specs: dict[str, ModelSpec] = {}
    streams: list[ResolvedStream] = []
    for name, model in config.models.items():
        with _kept(errors):
            specs[name] = _spec(name, model, base_dir, backend)
    for name, stream in config.streams.items():
        with _kept(errors):
            spec, max_batch = specs.get(stream.model or ""), max_batch_of(config, stream)
            streams.append(_stream(name, stream, spec, backend, max_batch))
    if errors:
        raise type(errors[0])("\n".join(str(error) for error in errors))
    return Resolved(
        device=backend.device,
        device_reason=backend.reason,
        models=tuple(_model(spec, config.models[name], backend) for name, spec in specs.items()),
        streams=tuple(streams),
        listen=config.server.listen,
        token=config.server.token is not None,
        tls=config.server.certificate is not None,
        warnings=tuple(_warnings(config, specs)),
    )


@contextmanager
def _kept(errors: list[VrsegError]) -> Iterator[None]:
    """Keep an error for later: what follows does not depend on what failed here."""
    try:
        yield
    except VrsegError as error:
        errors.append(error)


def _spec(name: str, model: Model, base_dir: Path, backend: Backend) -> ModelSpec:
    spec = load_spec(name, model, base_dir)
    # constructs only: refuses a precision that the engine cannot do
    backend.make_model(spec, model, max_batch=model.batch.max_size, styles={}, host_results=True)
    return spec


def _model(spec: ModelSpec, model: Model, backend: Backend) -> ResolvedModel:
    image = spec.input
    return ResolvedModel(
        name=spec.name,
        file=str(spec.path),
        title=spec.title,
        task=spec.task,
        decode=spec.decode,
        input=f"{image.width}x{image.height} {image.color} {image.dtype} {image.layout}, {image.fit}",
        precision=model.precision,
        engine=backend.engine_name(model),
        threads=model.threads or len(os.sched_getaffinity(0)),
        batch_size=model.batch.max_size,
        batch_delay=format_duration(model.batch.max_delay),
        batch_of_graph=spec.batch,
        classes=tuple(one.name for one in spec.classes),
        licence=spec.licence,
    )


def _stream(name: str, stream: Stream, spec: ModelSpec | None, backend: Backend, max_batch: int) -> ResolvedStream:
    check_watched(name, stream, spec)
    live = is_live(stream)
    rule = queue_rule(stream, backend, live=live, max_batch=max_batch)
    return ResolvedStream(
        name=name,
        source=presentable(stream.source.uri),
        kind=scheme_of(stream.source.uri) or "file",
        live=live,
        queue_size=rule.size,
        queue_policy=rule.policy,
        max_age=format_duration(rule.max_age_s) if rule.max_age_s else None,
        model=stream.model,
        view=stream.view if stream.model else "none",
        outputs=tuple(
            _output(output, f"streams.{name}.outputs.{index}", backend, live=live)
            for index, output in enumerate(stream.outputs)
        ),
        results=tuple(presentable(results.uri) for results in stream.results),
        watched=tuple(watch_notes(stream, spec.task)) if spec else (),
    )


def _output(output: Output, key: str, backend: Backend, *, live: bool) -> ResolvedOutput:
    settings = encode_settings(output, live=live)
    try:
        encoder = backend.encoder_name(settings)
    except ConfigError as error:
        raise ConfigError(f"{key}.encoder: {error}") from error
    if output.bitrate is not None:
        rate = f"{output.bitrate / 1e6:g} Mbit/s"
    else:
        rate = "usual quality" if output.quality is None else f"quality {output.quality}"
    return ResolvedOutput(
        uri=presentable(output.uri),
        codec=output.codec,
        encoder=encoder,
        rate=rate,
        gop=format_duration(output.gop),
        latency="live" if settings.live else "normal",
        segment=None if output.segment is None else format_duration(output.segment),
        keep=None if output.keep is None else format_duration(output.keep),
    )


def _warnings(config: Config, specs: dict[str, ModelSpec]) -> list[str]:
    warnings = [warning for spec in specs.values() if (warning := licence_warning(spec))]
    used = {stream.model for stream in config.streams.values()}
    warnings += [f"model {name}: no stream uses it" for name in config.models if name not in used]
    for name, stream in config.streams.items():
        if not stream.outputs and not stream.results:
            warnings.append(f"stream {name}: has neither outputs nor results; only its metrics will be seen")
        if stream.vr is not None:
            warnings.append(f"stream {name}: `vr` is read but not used yet; the picture is treated as flat")
        if stream.model in specs:
            warnings += watch_warnings(name, stream, specs[stream.model].task)
        uri = stream.source.uri
        if scheme_of(uri) == "file" and not Path(local_path(uri)).exists():
            warnings.append(f"stream {name}: {presentable(uri)} is not there yet")
    return warnings
