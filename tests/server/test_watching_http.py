"""Pictures and encoded video over HTTP, on a running daemon: as viewers behave, and as they misbehave."""

from __future__ import annotations

import io
import json
import re
import socket
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from PIL import Image

from vrseg.server.preview import MOST_VIEWERS

if TYPE_CHECKING:
    from plugins.daemon import Daemon, StartDaemon

pytestmark = pytest.mark.alone

CONFIG: dict[str, Any] = {
    "models": {"person": {"path": "demo"}},
    "streams": {
        "door": {
            "source": {"uri": "synthetic:320x180@15?figures=1"},
            "queue": {"max_age": "10s"},  # a busy machine drops nothing: that is not what is tested here
            "model": "person",
            "outputs": [{"uri": "door.mkv", "preset": "ultrafast"}],
        },
        "garage": {"source": {"uri": "rtsp://127.0.0.1:9/none", "reconnect": {"initial": "30s", "max": "30s"}}},
    },
}


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    running = start_daemon(CONFIG)
    running.wait_for(lambda: running.delivered("door") > 5, 30, "frames flow")
    return running


def get(daemon: Daemon, path: str) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(daemon.address.rstrip("/") + path, timeout=20) as answer:  # noqa: S310 -- http
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def connect(daemon: Daemon, path: str) -> socket.socket:
    """Ask for something and read nothing of the answer."""
    host, _, port = daemon.address.removeprefix("http://").rstrip("/").partition(":")
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.settimeout(10)
    viewer.connect((host, int(port)))
    viewer.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return viewer


def test_pictures_before_and_after_the_model_differ_and_tell_what_was_found(daemon: Daemon) -> None:
    pictures = {}
    for side in ("input", "output"):
        status, headers, body = get(daemon, f"/preview/door.jpg?side={side}")
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        assert abs(time.time() - float(headers["X-Taken"])) < 5
        pictures[side] = Image.open(io.BytesIO(body)).convert("RGB")
        assert pictures[side].size == (320, 180)
        if side == "output":
            assert 0 < json.loads(headers["X-Found"])["person"] < 1
    greens = {}
    for side, one in pictures.items():
        red, green, blue = np.asarray(one).astype(int).transpose(2, 0, 1)
        greens[side] = np.count_nonzero((green > red + 40) & (green > blue))
    assert greens["output"] > greens["input"] + 500, "people are drawn over in green"
    assert 0 < json.loads(get(daemon, "/preview/door.json")[2])["found"]["person"] < 1


def test_what_cannot_be_shown_is_refused_with_the_reason(daemon: Daemon) -> None:
    assert get(daemon, "/preview/nobody.jpg")[0] == 404
    assert get(daemon, "/preview/door.jpg?side=behind")[0] == 400
    status, headers, body = get(daemon, "/preview/garage.jpg")
    assert status == 503
    assert headers["Retry-After"]
    assert "/api/v1/status" in json.loads(body)["error"]
    assert get(daemon, "/live/garage/index.m3u8")[0] == 404
    assert get(daemon, "/live/door/index.m3u8?_HLS_msn=1000&_HLS_part=0")[0] == 400
    assert get(daemon, "/live/door/index.m3u8?_HLS_msn=-1")[0] == 400
    assert get(daemon, "/live/door/index.m3u8?_HLS_part=1")[0] == 400
    assert get(daemon, "/live/door/x.m4s")[0] == 404
    assert get(daemon, "/live/door/init-99.mp4")[0] == 404


def test_viewers_who_take_nothing_and_too_many_cost_the_stream_no_frame(daemon: Daemon) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_VIEWERS):
            stack.enter_context(connect(daemon, "/preview/door.mjpg"))
        daemon.wait_for(lambda: get(daemon, "/preview/door.jpg")[0] == 503, 5, "no more are let in")
        before = daemon.stream("door")["frames"]
        time.sleep(3)
        after = daemon.stream("door")["frames"]
        delivered, entered = (after[what] - before[what] for what in ("delivered", "entered"))
        assert delivered > 5
        assert delivered >= 0.9 * entered - after["under_way"], "what was decoded has arrived"
        assert daemon.get("/healthz")[0] == 200
    daemon.wait_for(lambda: get(daemon, "/preview/door.jpg")[0] == 200, 15, "who left makes room")


