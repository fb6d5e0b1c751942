"""One whole video file, which appears under its name only when it is complete."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Never

from av.error import FFmpegError

from vrseg.av_errors import output_error
from vrseg.errors import ConfigError, MediaError
from vrseg.sink.carry import CarriedStreams
from vrseg.sink.containers import container_of
from vrseg.sink.muxer import open_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vrseg.frame import EncodedPacket
    from vrseg.sink.muxer import Muxer


class FileSink:
    """Stage[EncodedPacket, Never]: a file for jobs.

    Packets go to `.name.part.ending` in the same folder. `flush` completes that file and gives it its name; `close`
    without `flush` removes it. A killed process leaves the part file, which is playable, and the next run replaces it.

    Args:
        path: the file; its ending chooses the container.
        codec: `h264`, `hevc` or `av1`, to refuse early what the container cannot hold.
        replace: whether a file of that name may be replaced.
        carry: a media file whose audio, subtitles, data, chapters and metadata go into the output.

    Raises:
        ConfigError: from `open`: unknown ending, unfitting codec, folder missing or not writable, file exists.
        MediaError: from `process` and `flush`: the disk is full, no frame came.
    """

    def __init__(self, path: Path, *, codec: str, replace: bool = False, carry: Path | None = None) -> None:
        self._path = path
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._codec = codec
        self._replace = replace
        self._carry = carry
        self._carried: CarriedStreams | None = None
        self._muxer: Muxer | None = None
        self._reserved = False

    def open(self) -> None:
        container_of(self._path, self._codec)
        if self._path.exists() and not self._replace:
            raise ConfigError(f"{self._path}: the file exists: remove it, or choose another name")
        try:
            self._part.open("wb").close()
        except OSError as error:
            raise ConfigError(str(output_error(error, str(self._path), live=False))) from error
        self._reserved = True
        if self._carry is not None:
            self._carried = CarriedStreams(self._carry)
            self._carried.open()

    def process(self, packet: EncodedPacket, /) -> Iterable[Never]:
        try:
            if self._muxer is None:
                self._muxer = self._start(packet)
            self._muxer.write(packet)
        except (FFmpegError, OSError) as error:
            raise output_error(error, str(self._path), live=False) from error
        return ()

    def flush(self) -> Iterable[Never]:
        if self._muxer is None:
            raise MediaError(f"{self._path}: no frame came, so nothing was written: check the input")
        try:
            self._muxer.finish()
            self._muxer = None
            _sync(self._part)
            self._part.replace(self._path)
        except (FFmpegError, OSError) as error:
            raise output_error(error, str(self._path), live=False) from error
        self._reserved = False
        return ()

    def close(self) -> None:
        if self._muxer is not None:
            self._muxer.abandon()
            self._muxer = None
        if self._carried is not None:
            self._carried.close()
        if self._reserved:
            self._part.unlink(missing_ok=True)
            self._reserved = False

    def _start(self, first: EncodedPacket) -> Muxer:
        return open_file(self._part, container_of(self._path, self._codec), first, self._carried)


def _sync(path: Path) -> None:
    """Have the disk hold the data before the name appears: a power cut must not leave an empty file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
