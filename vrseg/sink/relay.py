"""A process of its own that sends one stream to a network address: `python -m vrseg.sink.relay`.

FFmpeg connects inside calls for which PyAV holds Python's lock, so in the daemon's own process an address that does not
answer would stop every stream for seconds. The stream comes on standard input as NUT, the address as its first line
(not as an argument, which every user of the machine can read). A line on standard output says that it has connected.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import av
from av.error import FFmpegError

from vrseg.av_errors import describe

if TYPE_CHECKING:
    from io import RawIOBase

_FORMATS = {"rtsp": "rtsp", "rtsps": "rtsp", "rtmp": "flv", "rtmps": "flv", "srt": "mpegts"}
_TIMEOUT_US = "5000000"
_OPTIONS = {
    "rtsp": {"rtsp_transport": "tcp", "timeout": _TIMEOUT_US},
    "flv": {"flvflags": "no_duration_filesize", "rw_timeout": _TIMEOUT_US},
    "mpegts": {"flush_packets": "1"},
}


def format_of(uri: str) -> str:
    """Name FFmpeg's muxer for a live address."""
    return _FORMATS[uri.partition(":")[0].lower()]


def relay(source: RawIOBase, uri: str) -> None:
    """Copy packets from `source` to `uri` until the end.

    Raises:
        FFmpegError: nobody answers, or the connection broke.
    """
    name = format_of(uri)
    # One packet tells all: the default would wait for seconds of stream before the first packet is sent.
    options = {"probesize": "32", "analyzeduration": "0"}
    with av.open(source, "r", format="nut", options=options, buffer_size=4096) as reader:
        video = reader.streams.video[0]
        with av.open(uri, "w", format=name, options=_OPTIONS[name]) as writer:
            stream = writer.add_stream_from_template(video, opaque=True)
            stream.time_base = video.time_base
            said = False
            for packet in reader.demux(video):
                if packet.size:
                    packet.stream = stream
                    writer.mux_one(packet)
                    if not said:
                        said = True
                        print("connected", flush=True)  # noqa: T201 - the parent waits for it


def main() -> int:
    """Run the relay; the reason of a failure is the one line on standard error."""
    source = open(0, "rb", buffering=0)  # noqa: SIM115 - standard input, unbuffered for the delay's sake
    uri = _first_line(source)
    try:
        relay(source, uri)
    except (FFmpegError, OSError) as error:
        print(describe(error), file=sys.stderr)  # noqa: T201 - the parent reads it
        return 1
    return 0


def _first_line(source: RawIOBase) -> str:
    line = b""
    while not line.endswith(b"\n"):
        byte = source.read(1)
        if not byte:  # the daemon ended before the first frame
            break
        line += byte
    return line.decode().strip()


if __name__ == "__main__":
    sys.exit(main())
