"""A live stream pushed to a receiver: RTSP, RTMP or SRT."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Never

import av
from av.error import FFmpegError

from vrseg.address import redact
from vrseg.av_errors import describe
from vrseg.errors import OutputLostError
from vrseg.sink.muxer import Muxer
from vrseg.sink.pipe import Pipe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import EncodedPacket

_SEND_TIMEOUT_S = 10.0
"""A receiver that takes nothing for so long is lost."""
_END_TIMEOUT_S = 3.0
"""For the relay to send what it holds and say goodbye."""
_LAST_WORDS_S = 0.3
"""For a relay that has closed its input to be gone."""
_PATIENCE_S = 3.0
"""A connection that takes longer would begin with pictures that are as old; they are left out."""

_PIPE_BYTES = 1 << 16
"""What a pipe holds, unless one asks for more."""
_TAIL_BYTES = 4096
"""Of complaints only the last is told; some are long."""

_NICENESS = 5
"""Of the relay's process: to start one takes 0.15 s of a core, which frames need more."""

_OWN_RELAY = [sys.executable, "-m", "vrseg.sink.relay"]


class PushSink:
    """Stage[EncodedPacket, Never]: one connection to one receiver, held by a relay process; see `relay`.

    RTSP goes over TCP. SRT needs FFmpeg's command line program where PyAV was built without libsrt.

    Who asks `ready` first never waits in `process`; the pipe to the relay holds a second of video or so.

    Args:
        uri: rtsp://, rtmp:// or srt://, with credentials if need be; they are never shown.

    Raises:
        OutputLostError: from `open`: no process can be started; from `ready`, `process` and `flush`: nobody listens, or
            the connection broke.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.up = False
        self._relay: subprocess.Popen[bytes] | None = None
        self._pipe: Pipe | None = None
        self._voice: _Voice | None = None
        self._muxer: Muxer | None = None
        self._began_s = 0.0

    def open(self) -> None:
        try:
            self._start_relay()
        except OSError as error:
            raise OutputLostError(
                f"{redact(self._uri)}: no process can be started for it: {describe(error)}: raise the limits of files, "
                "tasks and memory"
            ) from error

    def ready(self) -> bool:
        voice, pipe = self._voice, self._pipe
        if voice is None or pipe is None:
            raise RuntimeError("ready before open")
        voice.listen()
        if voice.ended:
            raise self._lost(None)
        self.up = voice.heard
        try:
            sent = pipe.send()
        except OSError as error:
            raise self._lost(error) from error
        if not sent and pipe.stuck_s > _SEND_TIMEOUT_S:
            raise self._lost(_took_nothing())
        return sent and (self.up or self._muxer is None or time.monotonic() - self._began_s < _PATIENCE_S)

    def process(self, packet: EncodedPacket, /) -> Iterable[Never]:
        try:
            if self._muxer is None:
                self._muxer = self._start(packet)
            if self._voice is not None:  # who never asks `ready` must not leave the relay unheard
                self._voice.listen()
            self._wait_sent(_SEND_TIMEOUT_S)
            self._muxer.write(packet)
        except (FFmpegError, OSError) as error:
            raise self._lost(error) from error
        return ()

    def suspend(self) -> None:
        self.flush()

    def flush(self) -> Iterable[Never]:
        relay, voice, muxer = self._relay, self._voice, self._muxer
        if relay is None or relay.stdin is None or voice is None or muxer is None:
            return ()
        self._muxer = None
        try:
            muxer.finish()
            self._wait_sent(_END_TIMEOUT_S)
            relay.stdin.close()
            voice.listen_to_end(_END_TIMEOUT_S)
            code = relay.wait(_LAST_WORDS_S)
        except (FFmpegError, OSError, subprocess.TimeoutExpired) as error:
            raise self._lost(error) from error
        if code:
            raise self._lost(None)
        return ()

    def close(self) -> None:
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.kill()
            relay.wait()
        if self._muxer is not None:
            self._muxer.abandon()
            self._muxer = None
        for stream in (relay.stdout, relay.stderr, relay.stdin) if relay is not None else ():
            if stream is not None:
                with suppress(OSError):  # what was not sent cannot be sent any more
                    stream.close()
        self._pipe = self._voice = None

    def _start_relay(self) -> None:
        self._relay = subprocess.Popen(  # noqa: S603 - our own interpreter, or FFmpeg with our own arguments
            _relay_command(self._uri),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the daemon, which drains first
        )
        assert self._relay.stdin is not None  # noqa: S101 - asked for above
        with suppress(OSError):  # it has ended already
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, self._relay.pid, min(own + _NICENESS, 19))
        self._voice = _Voice(self._relay)
        self._pipe = Pipe(self._relay.stdin.fileno())

    def _start(self, first: EncodedPacket) -> Muxer:
        if self._relay is None or self._pipe is None:
            raise RuntimeError("process before open")
        self._began_s = time.monotonic()
        if self._relay.args == _OWN_RELAY:  # FFmpeg's program has the address among its arguments
            self._pipe.write(f"{self._uri}\n".encode())
        container = av.open(self._pipe, "w", format="nut", options={"flush_packets": "1"})
        return Muxer(container, first)

    def _wait_sent(self, timeout_s: float) -> None:
        if self._pipe is not None and not self._pipe.send(timeout_s):
            raise _took_nothing()

    def _lost(self, error: Exception | None) -> OutputLostError:
        """Say what the relay complained about, or else what happened to the pipe."""
        complaint = ""
        if self._voice is not None:
            self._voice.listen_to_end(_LAST_WORDS_S if isinstance(error, BrokenPipeError) else 0)
            complaint = redact(self._voice.last_line)
        return OutputLostError(f"{redact(self._uri)}: {complaint or (describe(error) if error else 'it hung up')}")


class _Voice:
    """What a relay says: on standard output, that it has begun to send; on standard error, what it complains of.

    It must be listened to now and then, or it will wait for that.
    """

    def __init__(self, relay: subprocess.Popen[bytes]) -> None:
        assert relay.stdout is not None  # noqa: S101 - a pipe
        assert relay.stderr is not None  # noqa: S101 - a pipe
        self.heard = False
        """It has begun to send."""
        self._tail = b""
        self._output = relay.stdout.fileno()
        self._open = {self._output, relay.stderr.fileno()}
        self._poller = select.poll()
        for descriptor in self._open:
            self._poller.register(descriptor, select.POLLIN)

    @property
    def ended(self) -> bool:
        """It will say nothing more: it is gone."""
        return not self._open

    @property
    def last_line(self) -> str:
        """Of its complaints."""
        return self._tail.decode(errors="replace").strip().rpartition("\n")[2]

    def listen(self, timeout_s: float = 0.0) -> None:
        """Take what it says, waiting so long for it."""
        for descriptor, _ in self._poller.poll(timeout_s * 1000):
            said = os.read(descriptor, _PIPE_BYTES)
            if not said:
                self._poller.unregister(descriptor)
                self._open.discard(descriptor)
            elif descriptor == self._output:
                self.heard = True
            else:
                self._tail = (self._tail + said)[-_TAIL_BYTES:]

    def listen_to_end(self, timeout_s: float) -> None:
        """Take all that it says until it is gone, but no longer than this."""
        deadline_s = time.monotonic() + timeout_s
        self.listen()
        while not self.ended and (left_s := deadline_s - time.monotonic()) > 0:
            self.listen(left_s)


def _took_nothing() -> OSError:
    return TimeoutError(f"it took nothing for {_SEND_TIMEOUT_S:.0f} s")


def _relay_command(uri: str) -> list[str]:
    """Choose what carries the packets: FFmpeg's program for SRT, which PyAV is built without, else our own relay."""
    program = shutil.which("ffmpeg") if uri.lower().startswith("srt:") else None
    if program is None:
        return _OWN_RELAY
    source = ["-probesize", "32", "-analyzeduration", "0", "-fflags", "nobuffer", "-f", "nut", "-i", "pipe:0"]
    said = ["-v", "error", "-progress", "pipe:1", "-nostats"]
    # Without lingering, SRT drops at the end what its own delay still holds.
    return [program, *said, *source, "-c", "copy", "-linger", "1", "-f", "mpegts", uri]
