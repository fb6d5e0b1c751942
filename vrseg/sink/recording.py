"""Recordings: files that are playable at any moment, under their final names from the start."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Never

import structlog
from av.error import FFmpegError

from vrseg.av_errors import describe, output_error
from vrseg.errors import ConfigError
from vrseg.sink.containers import container_of
from vrseg.sink.muxer import open_file
from vrseg.sink.naming import check_fields, create_free, files_of, has_fields

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vrseg.frame import EncodedPacket
    from vrseg.sink.muxer import Muxer

_log = structlog.get_logger(__name__)


class RecordingSink:
    """Stage[EncodedPacket, Never]: one file from start to stop.

    A file that exists is never replaced: `-1`, `-2` and so on is added to the name. A killed process leaves a playable
    file that lacks the last fragment (the time between two key frames) at most.

    Args:
        pattern: the file; may hold strftime fields, which are filled with local time when the first frame comes.
        codec: `h264`, `hevc` or `av1`, to refuse early what the container cannot hold.

    Raises:
        ConfigError: from `open`: unknown ending or field, unfitting codec, folder not writable.
        MediaError: from `process` and `flush`: the disk is full.
    """

    def __init__(self, pattern: Path, *, codec: str) -> None:
        self._pattern = pattern
        self._codec = codec
        self._path: Path | None = None
        self._muxer: Muxer | None = None

    def open(self) -> None:
        container_of(self._pattern, self._codec)
        check_fields(str(self._pattern))
        _try_folder(self._pattern)

    def process(self, packet: EncodedPacket, /) -> Iterable[Never]:
        try:
            if self._muxer is None:
                self._muxer = self._start(packet)
            self._muxer.write(packet)
        except (FFmpegError, OSError) as error:
            raise output_error(error, str(self._path or self._pattern), live=False) from error
        return ()

    def flush(self) -> Iterable[Never]:
        muxer, self._muxer = self._muxer, None
        if muxer is not None:
            try:
                muxer.finish()
            except (FFmpegError, OSError) as error:
                raise output_error(error, str(self._path), live=False) from error
        return ()

    def close(self) -> None:
        if self._muxer is not None:
            self._muxer.abandon()
            self._muxer = None

    def _start(self, first: EncodedPacket) -> Muxer:
        self._path = create_free(str(self._pattern), datetime.now().astimezone())
        try:
            return open_file(self._path, container_of(self._path, self._codec), first)
        except BaseException:
            self._path.unlink(missing_ok=True)  # the name was only reserved: a recording without a frame is none
            raise


class SegmentSink:
    """Stage[EncodedPacket, Never]: a new recording every so often, at a key frame, so that no frame is lost between.

    Args:
        pattern: names with strftime fields, which are filled with local time when a segment begins.
        codec: `h264`, `hevc` or `av1`.
        segment_s: length of a segment; it lasts until the first key frame after this.
        keep_s: segments last written longer ago are deleted when a new one begins; None keeps all. Only files whose
            names the pattern can have made are ever deleted.

    Raises:
        ConfigError: from `open`, as `RecordingSink`; or the name does not change with time.
        MediaError: as `RecordingSink`.
    """

    def __init__(self, pattern: Path, *, codec: str, segment_s: float, keep_s: float | None = None) -> None:
        self._pattern = pattern
        self._segment_s = segment_s
        self._keep_s = keep_s
        self._recording = RecordingSink(pattern, codec=codec)
        self._began_s: float | None = None

    def open(self) -> None:
        if not has_fields(str(self._pattern)):
            raise ConfigError(f"{self._pattern}: segments need names that change: add fields such as %Y%m%d-%H%M%S")
        self._recording.open()

    def process(self, packet: EncodedPacket, /) -> Iterable[Never]:
        time_s = float(packet.pts * packet.format.time_base)
        if self._began_s is None or (packet.key and time_s - self._began_s >= self._segment_s):
            self._recording.flush()
            self._began_s = time_s
            self._forget_old()
        return self._recording.process(packet)

    def flush(self) -> Iterable[Never]:
        return self._recording.flush()

    def close(self) -> None:
        self._recording.close()

    def _forget_old(self) -> None:
        if self._keep_s is None:
            return
        oldest_s = datetime.now().timestamp() - self._keep_s  # noqa: DTZ005 - a time stamp has no zone
        for path in files_of(str(self._pattern)):
            try:
                if path.stat().st_mtime < oldest_s:
                    path.unlink()
                    _log.info("old segment deleted", path=str(path))
            except OSError as error:
                _log.warning("old segment not deleted", path=str(path), error=describe(error))


def _try_folder(pattern: Path) -> None:
    """Learn now, and not at the first frame, whether files can be made here."""
    probe = create_free(str(pattern.with_name(f".{pattern.name}.probe")), datetime.now().astimezone())
    probe.unlink()
