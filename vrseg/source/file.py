"""Any file that FFmpeg reads, as fast as it is asked for, or at its own speed as if it were a camera."""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Any, cast

import av
import av.error

from vrseg.address import local_path
from vrseg.av_errors import source_error
from vrseg.errors import ConfigError, MediaError, VrsegError
from vrseg.source.container import choose_video, describe, open_container, packets_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.video.stream import VideoStream

    from vrseg.frame import Packet, SourceInfo

# Packets per read: enough to make the hop between threads cheap, and no more than the queue behind has room for.
_PACKETS_PER_READ = 16
# A pause in the timestamps longer than this is an edit, not a slow film: play on at once.
_LONGEST_PAUSE_S = 5.0


def check_readable(path: str) -> None:
    """Make sure that `path` is a file one can read.

    Raises:
        ConfigError: it is not, and what to do about it.
    """
    if not os.path.exists(path):  # noqa: PTH110 - a path is text here, and stays it
        raise ConfigError(f"{path}: no such file; check the path")
    if not os.access(path, os.R_OK):
        raise ConfigError(f"{path}: no permission to read it; check owner and mode")


class Pacer:
    """Holds packets back until their time has come, counted from the first one."""

    def __init__(self) -> None:
        self._origin_s: float | None = None

    def wait_for(self, time_s: float) -> None:
        """Sleep until `time_s` of the film is now; never longer than 5 s."""
        now_s = time.monotonic()
        if self._origin_s is None:
            self._origin_s = now_s - time_s
        ahead_s = self._origin_s + time_s - now_s
        if abs(ahead_s) > _LONGEST_PAUSE_S:
            self._origin_s = now_s - time_s
        elif ahead_s > 0:
            time.sleep(ahead_s)


class FileSource:
    """A video file. Paced by its timestamps with `realtime`, and then live; started again at its end with `loop`.

    Raises from `open`: ConfigError when there is no such file, MediaError when it holds no video.
    Raises from `read`: MediaError when the file is damaged beyond its packets, or holds no frame at all.
    """

    def __init__(self, uri: str, *, loop: bool = False, realtime: bool = False) -> None:
        self.live = realtime
        self._path = local_path(uri)
        self._loop = loop
        self._container: InputContainer | None = None
        self._packets: Iterator[Packet] = iter(())
        self._failure: VrsegError | None = None
        """Told when all that was read before it has been handed on."""

    def open(self) -> SourceInfo:
        check_readable(self._path)
        container, video = self._open_once()
        packets = self._looped(container, video) if self._loop else self._checked(packets_of(container, video))
        self._packets = paced(packets) if self.live else packets
        return describe(container, video)

    def read(self) -> list[Packet]:
        packets: list[Packet] = []
        try:
            for packet in itertools.islice(self._packets, 1 if self.live else _PACKETS_PER_READ):
                packets.append(packet)  # noqa: PERF402 -- what came before an error is kept
        except av.error.FFmpegError as error:
            self._failure = source_error(error, self._path, live=False)
        except VrsegError as error:
            self._failure = error
        if self._failure is not None and not packets:
            raise self._failure
        return packets

    def close(self) -> None:
        self._packets = iter(())
        self._close_container()

    def _close_container(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open_once(self) -> tuple[InputContainer, VideoStream]:
        self._close_container()
        try:
            # The prefix keeps FFmpeg from taking a colon in the name for a protocol.
            self._container = open_container(f"file:{self._path}", shown=self._path)
        except av.error.FFmpegError as error:
            raise source_error(error, self._path, live=False) from error
        return self._container, choose_video(self._container, self._path)

    def _checked(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        """Pass packets on; an end without any is an error."""
        first = next(packets, None)
        if first is None:
            raise MediaError(f"{self._path}: holds no frames; the recording was broken off or never began")
        yield first
        yield from packets

    def _looped(self, container: InputContainer, video: VideoStream) -> Iterator[Packet]:
        """Play for ever, opening the file anew each time: seeking would flush a decoder that another thread uses.

        Each round is moved behind the round before it, so that time never runs backwards.
        """
        end: int | None = None
        while True:
            shift: int | None = None
            for packet in self._checked(packets_of(container, video)):
                payload = cast("av.Packet[Any]", packet.payload)
                if shift is None:
                    shift = 0 if end is None else end - (payload.pts or 0)
                end = max(end or 0, _move(payload, shift))
                yield packet
            container, video = self._open_once()


def paced(packets: Iterator[Packet]) -> Iterator[Packet]:
    """Yield each packet when its decoding time has come."""
    pacer = Pacer()
    for packet in packets:
        payload = cast("av.Packet[Any]", packet.payload)
        stamp = payload.dts if payload.dts is not None else payload.pts
        if stamp is not None:
            pacer.wait_for(float(stamp * payload.time_base))
        yield packet


def _move(packet: av.Packet[Any], shift: int) -> int:
    """Move a packet by `shift` time base units; return where it ends."""
    duration = packet.duration or 1
    if packet.pts is not None:
        packet.pts += shift
    if packet.dts is not None:
        packet.dts += shift
    return max(packet.pts or 0, packet.dts or 0) + duration
