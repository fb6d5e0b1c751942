"""Cameras of a soak: processes that serve video, to be killed, frozen and brought back on the same port.

Run as a program, it is one of them: moving JPEG pictures over HTTP until its standard input closes.
"""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image, ImageDraw

_RTSP_SERVER = Path(__file__).resolve().parents[1] / "tests" / "servers" / "rtsp_server.py"
# The GObject bindings belong to the system's Python, not to the virtual environment.
_SYSTEM_PYTHON = "/usr/bin/python3"
_PICTURES_PER_S = 5
_SIZE = (160, 90)
_BOUNDARY = "picture"
_END_TIMEOUT_S = 10.0


class Camera:
    """One process on a port of its own."""

    def __init__(self, command: list[str], address: str) -> None:
        self.address = address
        self._command = command
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Return once it listens.

        Raises:
            OSError: it does not start.
        """
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith("ready"):
            raise OSError(f"a camera did not start: {' '.join(self._command)}; scripts/test installs what it needs")

    def kill(self) -> None:
        """End it as a power cut would."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait(_END_TIMEOUT_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def freeze(self) -> None:
        """Connections stay open, nothing comes."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)


def http_camera() -> Camera:
    """Return a camera that speaks HTTP, not started yet."""
    port = _free_port()
    return Camera([sys.executable, __file__, str(port)], f"http://127.0.0.1:{port}/video")


def rtsp_camera() -> Camera:
    """Return a camera that speaks RTSP, not started yet."""
    port = _free_port()
    options = {
        "--port": port,
        "--path": "/live",
        "--size": "160x120",
        "--fps": _PICTURES_PER_S,
        "--gop": _PICTURES_PER_S,
    }
    arguments = [str(part) for option in options.items() for part in option]
    return Camera([_SYSTEM_PYTHON, str(_RTSP_SERVER), *arguments], f"rtsp://127.0.0.1:{port}/live")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Pictures(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Send pictures until the viewer goes."""
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.end_headers()
        number = 0
        try:
            while True:
                jpeg = _picture(number)
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                number += 1
                time.sleep(1 / _PICTURES_PER_S)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing."""


def _picture(number: int) -> bytes:
    image = Image.new("RGB", _SIZE, (40, 60, 90))
    left = 5 * number % _SIZE[0]
    ImageDraw.Draw(image).ellipse((left, 30, left + 30, 60), fill=(240, 160, 40))
    with io.BytesIO() as target:
        image.save(target, "JPEG")
        return target.getvalue()


def main() -> None:
    """Serve on the port that is the only argument."""
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Pictures)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"ready {server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
