"""The streams of a soak as a configuration. Pure data: nothing here runs."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

Document: TypeAlias = dict[str, Any]
"""A configuration, as YAML holds it."""

UNTOUCHED = "steady"
"""The stream that no fault is aimed at: its latency tells what the faults of the others cost it."""
DRAIN_TIMEOUT_S = 5.0
# Drawing is most of what these streams cost: sizes and rates are such that 16 of them leave half of two cores free.
SMALL = "synthetic:160x90@5?figures=1"
STEADY = "synthetic:160x90@10?figures=1"
SEEN = "synthetic:192x108@2?figures=2"
MUCH = 10**18
"""Bytes that no disk has free."""

_ROLES = (
    "http",
    "results",
    "rtsp",
    "recording",
    "hls",
    "plain",
    "recording",
    "plain",
    "results",
    "hls",
    "plain",
    "recording",
    "rtsp",
    "plain",
    "results",
)


def stream_names(count: int) -> tuple[str, ...]:
    """Return `count` names; what a stream does is its name without the number."""
    return (UNTOUCHED, *(f"{role}{number}" for number, role in enumerate(islice(cycle(_ROLES), count - 1), start=1)))


def role_of(name: str) -> str:
    """Tell what a stream does."""
    return name.rstrip("0123456789")


def configuration(count: int, folder: Path, cameras: Mapping[str, str]) -> Document:
    """Return what `vrseg run` reads. `cameras`: addresses by role."""
    return {
        "models": {"person": {"path": "demo", "threads": 1}},
        "streams": {name: _stream(name, folder / name, cameras) for name in stream_names(count)},
        "server": {"listen": "127.0.0.1:0", "allow": ["synthetic:*"]},
        "drain_timeout": f"{DRAIN_TIMEOUT_S}s",
    }


def guest() -> Document:
    """Return a stream that may be added over HTTP: it writes no file."""
    return {"source": _source(SMALL)}


def file_outputs(document: Document) -> Iterator[Document]:
    """Yield the outputs that write files, but for the untouched stream's."""
    for name, stream in document["streams"].items():
        if name != UNTOUCHED:
            yield from stream.get("outputs", ())


def _stream(name: str, folder: Path, cameras: Mapping[str, str]) -> Document:
    role = role_of(name)
    if role in cameras:
        return {"source": _source(cameras[role]), "outputs": [_recording(folder)]}
    return _MAKERS[role](folder)


def _steady(folder: Path) -> Document:
    return {"source": _source(STEADY), "outputs": [_playlist(folder)]}


def _plain(_folder: Path) -> Document:
    return {"source": _source(SMALL)}


def _recorded(folder: Path) -> Document:
    return {"source": _source(SMALL), "outputs": [_recording(folder)]}


def _hls(folder: Path) -> Document:
    return {"source": _source(SMALL), "outputs": [_playlist(folder)]}


def _results(folder: Path) -> Document:
    half = {"points": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}
    return {
        "source": _source(SEEN),
        "model": "person",
        "results": [{"uri": str(folder / "found.jsonl"), "masks": "rle", "rotate": "50k", "backups": 3}],
        "zones": {"left": half},
    }


_MAKERS: Mapping[str, Callable[[Path], Document]] = {
    UNTOUCHED: _steady,
    "plain": _plain,
    "recording": _recorded,
    "hls": _hls,
    "results": _results,
}


def _source(uri: str) -> Document:
    return {
        "uri": uri,
        "open_timeout": "3s",
        "stall_timeout": "3s",
        "reconnect": {"initial": "200ms", "max": "2s"},
    }


def _recording(folder: Path) -> Document:
    return {
        "uri": str(folder / "%Y%m%d-%H%M%S.mp4"),
        "segment": "10s",
        "keep_size": "500k",
        "min_free": "1M",
        "preset": "ultrafast",
    }


def _playlist(folder: Path) -> Document:
    return {"uri": str(folder / "live.m3u8"), "segment": "2s", "keep": "20s", "min_free": "1M", "preset": "ultrafast"}
