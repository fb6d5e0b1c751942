"""What the keys of encoded outputs demand of one another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vrseg.address import is_playlist, local_path, scheme_of
from vrseg.config.document import KeyPath, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vrseg.config.schema import Output, SourceSection

VIDEO_FILES: Mapping[str, frozenset[str]] = {
    ".mp4": frozenset({"h264", "hevc", "av1"}),
    ".m4v": frozenset({"h264", "hevc", "av1"}),
    ".mov": frozenset({"h264", "hevc"}),
    ".mkv": frozenset({"h264", "hevc", "av1"}),
    ".webm": frozenset({"av1"}),
    ".ts": frozenset({"h264", "hevc"}),
}
"""Endings of files that can be written, and the codecs that each can hold."""
MOST_SEGMENTS = 100_000
"""That an index of recordings holds."""
_PUSH = frozenset({"rtsp", "rtmp", "srt"})
_STRFTIME = re.compile(r"%[a-zA-Z]")


def output_problems(output: Output, source: SourceSection, path: KeyPath) -> Iterator[Problem]:
    """Yield every mistake between the keys of one output."""
    scheme = scheme_of(output.uri)
    if is_playlist(output.uri):
        yield from _playlist(output, path)
    elif scheme == "file" and "://" not in output.uri.removeprefix("file://"):
        yield from _file(output, path)
    elif scheme in _PUSH:
        yield from _push(output, scheme, path)
    else:
        yield Problem((*path, "uri"), "is no kind of output; use a file, rtsp://, rtmp:// or srt://")
    if output.bitrate is not None and output.quality is not None:
        yield Problem((*path, "quality"), "cannot be had together with `bitrate`; keep one of them")
    if output.bitrate == 0:
        yield Problem((*path, "bitrate"), "0 bits per second hold no video; leave the key out for constant quality")
    is_file = scheme_of(source.uri) == "file" and not source.realtime
    if is_file and output.on_source_lost in {"hold", "black"}:
        yield Problem((*path, "on_source_lost"), "is for live sources; a file does not go away")


def _push(output: Output, scheme: str, path: KeyPath) -> Iterator[Problem]:
    for key in ("segment", "keep", "keep_size", "min_free"):
        if key in output.model_fields_set and getattr(output, key) is not None:
            yield Problem((*path, key), f"is for files; {scheme} is a live output")
    if scheme == "rtmp" and output.codec == "av1":
        yield Problem((*path, "codec"), "RTMP carries h264 or hevc")


def _playlist(output: Output, path: KeyPath) -> Iterator[Problem]:
    if _STRFTIME.search(local_path(output.uri)):
        yield Problem((*path, "uri"), "a playlist must keep its name; take the time out")
    if output.keep_size is not None:
        yield Problem((*path, "keep_size"), "is for recordings; a playlist reaches back by time, see `keep`")
    if output.segment is not None and output.segment < output.gop:
        yield Problem((*path, "segment"), "is shorter than `gop`, and a piece begins at a key frame; set `gop` to it")
    if output.segment is not None and output.keep is not None and output.keep < output.segment:
        yield Problem((*path, "keep"), "is shorter than one piece; players need three of them or more")


def _file(output: Output, path: KeyPath) -> Iterator[Problem]:
    name = local_path(output.uri)
    suffix = Path(name).suffix.lower()
    if suffix not in VIDEO_FILES:
        yield Problem((*path, "uri"), f"is no video file that can be written; use {', '.join(VIDEO_FILES)}, or .m3u8")
    elif output.codec not in VIDEO_FILES[suffix]:
        fitting = " or ".join(sorted(VIDEO_FILES[suffix]))
        yield Problem(
            (*path, "codec"), f"a {suffix} file cannot hold {output.codec}; use {fitting}, or an .mp4 or .mkv file"
        )
    if output.segment is None:
        for key in ("keep", "keep_size"):
            if getattr(output, key) is not None:
                yield Problem((*path, key), "deletes old segments; set `segment` too")
        return
    if not _STRFTIME.search(name):
        yield Problem((*path, "uri"), "every segment would have the same name; put in the time, such as %Y%m%d-%H%M%S")
    if output.keep is not None and output.keep / output.segment > MOST_SEGMENTS:
        yield Problem((*path, "segment"), f"makes more than {MOST_SEGMENTS} files within `keep`; make segments longer")
    if output.keep_size == 0:
        yield Problem((*path, "keep_size"), "0 keeps nothing; leave the key out to keep all")
