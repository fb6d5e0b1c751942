"""A configuration that has been looked at from all sides: it can be started."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from vrseg.assembly import audience_of, is_live, max_batch_of, stream_stages
from vrseg.backend.choose import choose_backend
from vrseg.models.load import load_spec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vrseg.backend.backend import Backend
    from vrseg.config.schema import Config, Stream
    from vrseg.models.spec import ModelSpec

FileStamp: TypeAlias = tuple[int, int]
"""Time of the last change, ns, and size, bytes: differs when a file was written anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to run, and all that was found out about it without opening anything."""

    config: Config
    base_dir: Path
    """Relative paths in the configuration count from here."""
    backend: Backend
    specs: Mapping[str, ModelSpec]
    """By model name."""
    stamps: Mapping[str, FileStamp]
    """Of the ONNX files, by model name."""
    live: Mapping[str, bool]
    """By stream name."""
    niceness: int
    """See `StreamStages.niceness`."""


def make_plan(config: Config, base_dir: Path, *, niceness: int = 0, backend: Backend | None = None) -> Plan:
    """Choose the device, unless one is at work already; read the models, look at the sources. Opens nothing.

    Raises:
        ConfigError, DeviceError, ModelError: the plan cannot work.
    """
    backend = backend or choose_backend(config.device)
    specs = {name: load_spec(name, model, base_dir) for name, model in config.models.items()}
    plan = Plan(
        config=config.model_copy(update={"streams": {}}),
        base_dir=base_dir,
        backend=backend,
        specs=specs,
        stamps={name: _stamp(spec.path) for name, spec in specs.items()},
        live={},
        niceness=niceness,
    )
    return with_streams(plan, config.streams)


def with_streams(plan: Plan, streams: Mapping[str, Stream]) -> Plan:
    """Return a plan of these streams too; those that have the same name are replaced.

    Raises:
        ConfigError: a stream cannot work.
    """
    live = {name: is_live(stream) for name, stream in streams.items()}
    for name, stream in streams.items():
        # made once for their constructors' objections, before anything runs
        spec = plan.specs[stream.model] if stream.model else None
        stream_stages(
            name,
            stream,
            spec,
            plan.backend,
            plan.base_dir,
            live=live[name],
            max_batch=max_batch_of(plan.config, stream),
        )
    return _of_streams(plan, {**plan.config.streams, **streams}, {**plan.live, **live})


def without_stream(plan: Plan, name: str) -> Plan:
    """Return the plan without one of its streams."""
    streams = {one: stream for one, stream in plan.config.streams.items() if one != name}
    return _of_streams(plan, streams, {one: live for one, live in plan.live.items() if one != name})


def outgrown(old: Plan, new: Plan) -> frozenset[str]:
    """Name the models of both plans that, as loaded for the old one, could not draw or tell what the new one wants.

    That is so where models draw: on a GPU. On the CPU each stream draws for itself.
    """
    if new.backend.make_render is not None:
        return frozenset()
    return frozenset(
        name
        for name in old.specs.keys() & new.specs.keys()
        if not audience_of(name, old.config, old.specs[name]).covers(audience_of(name, new.config, new.specs[name]))
    )


def _of_streams(plan: Plan, streams: Mapping[str, Stream], live: Mapping[str, bool]) -> Plan:
    return replace(plan, config=plan.config.model_copy(update={"streams": dict(streams)}), live=live)


def _stamp(path: Path) -> FileStamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
