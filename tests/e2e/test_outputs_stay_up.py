"""`vrseg run` while receivers, disks and cameras go away and come back."""

from __future__ import annotations

import os
import shutil
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from plugins.encoded import decoded_count, times_in
from plugins.media_servers import unused_port, wait_until_listening

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.daemon import Daemon, StartDaemon
    from plugins.media_servers import StartFfmpeg, StartRtspServer

pytestmark = pytest.mark.alone

BALLAST_BYTES = 4_000_000_000
CAMERA = {"stall_timeout": "2s", "open_timeout": "2s", "reconnect": {"initial": "200ms", "max": "500ms", "jitter": 0}}


def config(source: str, outputs: list[dict[str, Any]], **stream: Any) -> dict[str, Any]:
    door = {"source": {"uri": source, **(CAMERA if source.startswith("rtsp") else {})}, "outputs": outputs}
    return {"streams": {"door": door | stream}}


def output(daemon: Daemon, number: int) -> dict[str, Any]:
    """What the status says of an output, once the stream has it."""
    found = [one for one in daemon.stream("door")["outputs"] if one["output"] == number]
    return found[0] if found else {"state": "not there"}


def value(daemon: Daemon, name: str, **labels: str) -> float:
    return sum(found for has, found in daemon.samples().get(name, []) if labels.items() <= has.items())


def assert_books_are_right(daemon: Daemon) -> None:
    assert value(daemon, "vrseg_frames_unaccounted") == 0
    frames = daemon.stream("door")["frames"]
    ended = frames["delivered"] + frames["failed"] + sum(frames["dropped"].values()) + frames["under_way"]
    assert frames["entered"] == ended


def test_a_receiver_goes_away_and_returns_and_nothing_else_notices(
    start_daemon: StartDaemon, ffmpeg: StartFfmpeg, tmp_path: Path
) -> None:
    port = unused_port()
    uri = f"rtmp://127.0.0.1:{port}/live/door"
    receiver = ffmpeg("-listen", "1", "-i", uri, "-f", "null", "-")
    wait_until_listening(port)
    recording = {"uri": str(tmp_path / "door.mkv"), "gop": "500ms"}
    daemon = start_daemon(config("synthetic:320x240@30?figures=1", [{"uri": uri, "gop": "500ms"}, recording]))
    daemon.wait_for(lambda: output(daemon, 0)["state"] == "up", 15, "the push is up")
    receiver.kill()
    daemon.wait_for(lambda: output(daemon, 0)["state"] == "reconnecting", 5, "the loss is noticed")
    away = output(daemon, 0)
    assert away["reason"] == "lost"
    assert abs(away["since"] - time.time()) < 5
    assert value(daemon, "vrseg_output_state", output="0", state="reconnecting") == 1
    before = daemon.delivered("door")
    daemon.wait_for(lambda: daemon.delivered("door") > before + 30, 5, "frames go on to the recording")
    assert daemon.stream("door")["state"] == "running"
    assert daemon.stream("door")["reconnects"] == 0
    received = tmp_path / "received.flv"
    receiver = ffmpeg("-listen", "1", "-i", uri, "-c", "copy", str(received))  # listens until the first has come
    daemon.wait_for(lambda: output(daemon, 0)["state"] == "up", 15, "the push is back")
    assert value(daemon, "vrseg_output_packets_dropped_total", output="0", reason="reconnecting") > 10
    assert value(daemon, "vrseg_output_packets_dropped_total", output="1") == 0
    time.sleep(1.0)
    assert_books_are_right(daemon)
    assert daemon.stop() == 0
    receiver.wait(10)
    assert decoded_count(received) >= 20
    gaps = [float(after - moment) for moment, after in pairwise(times_in(tmp_path / "door.mkv"))]
    assert max(gaps) < 0.5, "the recording has no hole"


