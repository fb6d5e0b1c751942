"""Real servers for tests: RTSP (gst-rtsp-server), HTTP, and FFmpeg listening. All end with the test that began them."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_RTSP_SCRIPT = Path(__file__).resolve().parents[1] / "servers" / "rtsp_server.py"
# The GObject bindings belong to the system's Python, not to the virtual environment.
_SYSTEM_PYTHON = "/usr/bin/python3"
_START_TIMEOUT_S = 20.0


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspServer:
    """One server process on a fixed port. After `stop` or `kill`, `restart` brings it back on the same port."""

    def __init__(self, port: int, path: str, arguments: Sequence[str]) -> None:
        self.port = port
        self.path = path
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}{self.path}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return once it listens."""
        command = [_SYSTEM_PYTHON, str(_RTSP_SCRIPT), "--port", str(self.port), "--path", self.path, *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("ready"), f"the RTSP server did not start: {command}"

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing comes."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        process.wait(timeout=_START_TIMEOUT_S)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


class StartRtspServer(Protocol):
    def __call__(self, port: int | None = None, *, path: str = "/live", **options: object) -> RtspServer: ...


def _arguments(options: dict[str, object]) -> list[str]:
    """`gop=30, record=True` becomes `--gop 30 --record`."""
    arguments: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(flag)
        elif value is not None and value is not False:
            arguments += [flag, str(value)]
    return arguments


@pytest.fixture
def rtsp_server() -> Iterator[StartRtspServer]:
    """Start a live RTSP server; options are those of tests/servers/rtsp_server.py, such as `fps=15, gop=30`."""
    if shutil.which(_SYSTEM_PYTHON) is None:
        pytest.skip("no system Python for the RTSP server")
    with contextlib.ExitStack() as servers:

        def start(port: int | None = None, *, path: str = "/live", **options: object) -> RtspServer:
            server = RtspServer(port or unused_port(), path, _arguments(options))
            servers.callback(server.kill)
            server.start()
            return server

        yield start


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at the moment."""
    return unused_port()


class StartFfmpeg(Protocol):
    def __call__(self, *arguments: str) -> subprocess.Popen[bytes]: ...


@pytest.fixture
def ffmpeg() -> Iterator[StartFfmpeg]:
    """Start the `ffmpeg` program with arguments; it is killed at the end of the test."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("no ffmpeg program")
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [program, "-nostdin", "-hide_banner", "-loglevel", "error", *arguments]
        processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        pass


class ServeFolder(Protocol):
    def __call__(self, folder: Path) -> str: ...


@pytest.fixture
def http_server() -> Iterator[ServeFolder]:
    """Serve a folder over HTTP; returns the address without a slash at its end."""
    with contextlib.ExitStack() as servers:

        def serve(folder: Path) -> str:
            handler = functools.partial(_QuietHandler, directory=str(folder))
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            servers.callback(server.server_close)
            servers.callback(thread.join)
            servers.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_address[1]}"

        yield serve


def wait_until_listening(port: int) -> None:
    """Return when something listens on TCP `port` of 127.0.0.1, without connecting to it."""
    wanted = f"0100007F:{port:04X}"
    any_address = f"00000000:{port:04X}"
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if any(row[1] in (wanted, any_address) and row[3] == "0A" for row in rows):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nobody listens on port {port}")
