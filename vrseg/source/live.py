"""RTSP, RTMP, HTTP and HLS through FFmpeg."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import av.error

from vrseg.address import redact, scheme_of
from vrseg.errors import SourceEndedError
from vrseg.source.connection import ANALYSE_US, LiveConnection, Opening
from vrseg.source.container import open_container

if TYPE_CHECKING:
    from typing import Literal

    from vrseg.frame import Packet, SourceInfo

# Pictures FFmpeg waits for to measure a frame rate that nobody told it; its usual 20 take most of a second.
_RATE_PICTURES = "5"
# What a server sends under these names has an end.
_FILE_ENDINGS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})


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
        self._connection = LiveConnection(uri, stall_timeout_s=stall_timeout_s)

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
        info = self._connection.begin(container)
        self.live = scheme_of(self._uri) != "http" or not container.duration
        return info

    def read(self) -> list[Packet]:
        packets = self._connection.read()
        if not packets and self.live:
            raise SourceEndedError(f"{redact(self._uri)}: the stream ended")
        return packets

    def close(self) -> None:
        self._connection.close()


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
