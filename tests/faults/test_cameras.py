"""One daemon, and cameras that fail in all the ways they do, each beside a stream that must not notice."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from plugins.daemon import daemons_in
from plugins.encoded import times_in
from plugins.faults import RtspProxy, assert_books_are_right, assert_undisturbed, healthy_stream, told, value
from plugins.media_servers import RtspServer, unused_port
from plugins.ts_camera import RATE, TsCamera, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plugins.daemon import Daemon

pytestmark = pytest.mark.alone

STALL_S = 2.0
RECONNECT = {"initial": "200ms", "max": "500ms", "jitter": 0}
HOUR_S = 3600
LONG_GOP = 40
"""Frames: who joins in the middle has 20 to wait for."""


def camera(uri: str, **stream: Any) -> dict[str, Any]:
    source = {"uri": uri, "stall_timeout": f"{STALL_S:g}s", "open_timeout": "2s", "reconnect": RECONNECT}
    return {"source": source, **stream}


@dataclass
class Site:
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)
    servers: dict[str, RtspServer] = field(default_factory=dict)
    proxies: dict[str, RtspProxy] = field(default_factory=dict)
    broadcasts: dict[str, TsCamera] = field(default_factory=dict)

    def serve(self, name: str) -> RtspServer:
        server = RtspServer(unused_port(), "/live", ["--fps", f"{RATE}", "--size", "160x120", "--gop", f"{RATE}"])
        self.stack.callback(server.kill)
        server.start()
        self.servers[name] = server
        return server

    def proxy(self, name: str) -> str:
        proxy = self.proxies[name] = RtspProxy(self.serve(name).port)
        self.stack.callback(proxy.close)
        return proxy.url

    def broadcast(self, name: str, *, begin: int = 0) -> str:
        sender = self.broadcasts[name] = TsCamera(pieces(gop=LONG_GOP if begin else RATE), begin=begin)
        self.stack.callback(sender.close)
        return sender.url

    def recording(self, name: str) -> list[dict[str, Any]]:
        return [{"uri": str(self.folder / f"{name}.mkv"), "gop": "500ms", "preset": "ultrafast"}]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("cameras"))
    with made.stack:
        yield made


@pytest.fixture(scope="module")
def daemon(site: Site) -> Iterator[Daemon]:
    streams = {
        "healthy": healthy_stream(site.folder),
        "dies": camera(site.serve("dies").url, model="person"),
        "silent": camera(site.proxy("silent")),
        "late": camera(site.broadcast("late", begin=LONG_GOP // 2)),
        "resized": camera(site.broadcast("resized"), outputs=site.recording("resized")),
        "swapped": camera(site.serve("swapped").url, outputs=site.recording("swapped")),
        "damaged": camera(site.proxy("damaged"), outputs=site.recording("damaged")),
        "jumps": camera(site.broadcast("jumps"), outputs=site.recording("jumps")),
    }
    config = {"models": {"person": {"path": "demo"}}, "streams": streams}
    with daemons_in(site.folder) as start:
        running = start(config)
        for name in streams:
            running.wait_for(lambda: flows(running, name), 20, f"{name} flows")  # noqa: B023 -- used at once
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log.read_text()


@pytest.fixture(autouse=True)
def _nobody_else_notices(daemon: Daemon, site: Site) -> Iterator[None]:
    reconnects = {stream["name"]: stream["reconnects"] for stream in daemon.status()["streams"]}
    yield
    assert_books_are_right(daemon)
    assert_undisturbed(daemon, site.folder)
    moved = [one["name"] for one in daemon.status()["streams"] if one["reconnects"] > reconnects.get(one["name"], 0)]
    assert len(moved) <= 1, "a fault of one camera is a matter of one stream"


def flows(daemon: Daemon, name: str, than: int = 10) -> bool:
    return daemon.delivered(name) > than


def state(daemon: Daemon, name: str) -> str:
    return str(daemon.stream(name)["state"])


def wait_for_more(daemon: Daemon, name: str, frames: int = 15, timeout_s: float = 8) -> float:
    before = daemon.delivered(name)
    return daemon.wait_for(lambda: flows(daemon, name, before + frames), timeout_s, f"{name} flows again")


def test_a_camera_that_dies_is_tried_again_until_it_is_back(daemon: Daemon, site: Site) -> None:
    site.servers["dies"].kill()
    daemon.wait_for(lambda: state(daemon, "dies") == "reconnecting", 3, "the loss is noticed")
    daemon.wait_for(lambda: "nobody listens there" in daemon.stream("dies")["detail"], 3, "the reason is told")
    assert value(daemon, "vrseg_stream_state", stream="dies", state="reconnecting") == 1
    site.servers["dies"].start()
    wait_for_more(daemon, "dies")
    assert state(daemon, "dies") == "running"
    assert value(daemon, "vrseg_stream_reconnects_total", stream="dies", reason="refused") >= 1
    assert told(daemon, "stream reconnecting", stream="dies", level="warning")


def test_a_camera_that_stalls_with_its_socket_open_is_left_and_connected_anew(daemon: Daemon, site: Site) -> None:
    proxy = site.proxies["silent"]
    proxy.mode = "silent"
    took_s = daemon.wait_for(lambda: state(daemon, "silent") == "reconnecting", STALL_S + 3, "the silence is noticed")
    assert took_s < STALL_S + 1.5
    assert value(daemon, "vrseg_stream_reconnects_total", stream="silent", reason="stalled") == 1
    assert "2 s" in told(daemon, "stream reconnecting", stream="silent")[0]["detail"]
    proxy.mode = "honest"
    wait_for_more(daemon, "silent")
    assert state(daemon, "silent") == "running"


def test_who_joins_between_key_frames_waits_for_the_next_and_shows_nothing_grey(daemon: Daemon) -> None:
    assert state(daemon, "late") == "running"
    assert value(daemon, "vrseg_decode_errors_total", stream="late", reason="no_key_frame") >= RATE
    assert value(daemon, "vrseg_decode_errors_total", stream="late", reason="undecodable") == 0
    assert value(daemon, "vrseg_decode_errors_total", stream="late", reason="concealed") == 0
    assert value(daemon, "vrseg_stream_reconnects_total", stream="late") == 0
    assert told(daemon, "waited for a key frame", stream="late", level="info")


def test_a_resolution_that_changes_in_the_middle_of_a_connection_is_scaled(daemon: Daemon, site: Site) -> None:
    sender = site.broadcasts["resized"]
    connections = sender.connections
    sender.play(pieces(320, 180))
    wait_for_more(daemon, "resized", 40)
    assert sender.connections == connections, "the connection is the same"
    assert state(daemon, "resized") == "running"
    assert value(daemon, "vrseg_frames_failed_total", stream="resized") == 0
    assert_no_hole(site.folder / "resized.mkv")


def test_a_camera_that_comes_back_with_another_resolution_goes_on_in_the_same_recording(
    daemon: Daemon, site: Site
) -> None:
    old = site.servers["swapped"]
    old.kill()
    daemon.wait_for(lambda: state(daemon, "swapped") == "reconnecting", 3, "the loss is noticed")
    new = RtspServer(old.port, "/live", ["--fps", f"{RATE}", "--size", "320x180", "--gop", f"{RATE}"])
    site.stack.callback(new.kill)
    new.start()
    wait_for_more(daemon, "swapped", 30)
    assert daemon.stream("swapped")["width"] == 320
    assert value(daemon, "vrseg_stream_info", stream="swapped", width="320", height="180") == 1
    assert value(daemon, "vrseg_stream_info", stream="swapped") == 1, "and no other size"
    assert value(daemon, "vrseg_frames_failed_total", stream="swapped") == 0
    assert len(list(site.folder.glob("swapped*.mkv"))) == 1
    assert len(times_in(site.folder / "swapped.mkv")) > 40


def test_units_that_are_damaged_are_counted_and_passed_over(daemon: Daemon, site: Site) -> None:
    proxy = site.proxies["damaged"]
    proxy.mode = "lying"
    daemon.wait_for(lambda: value(daemon, "vrseg_decode_errors_total", stream="damaged") >= 5, 15, "damage is counted")
    proxy.mode = "honest"
    assert proxy.damaged > 0, "one packet may spoil several pictures"
    wait_for_more(daemon, "damaged", 30, 12)
    assert state(daemon, "damaged") == "running"
    assert told(daemon, "damaged video", stream="damaged", level="warning")
    assert value(daemon, "vrseg_frames_failed_total", stream="damaged") == 0


@pytest.mark.parametrize("start_s", [HOUR_S, 0], ids=["ahead", "back"])
def test_a_clock_that_jumps_leaves_no_hole_in_what_is_recorded(daemon: Daemon, site: Site, start_s: int) -> None:
    sender = site.broadcasts["jumps"]
    connections = sender.connections
    sender.play(pieces(start_s=start_s))
    wait_for_more(daemon, "jumps", 40)
    assert sender.connections == connections, "the connection is the same"
    assert state(daemon, "jumps") == "running"
    assert value(daemon, "vrseg_stream_reconnects_total", stream="jumps") == 0
    assert_no_hole(site.folder / "jumps.mkv")


def assert_no_hole(path: Path) -> None:
    times = times_in(path)
    steps = [float(after - moment) for moment, after in pairwise(times)]
    assert min(steps) > 0
    assert max(steps) < STALL_S
