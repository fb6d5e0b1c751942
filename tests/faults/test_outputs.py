"""One daemon, and receivers, disks, brokers and viewers that fail, beside a stream that must not notice."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
import pytest
from plugins.broker import Broker, Listener, wait_for
from plugins.daemon import daemons_in
from plugins.encoded import times_in
from plugins.faults import (
    Dribbler,
    RtspProxy,
    assert_books_are_right,
    assert_undisturbed,
    healthy_stream,
    value,
    with_private_disk,
)
from plugins.media_servers import RtspServer, unused_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugins.daemon import Daemon

DISK_MB = 4
LISTENER = "listener"
SOURCE = {"uri": "synthetic:160x120@10?figures=1"}
EVERYWHERE = {"points": [[0, 0], [1, 0], [1, 1], [0, 1]], "debounce": "200ms", "cover": 0.005}
LONGEST_HOLE_S = 1.0
"""In what other outputs of the same stream recorded: one encoder feeds them, and none may hold it up."""


def can_have_private_disks() -> bool:
    return subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], check=False).returncode == 0


pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not can_have_private_disks(), reason="needs user and mount namespaces"),
]


@dataclass
class Site:
    folder: Path
    broker: Broker
    proxy: RtspProxy
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def share(self) -> Path:
        return self.folder / "share"

    def beside(self, name: str) -> Path:
        """The other recording of a stream."""
        return self.folder / f"{name}.mkv"


def broker_that_is_away(folder: Path) -> Broker:
    """A broker that is away, and that will keep all for `LISTENER` from its first moment on."""
    lines = ["allow_anonymous true", "persistence true", f"persistence_location {folder}/", "user root"]
    broker = Broker(folder, *lines)
    broker.start()
    Listener(broker.port, session=LISTENER).close()
    broker.stop()
    return broker


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("outputs")
    receiver = RtspServer(unused_port(), "/live", ["--record"])
    receiver.start()
    made = Site(folder, broker_that_is_away(folder), RtspProxy(receiver.port))
    with made.stack:
        made.stack.callback(made.broker.kill)
        made.stack.callback(receiver.kill)
        made.stack.callback(made.proxy.close)
        yield made


@pytest.fixture(scope="module")
def daemon(site: Site) -> Iterator[Daemon]:
    def recorded(name: str, output: dict[str, Any]) -> list[dict[str, Any]]:
        quick = {"gop": "500ms", "preset": "ultrafast"}
        return [output | quick, {"uri": str(site.beside(name)), "min_free": 0, **quick}]

    full = {"uri": str(site.disk / "%H%M%S.mp4"), "segment": "1m", "keep": "1h", "min_free": 0, "bitrate": "4M"}
    moved = {"uri": str(site.share / "%H%M%S.mp4"), "segment": "1s", "keep": "1h", "min_free": 0}
    streams: dict[str, Any] = {
        "healthy": healthy_stream(site.folder),
        "full": {"source": SOURCE, "outputs": recorded("full", full)},
        "moved": {"source": SOURCE, "outputs": recorded("moved", moved)},
        "pushed": {
            "source": {"uri": "synthetic:320x240@15?figures=1"},
            "outputs": recorded("pushed", {"uri": site.proxy.url, "quality": 0}),
        },
        "watched": {
            "source": {"uri": "synthetic:320x240@10?figures=1"},
            "outputs": recorded("watched", {"uri": str(site.folder / "hls" / "index.m3u8"), "min_free": 0}),
        },
        "told": {
            "source": {"uri": "synthetic:320x180@5?seed=7&figures=4"},
            "model": "person",
            "zones": {"room": EVERYWHERE},
            "results": [
                {"uri": f"mqtt://127.0.0.1:{site.broker.port}/site/told"},
                {"uri": str(site.folder / "events.jsonl"), "content": "events"},
            ],
        },
    }
    with daemons_in(site.folder) as start:
        prefix = with_private_disk(site.disk, DISK_MB)
        state = {"STATE_DIRECTORY": str(site.folder / "state")}
        running = start({"models": {"person": {"path": "demo"}}, "streams": streams}, environment=state, prefix=prefix)
        for name in streams:
            running.wait_for(lambda: running.delivered(name) > 10, 30, f"{name} flows")  # noqa: B023 -- used at once
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log.read_text()


@pytest.fixture(autouse=True)
def _nobody_else_notices(daemon: Daemon, site: Site) -> Iterator[None]:
    yield
    assert_books_are_right(daemon)
    assert_undisturbed(daemon, site.folder)
    assert all(stream["reconnects"] == 0 for stream in daemon.status()["streams"])
    assert all(stream["state"] == "running" for stream in daemon.status()["streams"])


def output(daemon: Daemon, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.stream(stream)["outputs"][0]
    return found


def wait_for_more(daemon: Daemon, name: str, frames: int = 15) -> None:
    before = daemon.delivered(name)
    daemon.wait_for(lambda: daemon.delivered(name) > before + frames, 8, f"{name} flows")


def assert_no_hole(path: Path) -> None:
    assert max(float(after - moment) for moment, after in pairwise(times_in(path))) < LONGEST_HOLE_S


def outside(daemon: Daemon, path: Path) -> Path:
    """Where a path on the daemon's own disk is seen from here."""
    return Path(f"/proc/{daemon.process.pid}/root{path}")


