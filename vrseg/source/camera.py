"""A camera of this machine, through Video4Linux2."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import av.error

from vrseg.address import local_path
from vrseg.errors import ConfigError, SourceEndedError
from vrseg.source.connection import LiveConnection, Opening
from vrseg.source.container import open_container

if TYPE_CHECKING:
    from vrseg.frame import Packet, SourceInfo

# What may follow the `?` of an address, and FFmpeg's name for it.
_PARAMETERS = {"size": "video_size", "fps": "framerate", "format": "input_format"}


class CameraSource:
    """`/dev/video0`, `v4l2:///dev/video0` or `/dev/video0?size=1280x720&fps=30&format=mjpeg`. Always live.

    A driver that hangs cannot be interrupted: `open` and `read` then last until the kernel gives up.

    Raises from `open`: ConfigError for an unknown parameter; SourceRefusedError when there is no such camera or
    another program uses it.
    """

    live = True

    def __init__(self, uri: str, *, open_timeout_s: float, stall_timeout_s: float) -> None:
        self._uri = uri
        self._open_timeout_s = open_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._connection = LiveConnection(uri, stall_timeout_s=stall_timeout_s)

    def open(self) -> SourceInfo:
        device, options = _device_and_options(self._uri)
        opening = Opening(self._uri, self._open_timeout_s)
        try:
            container = open_container(
                device,
                shown=self._uri,
                format_name="video4linux2",
                options=options,
                timeout_s=(self._open_timeout_s, self._stall_timeout_s),
            )
        except av.error.FFmpegError as error:
            raise opening.error(error) from error
        return self._connection.begin(container)

    def read(self) -> list[Packet]:
        packets = self._connection.read()
        if not packets:
            raise SourceEndedError(f"{self._uri}: the camera stopped; plug it in again")
        return packets

    def close(self) -> None:
        self._connection.close()


def _device_and_options(uri: str) -> tuple[str, dict[str, str]]:
    """Split an address into the device and FFmpeg's options."""
    device, _, query = local_path(uri).partition("?")
    options = {name: values[-1] for name, values in parse_qs(query).items()}
    if unknown := options.keys() - _PARAMETERS.keys():
        raise ConfigError(f"{uri}: unknown parameter {min(unknown)}; known are {', '.join(_PARAMETERS)}")
    return device, {_PARAMETERS[name]: value for name, value in options.items()}