def wait_for_a_segment(daemon: Daemon) -> None:
    daemon.wait_for(lambda: b"#EXTINF" in get(daemon, "/live/door/index.m3u8")[2], 10, "a segment is complete")


def test_the_live_video_comes_part_by_part_and_ffmpeg_reads_it(daemon: Daemon) -> None:
    wait_for_a_segment(daemon)
    playlist = get(daemon, "/live/door/index.m3u8")[2].decode()
    number, part = map(int, re.findall(r'PRELOAD-HINT:TYPE=PART,URI="(\d+)\.(\d+)\.m4s"', playlist)[0])
    taken: list[bytes] = []
    delays_s: list[float] = []
    for _ in range(6):
        asked_s = time.monotonic()
        status, _, body = get(daemon, f"/live/door/index.m3u8?_HLS_msn={number}&_HLS_part={part}")
        assert status == 200
        delays_s.append(time.monotonic() - asked_s)
        playlist = body.decode()
        listed = re.findall(r'PART:DURATION=[\d.]+,URI="(\d+)\.(\d+)\.m4s"', playlist)
        number, part = map(int, listed[-1])
        taken.append(get(daemon, f"/live/door/{number}.{part}.m4s")[2])
        number, part = map(int, re.findall(r'PRELOAD-HINT:TYPE=PART,URI="(\d+)\.(\d+)\.m4s"', playlist)[0])
    assert max(delays_s) < 2
    assert sum(delays_s) > 0.6, "an answer waits for what was asked for"
    head = get(daemon, f"/live/door/{re.findall('init-[0-9]+.mp4', playlist)[-1]}")
    assert head[1]["X-Codec"].startswith("avc1.")
    first = int(re.findall(r"MEDIA-SEQUENCE:(\d+)", playlist)[0])
    whole = get(daemon, f"/live/door/{first}.m4s")[2]
    with av.open(io.BytesIO(head[2] + whole), "r", format="mp4") as container:
        frames = list(container.decode(video=0))
    assert (frames[0].width, frames[0].height) == (320, 180)
    assert frames[0].key_frame
    assert len(frames) >= 3
    assert all(one[4:8] == b"moof" for one in taken)


def test_any_player_plays_the_playlist(daemon: Daemon) -> None:
    wait_for_a_segment(daemon)
    with av.open(f"{daemon.address}live/door/index.m3u8", options={"live_start_index": "0"}) as container:
        times = []
        for frame in container.decode(video=0):
            times.append(float(frame.time or 0))
            if len(times) == 75:
                break
    steps = [after - before for before, after in pairwise(times)]
    assert max(steps) < 0.5
    assert min(steps) > 0


def test_who_watches_goes_on_over_a_restart_and_ends_with_the_stream(daemon: Daemon) -> None:
    with connect(daemon, "/preview/door.mjpg") as viewer, viewer.makefile("rb") as answer:

        def pictures(count: int) -> None:
            for _ in range(count):
                while not (line := answer.readline()).startswith(b"Content-Length"):
                    assert line
                answer.read(int(line.split(b":")[1]) + len(b"\r\n"))

        pictures(3)
        request = urllib.request.Request(  # noqa: S310 -- http
            f"{daemon.address}api/v1/streams/door/restart", method="POST", headers={"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 -- http
        daemon.wait_for(lambda: len(daemon.stream("door")["history"]) > 2, 10, "it began anew")
        pictures(20)
        assert "EXT-X-DISCONTINUITY\n" in get(daemon, "/live/door/index.m3u8")[2].decode()
        removal = urllib.request.Request(f"{daemon.address}api/v1/streams/door", method="DELETE")  # noqa: S310 -- http
        urllib.request.urlopen(removal, timeout=10).close()  # noqa: S310 -- http
        while answer.readline():
            pass
    assert get(daemon, "/preview/door.jpg")[0] == 404