def test_events_wait_on_disk_while_the_broker_is_dead(daemon: Daemon, site: Site) -> None:
    def waiting() -> float:
        return value(daemon, "vrseg_results_waiting", stream="told")

    daemon.wait_for(lambda: waiting() >= 2, 20, "events wait")
    wait_for_more(daemon, "told", 10)
    assert value(daemon, "vrseg_results_dropped_total", stream="told") == 0
    site.broker.start()
    listener = Listener(site.broker.port, session=LISTENER)
    site.stack.callback(listener.close)
    daemon.wait_for(lambda: waiting() == 0, 20, "they are delivered")
    wait_for(lambda: len(listener.payloads("site/told/event")) >= 2)
    heard = [event["event_id"] for event in listener.payloads("site/told/event")]
    wait_for(lambda: len((site.folder / "events.jsonl").read_text().splitlines()) >= len(heard))
    written = [json.loads(line)["event_id"] for line in (site.folder / "events.jsonl").read_text().splitlines()]
    assert heard == written[: len(heard)], "in order, and each once"


def test_a_full_disk_pauses_what_is_recorded_there_and_nothing_else(daemon: Daemon, site: Site) -> None:
    disk = outside(daemon, site.disk)
    ballast = disk / "ballast"
    fill(ballast)
    daemon.wait_for(lambda: output(daemon, "full")["state"] == "paused", 10, "it pauses")
    assert output(daemon, "full")["reason"] == "disk"
    assert "disk is full" in output(daemon, "full")["detail"]
    assert value(daemon, "vrseg_output_state", stream="full", output="0", state="paused") == 1
    wait_for_more(daemon, "full")
    assert value(daemon, "vrseg_output_packets_dropped_total", stream="full", output="0", reason="disk") > 0
    assert value(daemon, "vrseg_output_packets_dropped_total", stream="full", output="1") == 0
    assert value(daemon, "vrseg_frames_dropped_total", stream="full", stage="sink") == 0, "the other output took them"
    ballast.unlink()
    daemon.wait_for(lambda: output(daemon, "full")["state"] == "up", 15, "it goes on")
    wait_for_more(daemon, "full")
    assert_no_hole(site.beside("full"))
    recordings = sorted(disk.glob("*.mp4"))
    assert len(recordings) >= 2
    assert playable_frames(recordings[0]) > 10, "what was there before still plays"


def playable_frames(path: Path) -> int:
    """Count the frames up to the place where the disk was full."""
    count = 0
    with av.open(str(path)) as container, contextlib.suppress(av.error.InvalidDataError):
        for _ in container.decode(video=0):
            count += 1
    return count


def fill(path: Path) -> None:
    with path.open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))


def test_a_folder_that_cannot_be_written_is_tried_again_until_it_can(daemon: Daemon, site: Site) -> None:
    away = site.folder / "away"
    site.share.rename(away)
    site.share.write_text("no folder")
    daemon.wait_for(lambda: output(daemon, "moved")["state"] == "paused", 10, "it pauses")
    assert output(daemon, "moved")["reason"] == "unwritable"
    assert "next try" in output(daemon, "moved")["detail"]
    wait_for_more(daemon, "moved")
    assert value(daemon, "vrseg_output_packets_dropped_total", stream="moved", output="0", reason="unwritable") > 0
    assert value(daemon, "vrseg_output_packets_dropped_total", stream="moved", output="1") == 0
    site.share.unlink()
    away.rename(site.share)
    daemon.wait_for(lambda: output(daemon, "moved")["state"] == "up", 15, "it goes on")
    assert_no_hole(site.beside("moved"))


def test_receivers_and_viewers_who_read_next_to_nothing_hold_up_nobody(
    daemon: Daemon, site: Site, request: pytest.FixtureRequest
) -> None:
    def lost() -> float:
        return value(daemon, "vrseg_output_packets_dropped_total", stream="pushed", output="0")

    daemon.wait_for(lambda: output(daemon, "pushed")["state"] == "up", 10, "the push is up")
    before = lost()
    playlist = daemon.get("/live/watched/index.m3u8")[1]
    segment = next(line for line in playlist.splitlines() if line.endswith(".m4s"))
    paths = ["/preview/watched.mjpg", "/preview/watched.mjpg?side=input", f"/live/watched/{segment}"]
    threads, descriptors = at_rest(daemon, paths)
    site.proxy.mode = "silent"
    viewers = [Dribbler(daemon, path) for path in paths for _ in range(3)]
    for viewer in viewers:
        request.addfinalizer(viewer.close)
    daemon.wait_for(lambda: lost() > before, 30, "what the receiver does not take is dropped and counted")
    wait_for_more(daemon, "pushed")
    wait_for_more(daemon, "watched")
    assert daemon.get("/live/watched/index.m3u8")[0] == 200, "others are served"
    for stream in ("pushed", "watched"):
        assert value(daemon, "vrseg_output_packets_dropped_total", stream=stream, output="1") == 0
        assert_no_hole(site.beside(stream))
    assert all(viewer.received > 2 for viewer in viewers)
    for viewer in viewers:
        viewer.close()
    site.proxy.mode = "honest"
    daemon.wait_for(lambda: output(daemon, "pushed")["state"] == "up", 15, "it is fed again")
    daemon.wait_for(lambda: daemon.resources()[2] <= descriptors + 2, 10, "their descriptors are closed")
    daemon.wait_for(lambda: daemon.resources()[1] <= threads + 2, 10, "their threads have ended")


def at_rest(daemon: Daemon, paths: list[str]) -> tuple[int, int]:
    """Return how many threads and descriptors it has when it has shown everything once: FFmpeg's come with the work."""
    for path in paths:
        viewer = Dribbler(daemon, path)
        try:
            daemon.wait_for(partial(getattr, viewer, "received"), 10, "it is shown")
        finally:
            viewer.close()
    most = [daemon.resources()[1:]]
    for _ in range(20):
        time.sleep(0.1)
        most.append(daemon.resources()[1:])
    return max(threads for threads, _ in most), max(descriptors for _, descriptors in most)
