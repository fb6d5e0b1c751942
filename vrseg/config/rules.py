"""What one key demands of another: mistakes that the types alone cannot see.

Addresses are never quoted: any part of one may have come from a variable, and be secret.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vrseg.address import LIVE, local_path, scheme_of
from vrseg.config.document import KeyPath, Problem, dotted
from vrseg.config.mistakes import did_you_mean
from vrseg.config.rules_outputs import output_problems
from vrseg.config.rules_results import class_problems, is_shared_broker, is_webhook, result_problems, watch_problems
from vrseg.config.rules_server import server_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vrseg.config.schema import Config, Model, Server, Stream

_LATER_TASKS = frozenset({"matte", "instances", "keypoints"})


def problems_of(config: Config, model_names: frozenset[str]) -> Iterator[Problem]:
    """Yield every mistake between keys. `model_names`: all that the file names, also those that are broken."""
    yield from _server(config.server)
    for name, model in config.models.items():
        yield from _model(model, ("models", name))
    for name, stream in config.streams.items():
        yield from _stream(stream, ("streams", name), model_names)
        if stream.model in config.models and (classes := config.models[stream.model].classes):
            names = [one if isinstance(one, str) else one.name for one in classes]
            yield from class_problems(stream, names, ("streams", name))
    yield from _shared_outputs(config)


def _server(server: Server) -> Iterator[Problem]:
    host, _, port = server.listen.rpartition(":")
    if int(port) > 65535:
        yield Problem(("server", "listen"), f"port {port} does not exist; the highest is 65535")
    yield from server_problems(server)
    if not is_loopback(host) and not server.token:
        yield Problem(
            ("server", "listen"), "can be reached from other machines; set server.token, or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _model(model: Model, path: KeyPath) -> Iterator[Problem]:
    if model.task in _LATER_TASKS:
        yield Problem((*path, "task"), f"{model.task} is not in this version; segment and detect are")


def _stream(stream: Stream, path: KeyPath, model_names: frozenset[str]) -> Iterator[Problem]:
    if stream.model is not None and stream.model not in model_names:
        known = sorted(model_names)
        hint = did_you_mean(stream.model, known) or f"; known: {', '.join(known) or 'none'}"
        yield Problem((*path, "model"), f"no model is named {stream.model!r}{hint}")
    if stream.view == "alpha-pack":
        yield Problem((*path, "view"), "alpha-pack is not in this version; matte and green are near to it")
    elif stream.model is None and "view" in stream.model_fields_set and stream.view != "none":
        yield Problem((*path, "view"), f"{stream.view} shows what a model saw; name one with `model`, or write none")
    yield from _source(stream, (*path, "source"))
    for index, output in enumerate(stream.outputs):
        yield from output_problems(output, stream.source, (*path, "outputs", index))
    for index, results in enumerate(stream.results):
        yield from result_problems(results, (*path, "results", index), with_model=stream.model is not None)
    yield from watch_problems(stream, path)


def _source(stream: Stream, path: KeyPath) -> Iterator[Problem]:
    source = stream.source
    scheme = scheme_of(source.uri)
    if not source.uri.strip():
        yield Problem((*path, "uri"), "is empty; write a file or an address")
    elif scheme is None or (scheme == "file" and "://" in source.uri.removeprefix("file://")):
        yield Problem((*path, "uri"), f"is no kind of source; {_SOURCES}")
    elif scheme in (LIVE | {"http"}) and not _can_be(source.uri):
        yield Problem((*path, "uri"), "has a host or a port that cannot be; in a password, write / ? # as %2F %3F %23")
    elif scheme in LIVE:
        for key in ("loop", "realtime"):
            if getattr(source, key):
                yield Problem((*path, key), f"is for files; {scheme} is live already")
    if source.reconnect.initial > source.reconnect.max:
        yield Problem((*path, "reconnect", "max"), "is shorter than `initial`; the wait grows from `initial` to `max`")


def _can_be(uri: str) -> bool:
    try:
        return urlsplit(uri).port != 0
    except ValueError:
        return False


_SOURCES = "use a file, rtsp://, rtmp://, srt://, http://, https://, /dev/video0 or synthetic:"


def _shared_outputs(config: Config) -> Iterator[Problem]:
    """Find addresses that are written to twice, or that are read as well."""
    taken: dict[str, KeyPath] = {
        _identity(stream.source.uri): ("streams", name, "source") for name, stream in config.streams.items()
    }
    sources = frozenset(taken.values())
    for name, stream in config.streams.items():
        for path, uri in _written(stream, ("streams", name)):
            first = taken.setdefault(_identity(uri), path)
            if first in sources:
                yield Problem(path, f"would overwrite {dotted(first)}; write elsewhere")
            elif first != path and uri != "-":
                yield Problem(path, f"{dotted(first)} writes there already; give each a place of its own")


def _written(stream: Stream, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    for index, output in enumerate(stream.outputs):
        yield (*path, "outputs", index, "uri"), output.uri
    for index, results in enumerate(stream.results):
        if not is_webhook(results):
            of = f" of {path[-1]}" if is_shared_broker(results) else ""
            yield (*path, "results", index, "uri"), results.uri + of


def _identity(uri: str) -> str:
    return str(Path(local_path(uri)).resolve()) if scheme_of(uri) == "file" and uri != "-" else uri
