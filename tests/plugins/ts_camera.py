"""A camera that speaks MPEG-TS over HTTP, and can change what it sends in the middle of a connection."""

from __future__ import annotations

import contextlib
import http.server
import io
import threading
import time
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from plugins.clips import moving_picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RATE = 10
_SECONDS = 40
_AT_ONCE_S = 2.0
"""What a viewer gets at the beginning of a connection, so that FFmpeg need not wait to know what comes."""


def pieces(width: int = 160, height: int = 120, *, start_s: int = 0, gop: int = RATE) -> list[bytes]:
    """Make a film that a camera can send, one piece for each picture; its clock begins at `start_s`."""
    film: list[bytes] = []
    target = io.BytesIO()
    with av.open(target, "w", format="mpegts", options={"flush_packets": "1"}) as container:
        video = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "tune": "zerolatency"})
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.gop_size = gop
        for index in range(_SECONDS * RATE):
            picture = moving_picture(width, height, index)
            picture.pts, picture.time_base = start_s * RATE + index, Fraction(1, RATE)
            container.mux(video.encode(picture))
            film.append(target.getvalue())
            target.seek(0)
            target.truncate()
    return film


class TsCamera:
    """Serves a film at its own speed to everybody who asks; `play` puts another one in its place at once.

    A connection begins with picture `begin` of the film.
    """

    def __init__(self, film: Sequence[bytes], *, begin: int = 0) -> None:
        self.connections = 0
        self._film = film
        self._begin = begin
        self._closing = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/live"

    def play(self, film: Sequence[bytes]) -> None:
        self._film = film

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _sent(self) -> Iterator[bytes]:
        """Pieces on time: those of the film that is played at that moment, from its beginning."""
        film = self._film
        index, due_s = self._begin, time.monotonic() - _AT_ONCE_S
        while index < len(film) and not self._closing.is_set():
            if film is not self._film:
                film, index = self._film, 0
            yield film[index]
            index, due_s = index + 1, due_s + 1 / RATE
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _handler(camera) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805 -- the handler has a self of its own
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.connections += 1
                with contextlib.suppress(OSError):
                    self.send_response(200)
                    self.send_header("Content-Type", "video/mp2t")
                    self.end_headers()
                    for piece in camera._sent():
                        self.wfile.write(piece)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it
                pass

        return Handler
