"""What goes wrong at a site: connections that freeze or lie, viewers who hardly read; and what a daemon says of it."""

from __future__ import annotations

import contextlib
import json
import random
import selectors
import socket
import struct
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.daemon import Daemon

HEALTHY_RATE = 15
LONGEST_GAP_S = 1.0
"""Between two frames of the healthy stream: below each timeout of the drills, so nobody can have waited for one."""
SLOWEST_FRAME_S = 0.5

_INTERLEAVED = struct.Struct(">BBH")
_RTP_HEADER_BYTES = 12
_NAL_HEADER_BYTES = 2
_BUFFER_BYTES = 16384
_WORST_PACKETS = 0.2
"""Share of RTP packets that are damaged while a proxy lies."""


def healthy_stream(folder: Path, rate: int = HEALTHY_RATE) -> dict[str, Any]:
    """A stream that nothing happens to; `assert_undisturbed` reads what it wrote."""
    return {
        "source": {"uri": f"synthetic:64x48@{rate}?figures=0"},
        "model": "person",
        "results": [{"uri": str(folder / "healthy.jsonl")}],
    }


def assert_undisturbed(daemon: Daemon, folder: Path) -> None:
    """The healthy stream got its pictures in time, lost none, and handed them on in time."""
    lines = (folder / "healthy.jsonl").read_text().rpartition("\n")[0].splitlines()
    times_s = [json.loads(line)["time_s"] for line in lines]
    assert len(times_s) >= 2
    longest_s = max(after - moment for moment, after in pairwise(times_s))
    assert longest_s < LONGEST_GAP_S, f"no frame for {longest_s:.2f} s"
    buckets = {
        labels["le"]: count
        for labels, count in daemon.samples()["vrseg_frame_latency_seconds_bucket"]
        if labels["stream"] == "healthy"
    }
    assert buckets["+Inf"] - buckets[str(SLOWEST_FRAME_S)] <= buckets["+Inf"] / 100


def value(daemon: Daemon, name: str, **labels: str) -> float:
    """Sum of the samples of one name that have these labels."""
    return sum(found for has, found in daemon.samples().get(name, []) if labels.items() <= has.items())


def assert_books_are_right(daemon: Daemon) -> None:
    """No frame of any stream is unaccounted for, in the metrics and in the status."""
    assert {found for _, found in daemon.samples()["vrseg_frames_unaccounted"]} == {0}
    for stream in daemon.status()["streams"]:
        frames = stream["frames"]
        ended = frames["delivered"] + frames["failed"] + sum(frames["dropped"].values()) + frames["under_way"]
        assert frames["entered"] == ended, stream["name"]


def told(daemon: Daemon, event: str, **fields: str) -> list[dict[str, Any]]:
    """Return the lines of the log of one event that have these fields."""
    return [one for one in daemon.events if one["event"] == event and fields.items() <= one.items()]


class RtspProxy:
    """Stands between a daemon and an RTSP server, with connections that can fall silent or lie."""

    def __init__(self, upstream_port: int) -> None:
        self.mode: Literal["honest", "silent", "lying"] = "honest"
        self.damaged = 0
        """Packets whose payload was changed."""
        self._upstream_port = upstream_port
        self._random = random.Random(7)
        self._closing = threading.Event()
        self._listener = socket.socket()
        # Small, and inherited by what is accepted: who sends to a silent proxy is soon held up.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._listener.settimeout(0.1)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._upstream_port)) as server,
        ):
            waiting = selectors.DefaultSelector()
            waiting.register(client, selectors.EVENT_READ, server)
            waiting.register(server, selectors.EVENT_READ, client)
            held = b""
            while not self._closing.is_set():
                for key, _ in waiting.select(0.05):
                    if self.mode == "silent":
                        time.sleep(0.05)  # connections stay open, and nobody reads from them
                        continue
                    source: Any = key.fileobj
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is server:
                        whole, held = _whole_messages(held + data)
                        data = b"".join(map(self._lie, whole)) if self.mode == "lying" else b"".join(whole)
                    key.data.sendall(data)

    def _lie(self, message: bytes) -> bytes:
        begin = _INTERLEAVED.size + _RTP_HEADER_BYTES + _NAL_HEADER_BYTES
        is_video = message[:2] == b"$\x00" and len(message) > begin + 8
        if not is_video or self._random.random() > _WORST_PACKETS:
            return message
        self.damaged += 1
        changed = bytearray(message)
        for _ in range(8):
            changed[self._random.randrange(begin, len(changed))] ^= self._random.randrange(1, 256)
        return bytes(changed)


def _whole_messages(data: bytes) -> tuple[list[bytes], bytes]:
    """Split what an RTSP server said into messages and interleaved packets; return what is not complete, too."""
    whole = []
    while data:
        if data.startswith(b"$"):
            end = _INTERLEAVED.size + _INTERLEAVED.unpack_from(data)[2] if len(data) >= _INTERLEAVED.size else -1
        else:
            head, found, _ = data.partition(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
            )
            end = len(head) + 4 + length if found else -1
        if not 0 < end <= len(data):
            break
        whole.append(data[:end])
        data = data[end:]
    return whole, data


class Dribbler:
    """Asks for something over HTTP and reads one byte of the answer a second."""

    def __init__(self, daemon: Daemon, path: str) -> None:
        host, _, port = daemon.address.removeprefix("http://").rstrip("/").partition(":")
        self.received = 0
        self.ended = False
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(10)
        self._socket.connect((host, int(port)))
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while not self.ended and not self._closing.wait(1.0):
            try:
                self.ended = not self._socket.recv(1)
            except OSError:
                self.ended = True
            self.received += 1


def with_private_disk(folder: Path, size_mb: int) -> list[str]:
    """Return a command that runs another one with a small disk at `folder`.

    It is mounted in a namespace of the process's own: it goes with it, and others see it below /proc/PID/root.
    """
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={size_mb}m tmpfs "{folder}" && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
