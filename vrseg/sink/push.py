"""A live stream pushed to a receiver: RTSP, RTMP or SRT."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Never

import av
from av.error import FFmpegError

from vrseg.address import redact
from vrseg.av_errors import describe
from vrseg.errors import OutputLostError
from vrseg.sink.muxer import Muxer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from vrseg.frame import EncodedPacket

_SEND_TIMEOUT_S = 10.0
"""A receiver that takes nothing for so long is lost."""
_END_TIMEOUT_S = 3.0
"""For the relay to send what it holds and say goodbye."""


_OWN_RELAY = [sys.executable, "-m", "vrseg.sink.relay"]


class PushSink:
    """Stage[EncodedPacket, Never]: one connection to one receiver, held by a relay process; see `relay`.

    RTSP goes over TCP. SRT needs FFmpeg's command line program where PyAV was built without libsrt.

    Args:
        uri: rtsp://, rtmp:// or srt://, with credentials if need be; they are never shown.

    Raises:
        OutputLostError: from `process` and `flush`: nobody listens, or the connection broke.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._relay: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._muxer: Muxer | None = None

    def open(self) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._relay = subprocess.Popen(  # noqa: S603 - our own interpreter, or FFmpeg with our own arguments
            _relay_command(self._uri),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            start_new_session=True,  # Ctrl-C is for the daemon, which drains first
        )

    def process(self, packet: EncodedPacket, /) -> Iterable[Never]:
        try:
            if self._muxer is None:
                self._muxer = self._start(packet)
            self._muxer.write(packet)
        except (FFmpegError, OSError) as error:
            raise self._lost(error) from error
        return ()

    def flush(self) -> Iterable[Never]:
        relay, muxer = self._relay, self._muxer
        if relay is None or relay.stdin is None or muxer is None:
            return ()
        self._muxer = None
        try:
            muxer.finish()
            relay.stdin.close()
            code = relay.wait(_END_TIMEOUT_S)
        except (FFmpegError, OSError, subprocess.TimeoutExpired) as error:
            raise self._lost(error) from error
        if code:
            raise self._lost(None)
        return ()

    def close(self) -> None:
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait()
        if self._muxer is not None:
            self._muxer.abandon()
            self._muxer = None
        if self._relay is not None and self._relay.stdin is not None:
            with suppress(OSError):  # what was not sent cannot be sent any more
                self._relay.stdin.close()
            self._relay = None
        if self._complaints is not None:
            self._complaints.close()
            self._complaints = None

    def _start(self, first: EncodedPacket) -> Muxer:
        if self._relay is None or self._relay.stdin is None:
            raise RuntimeError("process before open")
        pipe = _Pipe(self._relay.stdin.fileno())
        if self._relay.args == _OWN_RELAY:  # FFmpeg's program has the address among its arguments
            pipe.write(f"{self._uri}\n".encode())
        container = av.open(pipe, "w", format="nut", options={"flush_packets": "1"})
        return Muxer(container, first)

    def _lost(self, error: Exception | None) -> OutputLostError:
        """Say what the relay complained about, or else what happened to the pipe."""
        complaint = ""
        if self._relay is not None and self._complaints is not None:
            with suppress(subprocess.TimeoutExpired):
                self._relay.wait(_END_TIMEOUT_S if isinstance(error, BrokenPipeError) else 0)
            self._complaints.seek(0)
            lines = self._complaints.read().decode(errors="replace").strip().splitlines()
            complaint = redact(lines[-1]) if lines else ""
        return OutputLostError(f"{redact(self._uri)}: {complaint or (describe(error) if error else 'it hung up')}")


class _Pipe:
    """The relay's standard input, with a limit on how long a write may take."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        deadline_s = time.monotonic() + _SEND_TIMEOUT_S
        while rest:
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0 or not select.select([], [self._descriptor], [], remaining_s)[1]:
                raise TimeoutError(f"it took nothing for {_SEND_TIMEOUT_S:.0f} s")
            with suppress(BlockingIOError):
                rest = rest[os.write(self._descriptor, rest) :]
        return len(data)


def _relay_command(uri: str) -> list[str]:
    """Choose what carries the packets: FFmpeg's program for SRT, which PyAV is built without, else our own relay."""
    program = shutil.which("ffmpeg") if uri.lower().startswith("srt:") else None
    if program is None:
        return _OWN_RELAY
    source = ["-probesize", "32", "-analyzeduration", "0", "-fflags", "nobuffer", "-f", "nut", "-i", "pipe:0"]
    # Without lingering, SRT drops at the end what its own delay still holds.
    return [program, "-v", "error", *source, "-c", "copy", "-linger", "1", "-f", "mpegts", uri]
