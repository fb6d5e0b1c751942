"""Recordings: files that are playable at any moment, under their final names from the start."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Never

from av.error import FFmpegError

from vrseg.av_errors import output_error
from vrseg.errors import ConfigError
from vrseg.sink.containers import container_of
from vrseg.sink.muxer import open_file
from vrseg.sink.naming import check_fields, create_free, has_fields

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vrseg.frame import EncodedPacket
    from vrseg.sink.muxer import Muxer
    from vrseg.sink.retention import Retention


class RecordingSink:
    """Stage[EncodedPacket, Never]: one file from start to stop.

    A file that exists is never replaced: `-1`, `-2` and so on is added to the name. A killed process leaves a playable
    file that lacks the last fragment (the time between two key frames) at most.

    Args:
        pattern: the file; may hold strftime fields, which are filled with local time when the first frame comes.
        codec: `h264`, `hevc` or `av1`, to refuse early what the container cannot hold.
        retention: is told of the file, so that it may be deleted one day.

    Raises:
        ConfigError: from `open`: unknown ending or field, unfitting codec, folder not writable.
        MediaError: from `process` and `flush`: the disk is full.
    """

    def __init__(self, pattern: Path, *, codec: str, retention: Retention | None = None) -> None:
        self._pattern = pattern
        self._codec = codec
        self._retention = retention
        self.path: Path | None = None
        """Of the file at work, or the last."""
        self._muxer: Muxer | None = None

    @property
    def up(self) -> bool:
        return self._muxer is not None

    def open(self) -> None:
        container_of(self._pattern, self._codec)
        check_fields(str(self._pattern))
        _try_folder(self._pattern)

    def ready(self) -> bool:
        return True

    def process(self, packet: EncodedPacket, /) -> Iterable[Never]:
        try:
            if self._muxer is None:
                self._muxer = self._start(packet)
            self._muxer.write(packet)
        except (FFmpegError, OSError) as error:
            raise output_error(error, str(self.path or self._pattern), live=False) from error
        return ()

    def suspend(self) -> None:
        self.flush()

    def flush(self) -> Iterable[Never]:
        muxer, self._muxer = self._muxer, None
        if muxer is not None:
            try:
                muxer.finish()
                self._note_end()
            except (FFmpegError, OSError) as error:
                raise output_error(error, str(self.path), live=False) from error
        return ()

    def close(self) -> None:
        if self._muxer is not None:
            self._muxer.abandon()
            self._muxer = None
            with suppress(OSError):  # why it ends like this is told by whoever closes it
                self._note_end()

    def _start(self, first: EncodedPacket) -> Muxer:
        path = self.path = create_free(str(self._pattern), datetime.now().astimezone())
        try:
            if self._retention is not None:
                self._retention.begin(path)
            return open_file(path, container_of(path, self._codec), first)
        except BaseException:
            path.unlink(missing_ok=True)  # the name was only reserved: a recording without a frame is none
            if self._retention is not None:
                with suppress(OSError):  # the index goes where the recording could not go either
                    self._retention.discard(path)
            raise

    def _note_end(self) -> None:
        if self._retention is not None and self.path is not None:
            self._retention.complete(self.path)


class SegmentSink:
    """Stage[EncodedPacket, Never]: a new recording every so often, at a key frame, so that no frame is lost between.

    Args:
        pattern: names with strftime fields, which are filled with local time when a segment begins.
        codec: `h264`, `hevc` or `av1`.
        segment_s: length of a segment; it lasts until the first key frame after this.
        retention: deletes segments that are old enough, or too many; None keeps all.

    Raises:
        ConfigError: from `open`, as `RecordingSink`; or the name does not change with time.
        MediaError: as `RecordingSink`.
    """

    def __init__(self, pattern: Path, *, codec: str, segment_s: float, retention: Retention | None = None) -> None:
        self._pattern = pattern
        self._segment_s = segment_s
        self._retention = retention
        self._recording = RecordingSink(pattern, codec=codec, retention=retention)
        self._began_s: float | None = None

    @property
    def up(self) -> bool:
        return self._recording.up

    def open(self) -> None:
        if not has_fields(str(self._pattern)):
            raise ConfigError(f"{self._pattern}: segments need names that change: add fields such as %Y%m%d-%H%M%S")
        self._recording.open()
        if self._retention is not None:
            self._retention.load()

    def ready(self) -> bool:
        return True

    def process(self, packet: EncodedPacket, /) -> Iterable[Never]:
        time_s = float(packet.pts * packet.format.time_base)
        begins = self._began_s is None or (packet.key and time_s - self._began_s >= self._segment_s)
        if begins:
            self._recording.flush()
            self._began_s = time_s
        self._recording.process(packet)
        if packet.key and self._retention is not None:
            try:
                self._retention.apply(self._recording.path, at_once=begins)
            except OSError as error:
                raise output_error(error, str(self._pattern), live=False) from error
        return ()

    def suspend(self) -> None:
        self._recording.suspend()

    def flush(self) -> Iterable[Never]:
        return self._recording.flush()

    def close(self) -> None:
        self._recording.close()


def _try_folder(pattern: Path) -> None:
    """Learn now, and not at the first frame, whether files can be made here."""
    probe = create_free(str(pattern.with_name(f".{pattern.name}.probe")), datetime.now().astimezone())
    try:
        probe.unlink()
    except OSError as error:
        raise ConfigError(str(output_error(error, str(pattern.parent), live=False))) from error
