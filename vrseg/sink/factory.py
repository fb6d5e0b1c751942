"""Outputs of the configuration as sinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.address import local_path, redact, scheme_of
from vrseg.errors import ConfigError
from vrseg.sink.containers import container_of
from vrseg.sink.naming import check_fields, has_fields
from vrseg.sink.push import PushSink
from vrseg.sink.recording import RecordingSink, SegmentSink
from vrseg.sink.results import JsonLinesSink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vrseg.config.schema import Output, ResultOutput
    from vrseg.stage import ResultSink, VideoSink

_PUSHED = frozenset({"rtsp", "rtmp", "srt"})


def make_video_sink(output: Output, base_dir: Path) -> VideoSink:
    """Make the sink of one encoded output of a running daemon.

    Args:
        output: of the configuration.
        base_dir: relative paths start here.

    Raises:
        ConfigError: an address that nothing can be sent to, an ending or codec that does not fit.
    """
    scheme = scheme_of(output.uri)
    if output.keep is not None and output.segment is None:
        raise ConfigError(f"{redact(output.uri)}: keep deletes old segments: add segment, or remove keep")
    if scheme in _PUSHED:
        return _push_sink(output)
    if scheme != "file":
        raise ConfigError(f"{redact(output.uri)}: not an output; use a file, rtsp://, rtmp:// or srt://")
    path = base_dir / local_path(output.uri)
    container_of(path, output.codec)
    check_fields(str(path))
    if output.segment is None:
        return RecordingSink(path, codec=output.codec)
    if not has_fields(str(path)):
        raise ConfigError(f"{path}: segments need names that change: add fields such as %Y%m%d-%H%M%S")
    return SegmentSink(path, codec=output.codec, segment_s=output.segment, keep_s=output.keep)


def _push_sink(output: Output) -> PushSink:
    uri = redact(output.uri)
    if output.segment is not None:
        raise ConfigError(f"{uri}: segment is for files: remove it")
    if output.codec == "av1" and scheme_of(output.uri) == "srt":
        raise ConfigError(f"{uri}: SRT carries MPEG-TS, which cannot hold av1: use h264 or hevc")
    return PushSink(output.uri)


def make_result_sink(
    output: ResultOutput,
    base_dir: Path,
    *,
    class_names: Sequence[str] = (),
    background_ids: frozenset[int] = frozenset(),
    whole: bool = False,
) -> ResultSink:
    """Make the sink of one output of results.

    Args:
        output: of the configuration.
        base_dir: relative paths start here.
        class_names: in the order of class ids.
        background_ids: classes that are nothing.
        whole: True for jobs: the file appears only when it is complete.

    Raises:
        ConfigError: neither `-` nor a file that ends in .jsonl.
    """
    path = None if output.uri == "-" else base_dir / local_path(output.uri)
    if path is not None and (scheme_of(output.uri) != "file" or path.suffix.lower() != ".jsonl"):
        raise ConfigError(f"{redact(output.uri)}: results go to a .jsonl file or to - (standard output)")
    return JsonLinesSink(
        path, class_names=class_names, background_ids=background_ids, masks=output.masks == "rle", whole=whole
    )
