"""RTSP, RTMP, HTTP and HLS through FFmpeg; and the reading that every live source shares."""

from __future__ import annotations

import math
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import av
import av.error

from vrseg.address import redact, scheme_of
from vrseg.av_errors import describe as describe_error
from vrseg.av_errors import source_error
from vrseg.errors import SourceEndedError, SourceRefusedError, SourceStalledError
from vrseg.frame import Packet
from vrseg.source.container import choose_video, demuxed, describe, open_container

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Literal

    from av.container import InputContainer
    from av.video.stream import VideoStream

    from vrseg.frame import SourceInfo

# How long FFmpeg may look at a stream before it says what it is, in microseconds. Its usual 5 s are spent in full
# when there is no sound track where one was announced; the picture itself is known at the first key frame.
ANALYSE_US = "1500000"
# Pictures FFmpeg waits for to measure a frame rate that nobody told it; its usual 20 take most of a second.
_RATE_PICTURES = "5"
# What a server sends under these names has an end.
_FILE_ENDINGS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})


class LiveReader:
    """Takes the video packets of one open container, and notices when they stop coming."""

    def __init__(self, container: InputContainer, video: VideoStream, *, shown: str, stall_timeout_s: float) -> None:
        # All streams are asked for, so that a dead picture is noticed though the sound goes on.
        self._packets: Iterator[av.Packet[Any]] = demuxed(container)
        self._video = video
        self._shown = shown
        self._stall_timeout_s = stall_timeout_s

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


class NetworkSource:
    """An RTSP, RTMP, HTTP or HLS address.

    `live` is true, but for HTTP addresses that end like a file; `open` then finds out whether they really have an end.

    Raises from `open`: SourceRefusedError; MediaError when what comes is no video.
    Raises from `read`: SourceStalledError after `stall_timeout_s` (0: never) without a picture;
    SourceEndedError when a live stream ends; SourceRefusedError for any other loss.
    """

    def __init__(
        self, uri: str, *, transport: Literal["tcp", "udp"] = "tcp", open_timeout_s: float, stall_timeout_s: float
    ) -> None:
        self.live = not (scheme_of(uri) == "http" and PurePosixPath(urlsplit(uri).path).suffix.lower() in _FILE_ENDINGS)
        self._uri = uri
        self._transport = transport
        self._open_timeout_s = open_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._container: InputContainer | None = None
        self._reader: LiveReader | None = None

    def open(self) -> SourceInfo:
        opening = Opening(self._uri, self._open_timeout_s)
        try:
            container = open_container(
                self._uri,
                shown=redact(self._uri),
                options=network_options(self._uri, self._transport),
                timeout_s=(self._open_timeout_s, self._stall_timeout_s),
            )
        except av.error.FFmpegError as error:
            raise opening.error(error) from error
        self._container = container
        shown = redact(self._uri)
        video = choose_video(container, shown)
        self._reader = LiveReader(container, video, shown=shown, stall_timeout_s=self._stall_timeout_s)
        self.live = scheme_of(self._uri) != "http" or not container.duration
        return describe(container, video)

    def read(self) -> list[Packet]:
        if self._reader is None:
            return []
        packets = self._reader.read()
        if not packets and self.live:
            raise SourceEndedError(f"{redact(self._uri)}: the stream ended")
        return packets

    def close(self) -> None:
        self._reader = None
        if self._container is not None:
            self._container.close()
            self._container = None


def network_options(uri: str, transport: str) -> dict[str, str]:
    """Return FFmpeg's options for one kind of network address."""
    common = {"analyzeduration": ANALYSE_US, "fpsprobesize": _RATE_PICTURES}
    match scheme_of(uri):
        case "rtsp":
            return common | {"rtsp_transport": transport, "allowed_media_types": "video"}
        case "rtmp":
            return common | {"rtmp_live": "live"}
        case _:
            return {}
