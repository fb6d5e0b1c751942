"""What keys of results, zones and lines demand of each other. As in `rules`, addresses are never quoted."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from vrseg.config.document import Problem
from vrseg.config.mistakes import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vrseg.config.document import KeyPath
    from vrseg.config.schema import ResultOutput, Stream
    from vrseg.config.schema_output import Point

_BROKERS = ("mqtt", "mqtts")
_WEBHOOKS = ("http", "https")
_LISTED = 8
_SMALLEST_AREA = 1e-9


def result_problems(results: ResultOutput, path: KeyPath, *, with_model: bool) -> Iterator[Problem]:
    """Yield mistakes of one output of results."""
    scheme = _scheme(results)
    if scheme in _BROKERS or scheme in _WEBHOOKS:
        yield from _address_problems(results.uri, (*path, "uri"))
    elif results.uri != "-" and not (results.uri.endswith(".jsonl") and scheme in ("", "file")):
        yield Problem((*path, "uri"), "is no place for results; use a .jsonl file, -, mqtt://, mqtts:// or http(s)://")
    elif results.rotate is not None and results.uri == "-":
        yield Problem((*path, "rotate"), "is for files; standard output cannot be started anew")
    frames = results.content == "frames" or (results.content == "auto" and not is_remote(results))
    if scheme and scheme != "file" and results.rotate is not None:
        yield Problem((*path, "rotate"), f"is for .jsonl files; {scheme} has none")
    if results.rotate == 0:
        yield Problem((*path, "rotate"), "0 bytes hold no line; leave the key out to let the file grow")
    if results.secret is not None and scheme not in _WEBHOOKS:
        yield Problem((*path, "secret"), "signs what goes to a webhook; only http:// and https:// have one")
    if results.masks != "none" and not frames:
        yield Problem((*path, "masks"), "events hold no masks; write `content: frames`, or none")
    if frames and not with_model:
        yield Problem(path, "there are no results without a model; name one with `model`")


def is_remote(results: ResultOutput) -> bool:
    """Tell whether results go to a broker or a webhook."""
    return _scheme(results) in (*_BROKERS, *_WEBHOOKS)


def is_webhook(results: ResultOutput) -> bool:
    """Tell whether results go to a webhook: any number of outputs may name the same one."""
    return _scheme(results) in _WEBHOOKS


def is_shared_broker(results: ResultOutput) -> bool:
    """Tell whether several streams may name the same address of a broker: without a topic, each has its own."""
    return _scheme(results) in _BROKERS and not results.uri.partition("://")[2].partition("/")[2].strip("/")


def watch_problems(stream: Stream, path: KeyPath) -> Iterator[Problem]:
    """Yield mistakes of what is watched in a stream."""
    if stream.model is None:
        for key in ("track", "zones", "lines"):
            if getattr(stream, key):
                yield Problem((*path, key), "needs a model that sees something; name one with `model`")
    for name, zone in stream.zones.items():
        if abs(_area(zone.points)) < _SMALLEST_AREA:
            yield Problem((*path, "zones", name, "points"), "has no area; give three corners that are not on one line")
    for name, line in stream.lines.items():
        if line.start == line.end:
            yield Problem((*path, "lines", name, "end"), "is where the line starts; it has no length")


def class_problems(stream: Stream, class_names: Sequence[str], path: KeyPath) -> Iterator[Problem]:
    """Yield names of classes that the stream's model does not have."""
    known = list(class_names)
    for section, watched in (("zones", stream.zones), ("lines", stream.lines)):
        for name, one in watched.items():
            for index, wanted in enumerate(one.classes):
                if wanted not in known:
                    more = ", ..." if len(known) > _LISTED else ""
                    hint = did_you_mean(wanted, known) or f"; it has {', '.join(known[:_LISTED])}{more}"
                    yield Problem((*path, section, name, "classes", index), f"the model has no class {wanted!r}{hint}")


def watch_warnings(name: str, stream: Stream, task: str) -> Iterator[str]:
    """Yield what will not happen in a stream, though it is no mistake. `task`: of its model."""
    if task != "segment":
        return
    if stream.lines:
        yield (
            f"stream {name}: lines count boxes, and its model gives masks; nothing will cross {', '.join(stream.lines)}"
        )
    if stream.track:
        yield f"stream {name}: `track` is for boxes, and its model gives masks; it does nothing"


def watch_notes(stream: Stream, task: str) -> Iterator[str]:
    """Say what each zone and line of a stream means with its model's `task`."""
    for name, zone in stream.zones.items():
        of_classes = f" of {', '.join(zone.classes)}" if zone.classes else ""
        if task == "segment":
            yield f"{name}: occupied where masks{of_classes} cover {zone.cover * 100:.3g} % of it"
        else:
            yield f"{name}: counts who{of_classes} stands in it"
    if task != "segment":
        for name, line in stream.lines.items():
            of_classes = f" of {', '.join(line.classes)}" if line.classes else ""
            yield f"{name}: counts who{of_classes} crosses it"


def _scheme(results: ResultOutput) -> str:
    return results.uri.partition("://")[0].lower() if "://" in results.uri else ""


def _address_problems(uri: str, path: KeyPath) -> Iterator[Problem]:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        yield Problem(path, "has a port or a host that cannot be; ports are 1 to 65535")
        return
    if not host or port == 0:
        yield Problem(path, "names no host to send to; write scheme://host/path")
    if parts.scheme.lower() in _BROKERS and set(unquote(parts.path) + parts.fragment) & set("+#\0"):
        yield Problem(path, "+ and # are for subscribers; leave them out of the topic")
    if parts.scheme.lower() in _BROKERS and (parts.query or "#" in uri):
        yield Problem(path, "the topic is the address's path; ? and # have no meaning there")


def _area(points: Sequence[Point]) -> float:
    """Twice the area of a polygon."""
    return sum(
        one[0] * other[1] - other[0] * one[1] for one, other in zip(points, (*points[1:], points[0]), strict=True)
    )
