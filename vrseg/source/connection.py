"""What every live source shares: an address has so long to answer, and pictures must keep coming after that."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import av
import av.error

from vrseg.address import redact
from vrseg.av_errors import describe as describe_error
from vrseg.av_errors import source_error
from vrseg.errors import SourceRefusedError, SourceStalledError
from vrseg.frame import Packet
from vrseg.source.container import choose_video, demuxed, describe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from av.container import InputContainer
    from av.video.stream import VideoStream

    from vrseg.frame import SourceInfo

# How long FFmpeg may look at a stream before it says what it is, in microseconds. Its usual 5 s are spent in full
# when there is no sound track where one was announced; the picture itself is known at the first key frame.
ANALYSE_US = "1500000"


class Opening:
    """The time an address has to answer, and what went wrong when it did not."""

    def __init__(self, uri: str, timeout_s: float) -> None:
        self._shown = redact(uri)
        self._timeout_s = timeout_s
        self.deadline_s = time.monotonic() + (timeout_s or math.inf)

    def error(self, error: av.error.FFmpegError, said: str = "") -> SourceRefusedError:
        """Turn what FFmpeg raised while connecting into our own error; `said` is better than FFmpeg's own words."""
        # Asked first: a connection that is broken off by the deadline may look like any error.
        if time.monotonic() >= self.deadline_s:
            what = f"no answer within {self._timeout_s:g} s; check the address and the network"
        else:
            what = said or describe_error(error)
        return SourceRefusedError(f"{self._shown}: {what}")


class LiveConnection:
    """Holds the open container of a live source, gives its video packets, and notices when they stop coming."""

    def __init__(self, uri: str, *, stall_timeout_s: float) -> None:
        self._shown = redact(uri)
        self._stall_timeout_s = stall_timeout_s
        self._container: InputContainer | None = None
        self._video: VideoStream | None = None
        self._packets: Iterator[av.Packet[Any]] = iter(())

    def begin(self, container: InputContainer) -> SourceInfo:
        """Take over an open container, and say what its video is.

        Raises:
            MediaError: it holds none that can be decoded.
        """
        self._container = container
        self._video = choose_video(container, self._shown)
        # All streams are asked for, so that a dead picture is noticed though the sound goes on.
        self._packets = demuxed(container)
        return describe(container, self._video)

    def read(self) -> list[Packet]:
        """Return the next packet of the video, or nothing at the end.

        Raises:
            SourceStalledError: no picture came for too long.
            SourceRefusedError, SourceEndedError: the connection was lost.
        """
        deadline_s = time.monotonic() + (self._stall_timeout_s or math.inf)
        packet = self._next_before(deadline_s)
        # Asked first: on a timeout FFmpeg may report any error, the end, or a picture that it held back till then.
        if time.monotonic() >= deadline_s:
            what = f"no picture for {self._stall_timeout_s:g} s; check the camera and the network"
            raise SourceStalledError(f"{self._shown}: {what}")
        if isinstance(packet, av.error.FFmpegError):
            raise source_error(packet, self._shown, live=True) from packet
        return [] if packet is None else [packet]

    def close(self) -> None:
        """Close the container. Safe at any time."""
        container, self._container, self._video = self._container, None, None
        self._packets = iter(())
        if container is not None:
            container.close()

    def _next_before(self, deadline_s: float) -> Packet | av.error.FFmpegError | None:
        try:
            for packet in self._packets:
                now_s = time.monotonic()
                if packet.stream is self._video:
                    return Packet(payload=packet, arrived_s=now_s)
                if now_s >= deadline_s:
                    break
        except av.error.FFmpegError as error:
            return error
        return None
