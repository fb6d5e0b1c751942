"""SRT, through the system's `ffmpeg` program where PyAV's own FFmpeg was built without it."""

from __future__ import annotations

import math
import os
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import av.error

from vrseg.address import redact
from vrseg.av_errors import describe
from vrseg.errors import ConfigError, SourceEndedError, SourceRefusedError
from vrseg.source.connection import ANALYSE_US, LiveConnection, Opening
from vrseg.source.container import open_container

if TYPE_CHECKING:
    from vrseg.frame import Packet, SourceInfo

_GRACE_S = 0.05
_OPTIONS = {"analyzeduration": ANALYSE_US}


class FfmpegPipe:
    """The byte stream of an `ffmpeg` process, with a deadline on each read. File-like, for PyAV."""

    def __init__(self, uri: str, program: str) -> None:
        self._uri = uri
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._last_line = b""
        self.deadline_s = 0.0
        """Monotonic time at which `read` gives up; set by the owner, who knows what it is waiting for."""

    def start(self) -> None:
        """Start the program; it connects by itself.

        Raises:
            SourceRefusedError: the system does not let it start now.
        """
        arguments = [self._program, "-nostdin", "-hide_banner", "-loglevel", "error", "-analyzeduration", ANALYSE_US]
        # Who sends may send a playlist, and that may name files of this machine: FFmpeg would open them.
        arguments += ["-protocol_whitelist", "srt", "-i", self._uri]
        arguments += ["-map", "0:v:0", "-c", "copy", "-f", "mpegts", "-flush_packets", "1", "pipe:1"]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise SourceRefusedError(
                f"{redact(self._uri)}: no process can be started for it: {describe(error)}: raise the limits of files, "
                "tasks and memory"
            ) from error

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes as soon as there are any; none at the end, or when nothing came in time.

        An exception would not get through: FFmpeg reads on after errors. The owner looks at the clock instead.
        """
        process = self._process
        if process is None or process.stdout is None or process.stderr is None:
            return b""
        out, err = process.stdout.fileno(), process.stderr.fileno()
        poller = select.poll()
        poller.register(out, select.POLLIN)
        poller.register(err, select.POLLIN)
        while (left_s := self.deadline_s - time.monotonic()) > 0:
            ready = dict(poller.poll(min(left_s, 60.0) * 1000))
            if err in ready:
                text = os.read(err, 4096)
                self._last_line = (text.splitlines() or [self._last_line])[-1]
                if not text:
                    poller.unregister(err)
            if out in ready:
                return os.read(out, size)
        return b""

    def complaint(self) -> str:
        """Return the last thing the program said, without credentials."""
        return redact(self._last_line.decode(errors="replace").strip().removeprefix(f"{self._uri}: "))

    def stop(self) -> None:
        """End the program and close its pipes. Safe at any time."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait()


class SrtSource:
    """An SRT address, as caller or listener (`?mode=listener`). Always live.

    Raises from `open`: ConfigError when there is no `ffmpeg` program; SourceRefusedError; MediaError.
    Raises from `read`: SourceStalledError, SourceEndedError, SourceRefusedError.
    """

    live = True

    def __init__(self, uri: str, *, open_timeout_s: float, stall_timeout_s: float) -> None:
        self._uri = uri
        self._open_timeout_s = open_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._pipe: FfmpegPipe | None = None
        self._connection = LiveConnection(uri, stall_timeout_s=stall_timeout_s)

    def open(self) -> SourceInfo:
        program = shutil.which("ffmpeg")
        if program is None:
            raise ConfigError(
                f"{redact(self._uri)}: SRT needs the ffmpeg program; install it, for example: apt install ffmpeg"
            )
        self._pipe = FfmpegPipe(self._uri, program)
        opening = Opening(self._uri, self._open_timeout_s)
        self._pipe.deadline_s = opening.deadline_s + _GRACE_S
        self._pipe.start()
        try:
            container = open_container(self._pipe, shown=redact(self._uri), format_name="mpegts", options=_OPTIONS)
        except av.error.FFmpegError as error:
            raise opening.error(error, self._pipe.complaint()) from error
        return self._connection.begin(container)

    def read(self) -> list[Packet]:
        if self._pipe is None:
            return []
        # A little later than the connection's own deadline, so that it finds that one passed.
        self._pipe.deadline_s = time.monotonic() + (self._stall_timeout_s or math.inf) + _GRACE_S
        packets = self._connection.read()
        if not packets:
            raise SourceEndedError(f"{redact(self._uri)}: {self._pipe.complaint() or 'the stream ended'}")
        return packets

    def close(self) -> None:
        self._connection.close()
        if self._pipe is not None:
            self._pipe.stop()
            self._pipe = None
