"""What is done to the process: signals, wishes over HTTP without end, a port that is taken, too little memory."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from plugins.broker import Broker
from plugins.daemon import write_config
from plugins.encoded import times_in
from plugins.faults import assert_books_are_right, assert_undisturbed, healthy_stream, told, value

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.daemon import Daemon, RunVrseg, StartDaemon

pytestmark = pytest.mark.alone

HANGUPS = 100
WARM_UP = 50
"""Adds and removes after which nothing may grow any more."""
MOST_GROWTH_BYTES = 5_000_000
MODELS = {"person": {"path": "demo"}}


def config(folder: Path, **streams: Any) -> dict[str, Any]:
    server = {"listen": "127.0.0.1:0", "allow": ["synthetic:*"]}
    return {"models": MODELS, "streams": {"healthy": healthy_stream(folder)} | streams, "server": server}


def start(start_daemon: StartDaemon, folder: Path, **streams: Any) -> Daemon:
    daemon = start_daemon(config(folder, **streams), environment={"STATE_DIRECTORY": str(folder / "state")})
    for name in ("healthy", *streams):
        daemon.wait_for(lambda: daemon.delivered(name) > 10, 30, f"{name} flows")  # noqa: B023 -- used at once
    return daemon


def test_a_storm_of_hangups_is_a_few_reloads_and_no_lost_frame(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start(start_daemon, tmp_path)
    entered = daemon.stream("healthy")["frames"]["entered"]
    _, threads, descriptors = daemon.resources()
    for _ in range(HANGUPS):
        daemon.process.send_signal(signal.SIGHUP)
        time.sleep(1 / HANGUPS)
    daemon.wait_for(lambda: told(daemon, "configuration reloaded"), 10, "a reload")
    daemon.wait_for(lambda: daemon.stream("healthy")["frames"]["entered"] > entered + 30, 10, "frames flow on")
    assert len(told(daemon, "configuration reloaded")) <= HANGUPS
    assert not told(daemon, "stream draining")
    assert value(daemon, "vrseg_config_last_reload_successful") == 1
    daemon.wait_for(lambda: daemon.resources()[1] <= threads, 5, "no thread is left")
    daemon.wait_for(lambda: daemon.resources()[2] <= descriptors, 5, "no descriptor is left")
    assert_books_are_right(daemon)
    assert_undisturbed(daemon, tmp_path)
    assert daemon.stop() == 0


@pytest.mark.parametrize("times", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_streams_that_come_and_go_leave_nothing_behind(start_daemon: StartDaemon, tmp_path: Path, times: int) -> None:
    daemon = start(start_daemon, tmp_path)
    guest = {"source": {"uri": "synthetic:64x48@15?figures=0"}, "model": "person"}
    begun: list[tuple[int, int, int]] = []
    crowd = [f"crowd{number}" for number in range(4)]  # batches as large as they get, before anything is measured
    for name in crowd:
        come(daemon, name, guest)
    daemon.wait_for(lambda: all(daemon.delivered(name) > 20 for name in crowd), 20, "the crowd is at work")
    for name in crowd:
        go(daemon, name)
    for number in range(times):
        come(daemon, f"guest{number}", guest)
        daemon.wait_for(lambda: daemon.delivered(f"guest{number}") > 0, 10, "a frame of the guest")  # noqa: B023 -- used at once
        go(daemon, f"guest{number}")
        if number + 1 >= WARM_UP:
            begun.append(daemon.resources())
    rss, threads_seen, descriptors_seen = zip(*begun, strict=True)
    print(f"{times} times: RSS +{(max(rss) - rss[0]) / 1e6:.2f} MB since the {WARM_UP}th")  # noqa: T201 -- a measurement
    assert max(rss) - rss[0] < MOST_GROWTH_BYTES
    threads, descriptors = threads_seen[0], descriptors_seen[0]
    daemon.wait_for(lambda: daemon.resources()[1] <= threads, 5, "no thread is left")
    daemon.wait_for(lambda: daemon.resources()[2] <= descriptors, 5, "no descriptor is left")
    labels = {labels.get("stream") for found in daemon.samples().values() for labels, _ in found}
    assert labels <= {None, "healthy"}
    assert_books_are_right(daemon)
    assert_undisturbed(daemon, tmp_path)
    assert daemon.stop() == 0


def come(daemon: Daemon, name: str, section: dict[str, Any]) -> None:
    assert patiently(daemon, "POST", "/api/v1/streams", {"id": name, "stream": section}) == 201


def go(daemon: Daemon, name: str) -> None:
    assert patiently(daemon, "DELETE", f"/api/v1/streams/{name}?timeout=5s") == 202
    daemon.wait_for(lambda: daemon.get(f"/api/v1/streams/{name}")[0] == 404, 10, f"{name} is gone")


def patiently(daemon: Daemon, method: str, path: str, body: Any = None) -> int:
    """Ask again as long as it was too often; return the status."""
    while (status := daemon.ask(method, path, body)[0]) == 429:
        time.sleep(0.2)
    return status


def test_a_port_that_is_taken_is_one_line_and_exit_code_2(vrseg: RunVrseg, tmp_path: Path) -> None:
    path = tmp_path / "vrseg.yaml"
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        write_config(path, config(tmp_path) | {"server": {"listen": listen}})
        said = vrseg("run", path, "--log-level", "warning", timeout_s=30)
    assert said.returncode == 2
    (line,) = said.stderr.splitlines()
    assert line.startswith(f"error: server.listen: {listen}: ")
    assert "choose another port" in line


def test_a_killed_process_leaves_a_recording_that_plays_and_events_that_wait(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    broker = Broker(tmp_path, "allow_anonymous true")  # never started
    everywhere = {"points": [[0, 0], [1, 0], [1, 1], [0, 1]], "debounce": "200ms", "cover": 0.005}
    hall = {
        "source": {"uri": "synthetic:320x180@10?seed=7&figures=4"},
        "model": "person",
        "zones": {"room": everywhere},
        "outputs": [{"uri": str(tmp_path / "hall.mp4"), "gop": "500ms", "preset": "ultrafast", "min_free": 0}],
        "results": [
            {"uri": f"mqtt://127.0.0.1:{broker.port}/site/hall"},
            {"uri": str(tmp_path / "events.jsonl"), "content": "events"},
        ],
    }
    daemon = start(start_daemon, tmp_path, hall=hall)
    daemon.wait_for(lambda: value(daemon, "vrseg_results_waiting", stream="hall") >= 2, 20, "events wait")
    daemon.wait_for(lambda: daemon.delivered("hall") > 40, 20, "something to lose")
    delivered = daemon.delivered("hall")
    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    path = tmp_path / "hall.mp4"
    played = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "null", "-"], capture_output=True, text=True, check=False
    )
    assert played.returncode == 0
    assert len(times_in(path)) >= delivered - 10, "at most two fragments of half a second are lost"
    told_before = [json.loads(line)["event_id"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    spooled = b"".join(file.read_bytes() for file in (tmp_path / "state").rglob("*") if file.is_file())
    assert told_before
    assert all(event.encode() in spooled for event in told_before)


@pytest.mark.parametrize("limit_mb", [300, 600, 900])
def test_too_little_memory_is_said_in_a_line_and_not_hung_on(
    start_daemon: StartDaemon, tmp_path: Path, limit_mb: int
) -> None:
    daemon = start_daemon(config(tmp_path), prefix=["prlimit", f"--as={limit_mb * 2**20}"], wait=False)
    deadline_s = time.monotonic() + 30
    while daemon.process.poll() is None and not told(daemon, "stream reconnecting", stream="healthy"):
        assert time.monotonic() < deadline_s, daemon.log.read_text()
        if frames_flow(daemon):
            break  # it was enough
        time.sleep(0.1)
    ended = daemon.process.poll() is not None
    code = daemon.process.returncode if ended else daemon.stop()
    said = daemon.log.read_text()
    assert "Traceback" not in said
    if ended:
        assert code in {1, 4}
        assert "error: " in said.splitlines()[-1]  # of ours, or of a library that ends the process by itself
    elif waiting := told(daemon, "stream reconnecting"):
        assert "raise the limit" in waiting[0]["detail"]
    else:
        assert limit_mb > 300
        assert code == 0


def frames_flow(daemon: Daemon) -> bool:
    """Tell whether the daemon has its model and delivers."""
    for event in told(daemon, "listening"):
        daemon.address = event["page"]
        return daemon.delivered("healthy") > 10
    return False


def test_a_stream_without_memory_waits_for_it_and_the_others_run_on(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start(start_daemon, tmp_path)
    daemon.get("/metrics")
    process: Any = psutil.Process(daemon.process.pid)
    limit = process.memory_info().vms + 48 * 2**20
    process.rlimit(psutil.RLIMIT_AS, (limit, psutil.RLIM_INFINITY))
    guest = {"source": {"uri": "synthetic:7680x4320@5"}, "model": "person"}
    assert daemon.ask("POST", "/api/v1/streams", {"id": "guest", "stream": guest})[0] == 201
    daemon.wait_for(lambda: daemon.stream("guest")["state"] == "reconnecting", 20, "it is tried again")
    assert "out of memory" in daemon.stream("guest")["detail"]
    assert value(daemon, "vrseg_stream_reconnects_total", stream="guest", reason="resources") >= 1
    before = daemon.delivered("healthy")
    daemon.wait_for(lambda: daemon.delivered("healthy") > before + 20, 10, "the other runs on")
    assert_books_are_right(daemon)
    assert_undisturbed(daemon, tmp_path)
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log.read_text()