def test_a_full_disk_pauses_recording_and_hls_and_the_stream_goes_on(start_daemon: StartDaemon, tmp_path: Path) -> None:
    # Half of a file that is large enough to be told from what other programs write meanwhile.
    min_free = shutil.disk_usage(tmp_path).free - BALLAST_BYTES // 2
    outputs = [
        {
            "uri": str(tmp_path / "rec" / "%H%M%S.mp4"),
            "segment": "1m",
            "keep": "1h",
            "min_free": min_free,
            "gop": "500ms",
        },
        {"uri": str(tmp_path / "hls" / "index.m3u8"), "min_free": min_free, "gop": "500ms", "segment": "500ms"},
        {"uri": str(tmp_path / "door.mkv"), "min_free": 0, "gop": "500ms"},
    ]
    daemon = start_daemon(config("synthetic:320x240@30?figures=1", outputs))
    daemon.wait_for(lambda: all(output(daemon, one)["state"] == "up" for one in range(3)), 15, "all are up")
    daemon.wait_for((tmp_path / "hls" / "index.m3u8").exists, 10, "the playlist is there")
    ballast = tmp_path / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
    for number in (0, 1):
        daemon.wait_for(lambda: output(daemon, number)["state"] == "paused", 5, "it pauses")  # noqa: B023 -- used at once
        assert output(daemon, number)["reason"] == "disk"
        assert "less than min_free" in output(daemon, number)["detail"]
    assert output(daemon, 2)["state"] == "up"
    (first,) = (tmp_path / "rec").glob("*.mp4")
    size = first.stat().st_size
    assert decoded_count(first) > 10, "ended properly"
    assert "ENDLIST" not in (tmp_path / "hls" / "index.m3u8").read_text(), "players wait"
    before = daemon.delivered("door")
    daemon.wait_for(lambda: daemon.delivered("door") > before + 40, 5, "frames go on")
    assert first.stat().st_size == size
    assert value(daemon, "vrseg_output_packets_dropped_total", output="0", reason="disk") > 20
    ballast.unlink()
    for number in (0, 1):
        daemon.wait_for(lambda: output(daemon, number)["state"] == "up", 5, "it goes on")  # noqa: B023 -- as above
    time.sleep(1.5)
    assert_books_are_right(daemon)
    assert daemon.stop() == 0
    assert len(list((tmp_path / "rec").glob("*.mp4"))) == 2
    assert all(decoded_count(path) > 10 for path in (tmp_path / "rec").glob("*.mp4"))
    assert decoded_count(tmp_path / "hls" / "index.m3u8") > 10


def test_viewers_stay_through_ten_seconds_without_a_camera(
    start_daemon: StartDaemon, rtsp_server: StartRtspServer, ffmpeg: StartFfmpeg, tmp_path: Path
) -> None:
    camera = rtsp_server(fps=15, gop=15)
    port = unused_port()
    uri = f"rtmp://127.0.0.1:{port}/live/door"
    seen, pushed = tmp_path / "seen.mkv", tmp_path / "pushed.ts"
    viewer = ffmpeg("-listen", "1", "-i", uri, "-c", "copy", str(seen))
    wait_until_listening(port)
    target = rtsp_server(path="/door", record=True, record_to=str(pushed))
    playlist = tmp_path / "hls" / "index.m3u8"
    outputs = [
        {"uri": uri, "gop": "1s"},
        {"uri": target.url, "gop": "1s", "on_source_lost": "black"},
        {"uri": str(tmp_path / "door.mkv"), "gop": "1s"},
        {"uri": str(playlist), "gop": "1s", "keep": "60s"},
    ]
    results = [{"uri": str(tmp_path / "door.jsonl")}]
    running = config(camera.url, outputs, model="person", results=results) | {"models": {"person": {"path": "demo"}}}
    daemon = start_daemon(running)
    daemon.wait_for(lambda: daemon.delivered("door") > 30, 20, "frames flow")
    daemon.wait_for(lambda: all(output(daemon, one)["state"] == "up" for one in range(4)), 15, "all are up")
    camera.kill()
    daemon.wait_for(lambda: daemon.stream("door")["state"] == "reconnecting", 5, "the loss is noticed")
    entered = daemon.stream("door")["frames"]["entered"]
    time.sleep(10)
    assert daemon.stream("door")["frames"]["entered"] == entered, "what stands in is no frame of the source"
    assert viewer.poll() is None, "the viewer is still there"
    assert all(output(daemon, one)["state"] == "up" for one in range(4))
    camera.start()
    daemon.wait_for(lambda: daemon.stream("door")["frames"]["entered"] > entered + 30, 10, "frames flow again")
    assert_books_are_right(daemon)
    delivered = daemon.stop() == 0 and (tmp_path / "door.jsonl").read_text().count("\n")
    viewer.wait(10)
    target.stop()
    for path in (seen, pushed, playlist):
        times = [float(moment) for moment in times_in(path)]
        assert max(after - moment for moment, after in pairwise(times)) < 2.5, path
        assert times[-1] - times[0] > 10
        assert decoded_count(path) > 80
    recorded = [float(moment) for moment in times_in(tmp_path / "door.mkv")]
    assert 9 < max(after - moment for moment, after in pairwise(recorded)) < 16, "the recording has the hole"
    assert len(recorded) == decoded_count(tmp_path / "door.mkv") == delivered
