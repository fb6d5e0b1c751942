"""Outputs of the configuration as sinks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vrseg.address import is_playlist, local_path, redact, scheme_of
from vrseg.errors import ConfigError
from vrseg.sink.containers import container_of
from vrseg.sink.disk import DiskGuard
from vrseg.sink.hls import KEEP_S, PIECE_S, HlsSink
from vrseg.sink.lasting import LastingSink
from vrseg.sink.naming import check_fields, fixed_folder, has_fields
from vrseg.sink.push import PushSink
from vrseg.sink.recording import RecordingSink, SegmentSink
from vrseg.sink.retention import Retention
from vrseg.sink.written import WrittenFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vrseg.config.schema import Output
    from vrseg.sink.lasting import OutputLife
    from vrseg.stage import VideoSink

_PUSHED = frozenset({"rtsp", "rtmp", "srt"})


def make_video_sink(output: Output, base_dir: Path, *, name: str = "0", waits: bool = True) -> VideoSink:
    """Make the sink of one encoded output of a running daemon. It mends itself: see `LastingSink`.

    Args:
        output: of the configuration.
        base_dir: relative paths start here.
        name: the output's number among the stream's.
        waits: packets may be dropped while the output is away; else its errors end the stream.

    Raises:
        ConfigError: an address that nothing can be sent to, an ending or codec that does not fit.
    """
    scheme = scheme_of(output.uri)
    if output.keep is not None and output.segment is None and not is_playlist(output.uri):
        raise ConfigError(f"{redact(output.uri)}: keep deletes old segments: add segment, or remove keep")
    if scheme in _PUSHED:
        _check_push(output)
        return LastingSink(lambda: PushSink(output.uri), name=name, kind=scheme, waits=waits)
    if scheme != "file":
        raise ConfigError(f"{redact(output.uri)}: not an output; use a file, rtsp://, rtmp:// or srt://")
    path = base_dir / local_path(output.uri)
    guard = DiskGuard(fixed_folder(path), output.min_free)
    if is_playlist(output.uri):
        make = _playlist_maker(output, path)
        return LastingSink(make, name=name, kind="hls", hindrance=guard.hindrance, waits=waits)
    # One for all lives: it knows what was written before, and how the clock has gone since.
    retention = _retention(output, path)
    make = _file_maker(output, path, retention)
    recorder = partial(LastingSink, make, name=name, kind="file", waits=waits)
    if retention is None:
        return recorder(hindrance=guard.hindrance)
    return recorder(hindrance=partial(_hindrance, guard, retention), housekeeping=retention.delete_due)


def _retention(output: Output, path: Path) -> Retention | None:
    if output.segment is None or (output.keep is None and output.keep_size is None):
        return None
    return Retention(WrittenFiles(path), keep_s=output.keep, keep_bytes=output.keep_size)


def _hindrance(guard: DiskGuard, retention: Retention) -> str | None:
    detail = guard.hindrance()
    if detail is not None:
        retention.delete_due()
    return detail


def _file_maker(output: Output, path: Path, retention: Retention | None) -> Callable[[], OutputLife]:
    container_of(path, output.codec)
    check_fields(str(path))
    segment_s = output.segment
    if segment_s is None:
        return lambda: RecordingSink(path, codec=output.codec)
    if not has_fields(str(path)):
        raise ConfigError(f"{path}: segments need names that change: add fields such as %Y%m%d-%H%M%S")
    return lambda: SegmentSink(path, codec=output.codec, segment_s=segment_s, retention=retention)


def _playlist_maker(output: Output, path: Path) -> Callable[[], OutputLife]:
    if has_fields(str(path)):
        raise ConfigError(f"{path}: a playlist keeps its name: take the time fields out")
    piece_s, keep_s = output.segment or PIECE_S, output.keep or KEEP_S
    return lambda: HlsSink(path, codec=output.codec, piece_s=piece_s, keep_s=keep_s)


def _check_push(output: Output) -> None:
    uri = redact(output.uri)
    if output.segment is not None:
        raise ConfigError(f"{uri}: segment is for files: remove it")
    if output.codec == "av1" and scheme_of(output.uri) == "srt":
        raise ConfigError(f"{uri}: SRT carries MPEG-TS, which cannot hold av1: use h264 or hevc")
