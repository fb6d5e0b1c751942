"""`vrseg run` on a real RTSP server: start, loss and return, stop, kill."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import av
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.daemon import Daemon, StartDaemon
    from plugins.media_servers import StartRtspServer

pytestmark = pytest.mark.alone

RETURNS = 20
BACKOFF_S = 0.5


def config(url: str, folder: Path, **source: Any) -> dict[str, Any]:
    return {
        "models": {"person": {"path": "demo"}},
        "streams": {
            "door": {
                "source": {
                    "uri": url,
                    "stall_timeout": "2s",
                    "open_timeout": "2s",
                    "reconnect": {"initial": "200ms", "max": "500ms", "jitter": 0},
                }
                | source,
                "model": "person",
                "outputs": [{"uri": str(folder / "door.mp4")}, {"uri": str(folder / "door.mkv"), "gop": "1s"}],
                "results": [{"uri": str(folder / "door.jsonl")}],
            }
        },
    }


def assert_plays(path: Path, at_least: int = 1) -> None:
    """FFmpeg decodes it from start to end without a word, and PyAV finds enough frames."""
    # with the file's own times: at a rounded frame rate, two frames of a camera may fall on one moment
    exact = ["-fps_mode", "passthrough", "-enc_time_base", "-1"]
    said = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), *exact, "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0
    assert said.stderr == ""
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= at_least


def flowing(daemon: Daemon, than: int = 0) -> bool:
    return daemon.delivered("door") > than


def test_frames_flow_within_3_s_and_sigterm_leaves_whole_files_within_5_s(
    rtsp_server: StartRtspServer, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    server = rtsp_server(fps=30, gop=15)
    daemon = start_daemon(config(server.url, tmp_path))
    daemon.wait_for(lambda: daemon.get("/readyz")[0] == 200, 15, "the model is loaded")
    assert daemon.wait_for(lambda: flowing(daemon), 3, "frames flow") < 3
    daemon.wait_for(lambda: flowing(daemon, 40), 10, "40 frames")
    started_s = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - started_s < 5
    assert_plays(tmp_path / "door.mp4", at_least=40)
    assert_plays(tmp_path / "door.mkv", at_least=40)
    assert len((tmp_path / "door.jsonl").read_text().splitlines()) >= 40


def test_sigkill_leaves_playable_files(rtsp_server: StartRtspServer, start_daemon: StartDaemon, tmp_path: Path) -> None:
    server = rtsp_server(fps=30, gop=15)
    daemon = start_daemon(config(server.url, tmp_path))
    daemon.wait_for(lambda: flowing(daemon, 150), 20, "150 frames")
    daemon.stop(signal.SIGKILL)
    for name in ("door.mp4", "door.mkv"):
        with av.open(str(tmp_path / name)) as container:
            # at most the last fragment, of 2 s here, is lost
            assert sum(1 for _ in container.decode(video=0)) >= 80


def test_a_camera_that_dies_20_times_comes_back_20_times_and_nothing_grows(
    rtsp_server: StartRtspServer, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    server = rtsp_server(fps=30, gop=15)
    daemon = start_daemon(config(server.url, tmp_path))
    daemon.wait_for(lambda: flowing(daemon, 20), 20, "frames flow")
    usage: list[tuple[int, int, int]] = []
    for number in range(RETURNS):
        server.kill()
        daemon.wait_for(lambda: daemon.stream("door")["state"] == "reconnecting", 5, "the loss is noticed")
        server.start()
        before = daemon.delivered("door")
        daemon.wait_for(lambda: flowing(daemon, before + 5), BACKOFF_S + 3, f"return {number + 1}")  # noqa: B023 -- used at once
        usage.append(daemon.resources())
    rss, threads, descriptors = zip(*usage, strict=True)
    assert max(threads[5:]) <= max(threads[:5])
    assert max(descriptors[5:]) <= max(descriptors[:5])
    assert max(rss[10:]) - max(rss[:10]) < 10 * 2**20
    frames = daemon.stream("door")["frames"]
    assert frames["unaccounted"] == 0
    reconnects = sum(value for _, value in daemon.samples()["vrseg_stream_reconnects_total"])
    assert reconnects >= RETURNS
    assert daemon.stop() == 0
    assert_plays(tmp_path / "door.mp4", at_least=100)


def test_a_camera_that_falls_silent_is_noticed_and_sigterm_still_ends_within_5_s(
    rtsp_server: StartRtspServer, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    server = rtsp_server(fps=30, gop=15)
    daemon = start_daemon(config(server.url, tmp_path))
    daemon.wait_for(lambda: flowing(daemon, 20), 20, "frames flow")
    server.pause()
    took_s = daemon.wait_for(lambda: daemon.stream("door")["state"] == "reconnecting", 5, "the silence is noticed")
    assert took_s < 3.5
    started_s = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - started_s < 5
    assert_plays(tmp_path / "door.mp4", at_least=20)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_credentials_are_used_and_never_shown(
    rtsp_server: StartRtspServer, start_daemon: StartDaemon, tmp_path: Path, transport: str
) -> None:
    server = rtsp_server(fps=15, gop=15, user="cam", password="hunter2-secret")
    url = server.url.replace("rtsp://", "rtsp://cam:${DOOR_PASSWORD}@")
    daemon = start_daemon(config(url, tmp_path, transport=transport), environment={"DOOR_PASSWORD": "hunter2-secret"})
    daemon.wait_for(lambda: flowing(daemon, 5), 15, "frames flow")
    told = "".join(daemon.get(path)[1] for path in ("/api/v1/status", "/api/v1/config", "/metrics"))
    server.kill()
    daemon.wait_for(lambda: daemon.stream("door")["state"] == "reconnecting", 5, "the loss is noticed")
    told += daemon.get("/api/v1/status")[1]
    daemon.stop()
    told += daemon.log.read_text()
    assert "hunter2" not in told
