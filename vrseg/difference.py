"""What differs between two configurations, as plain data. Nothing here touches what runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vrseg.config.document import dotted
from vrseg.errors import ConfigError, Finding
from vrseg.plan import outgrown, with_streams

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from vrseg.config.schema import Config
    from vrseg.plan import Plan

Value = TypeVar("Value")

FIXED = (("device",), ("server", "listen"), ("server", "token"), ("server", "certificate"), ("server", "key"))
"""Keys that the process is built upon: another value needs another process."""


_RESTART = "this process is built upon the old value; restart it for the new one, or take the change back"


class ConflictError(ConfigError):
    """The configuration is right, but does not go together with what runs. Nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Names of models, or of streams: each is in one of these, in the order of the new configuration."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a daemon has to do to become another configuration."""

    models: Change
    streams: Change
    """A stream whose model changes is changed itself."""
    fixed: tuple[str, ...] = ()
    """Those of `FIXED` that differ, dotted."""


def difference(old: Config, new: Config, *, rewritten: frozenset[str] = frozenset()) -> Difference:
    """Compare two configurations. `rewritten`: models of both whose files are not what they were."""
    models = compare(old.models, new.models, also=rewritten)
    moved = frozenset(models.changed)
    streams = compare(old.streams, new.streams, also={name for name, one in new.streams.items() if one.model in moved})
    return Difference(
        models=models,
        streams=streams,
        fixed=tuple(dotted(path) for path in FIXED if _at(old, path) != _at(new, path)),
    )


def compare(old: Mapping[str, Value], new: Mapping[str, Value], *, also: Collection[str] = ()) -> Change:
    """Sort the names of two mappings. `also` have changed, though their values are equal."""
    both = [name for name in new if name in old]
    changed = [name for name in both if old[name] != new[name] or name in also]
    return Change(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(changed),
        kept=tuple(name for name in both if name not in changed),
    )


def _at(config: Config, path: tuple[str, ...]) -> object:
    here: object = config
    for key in path:
        here = getattr(here, key)
    return here


def rewritten(old: Plan, new: Plan) -> frozenset[str]:
    """Name the models of both plans that must be loaded anew though their sections may be equal.

    Their ONNX file or description was written anew, or they serve others now.
    """
    both = old.specs.keys() & new.specs.keys()
    return outgrown(old, new) | frozenset(
        name for name in both if (old.specs[name], old.stamps[name]) != (new.specs[name], new.stamps[name])
    )


def joined(running: Plan, guests: Collection[str], new: Plan) -> Plan:
    """Return the new plan together with `guests`, those of the running streams that were added over HTTP.

    Raises:
        ConflictError: the two do not go together.
    """
    findings: list[Finding] = []
    for name in guests:
        model = running.config.streams[name].model
        if name in new.config.streams:
            findings.append(
                Finding(
                    path=dotted(("streams", name)),
                    text="a stream of this name was added over HTTP; remove that one first, or choose another name",
                )
            )
        elif model is not None and model not in new.config.models:
            findings.append(
                Finding(
                    path=dotted(("models", model)),
                    text=f"stream {name}, which was added over HTTP, still uses it; remove that stream first",
                )
            )
    findings += [Finding(path=path, text=_RESTART) for path in difference(running.config, new.config).fixed]
    if findings:
        raise ConflictError(*findings)
    return with_streams(new, {name: running.config.streams[name] for name in guests})
