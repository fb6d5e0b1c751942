"""What a healthy stream feels of seven others that fail in seven ways: its latency, alone and beside them, in turns."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import pytest
from plugins.faults import RtspProxy, assert_books_are_right
from plugins.media_servers import RtspServer, unused_port
from plugins.ts_camera import RATE, TsCamera, pieces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from plugins.daemon import Daemon, StartDaemon

pytestmark = pytest.mark.alone

PERIODS = 5
"""Of each kind; what else the machine does is in some of them."""
SETTLE_S = 2.5
MOST_RATIO = 1.2
QUIET_SHARE = 0.95
"""Of its frames that the healthy stream must give while it is alone, or the figures are those of other programs."""
RATE_HZ = 30
"""Of the healthy stream."""
PERIOD_S = 20
SOURCE = {"stall_timeout": "2s", "open_timeout": "2s", "reconnect": {"initial": "200ms", "max": "1s", "jitter": 0}}


class Misery:
    """Cameras, a disk and a receiver that fail again and again while `go_on` is called."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._films = [pieces(64, 48), pieces(96, 64), pieces(64, 48, start_s=3600)]
        self._dying = serve(stack, RATE)
        self._silent = self._proxy(stack)
        self._lying = self._proxy(stack)
        self._lying.mode = "lying"
        self._resized, self._jumping, self._constant = (self._camera(stack) for _ in range(3))
        self._folder = folder
        nowhere = unused_port()
        constant = SOURCE | {"uri": self._constant.url}
        self.streams: dict[str, Any] = {
            "dies": {"source": SOURCE | {"uri": self._dying.url}},
            "silent": {"source": SOURCE | {"uri": self._silent.url}},
            "damaged": {"source": SOURCE | {"uri": self._lying.url}},
            "resized": {"source": SOURCE | {"uri": self._resized.url}},
            "jumps": {"source": SOURCE | {"uri": self._jumping.url}},
            "full": {
                "source": constant,
                "outputs": [{"uri": str(folder / "full" / "%H%M%S.mp4"), "segment": "1m", "min_free": "900T"}],
            },
            "pushed": {"source": constant, "outputs": [{"uri": f"rtmp://127.0.0.1:{nowhere}/live"}]},
        }

    def go_on(self, turn: int) -> None:
        """Let something happen to each; call it about once a second."""
        self._resized.play(self._films[turn % 2])
        self._jumping.play(self._films[turn % 2 * 2])
        self._silent.mode = "honest" if turn % 4 == 0 else "silent"
        if turn % 4 == 0:
            self._dying.kill()
        elif turn % 4 == 2:
            self._dying.start()

    def rest(self) -> None:
        if not self._dying.running:
            self._dying.start()

    def _proxy(self, stack: ExitStack) -> RtspProxy:
        proxy = RtspProxy(serve(stack, RATE).port)
        stack.callback(proxy.close)
        return proxy

    def _camera(self, stack: ExitStack) -> TsCamera:
        camera = TsCamera(self._films[0])
        stack.callback(camera.close)
        return camera


def serve(stack: ExitStack, rate_hz: int) -> RtspServer:
    server = RtspServer(unused_port(), "/live", ["--fps", f"{rate_hz}", "--size", "64x48", "--gop", f"{rate_hz}"])
    stack.callback(server.kill)
    server.start()
    return server


@pytest.mark.slow
def test_the_latency_of_a_healthy_stream_is_its_own_beside_seven_that_fail(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1, initializer=give_way) as elsewhere, ExitStack() as stack:
        camera = elsewhere.submit(serve, stack, RATE_HZ).result()
        misery = elsewhere.submit(Misery, stack, tmp_path).result()
        recording = [{"uri": str(tmp_path / "healthy.mkv"), "gop": "1s", "preset": "ultrafast", "min_free": 0}]
        healthy = {"source": {"uri": camera.url}, "model": "person", "outputs": recording}
        streams = {"healthy": healthy} | misery.streams
        daemon = start_daemon({"models": {"person": {"path": "demo"}}, "streams": streams})
        daemon.wait_for(lambda: daemon.delivered("healthy") > 30, 30, "frames flow")
        dropped = daemon.stream("healthy")["frames"]["dropped"]  # what a camera gives at once when it is asked first
        alone_s: list[float] = []
        beside_s: list[float] = []
        for turn in range(PERIODS):
            order(daemon, misery, "pause")
            quiet_s = latencies_of_a_period(daemon, nothing)
            share = len(quiet_s) / (PERIOD_S * RATE_HZ)
            assert share > QUIET_SHARE, f"this machine is too busy to measure on: {share:.0%} of the frames, alone"
            order(daemon, misery, "resume")
            busy_s = latencies_of_a_period(daemon, lambda turn: elsewhere.submit(misery.go_on, turn).result())
            elsewhere.submit(misery.rest).result()
            tell(f"period {turn}", quiet_s, busy_s)
            alone_s += quiet_s
            beside_s += busy_s
        ratio = tell("all periods", alone_s, beside_s)
        assert_books_are_right(daemon)
        assert daemon.stream("healthy")["frames"]["dropped"] == dropped
        assert ratio <= MOST_RATIO


def give_way() -> None:
    """Let this thread, and all that it starts, run only while nobody else wants to: cameras are other machines."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def nothing(_turn: int) -> None:
    """Happens while the healthy stream is alone."""


def order(daemon: Daemon, misery: Misery, change: str) -> None:
    for name in misery.streams:
        query = "?timeout=5s" if change == "pause" else ""
        assert daemon.ask("POST", f"/api/v1/streams/{name}/{change}{query}")[0] in {200, 202}
    states = {"paused"} if change == "pause" else {"starting", "running", "reconnecting"}
    daemon.wait_for(
        lambda: all(one["name"] == "healthy" or one["state"] in states for one in daemon.status()["streams"]),
        12,
        change,
    )
    time.sleep(SETTLE_S)


def latencies_of_a_period(daemon: Daemon, happen: Callable[[int], None]) -> list[float]:
    """Return the latency of each frame of the healthy stream, in seconds, as the daemon's own trace has it."""
    with ThreadPoolExecutor(1) as beside:
        tracing = beside.submit(daemon.ask, "POST", f"/api/v1/trace?seconds={PERIOD_S}")
        for turn in range(PERIOD_S - 1):
            happen(turn)
            time.sleep(1.0)
        status, trace = tracing.result()
    assert (status, trace["metadata"]["spans_left_out"]) == (200, 0)
    rows = {
        (event["pid"], event["tid"])
        for event in trace["traceEvents"]
        if event["name"] == "thread_name" and event["args"]["name"] == "healthy"
    }
    return [
        event["dur"] / 1e6
        for event in trace["traceEvents"]
        if event["name"] == "frame" and (event["pid"], event["tid"]) in rows
    ]


def tell(what: str, alone_s: list[float], beside_s: list[float]) -> float:
    """Print the figures of both; return the ratio of their p99."""
    alone, beside = quantiles(alone_s, n=100), quantiles(beside_s, n=100)
    print(  # noqa: T201 -- a measurement
        f"{what}: {len(alone_s)} frames alone, p50 {alone[49] * 1e3:.2f}, p99 {alone[98] * 1e3:.2f} ms; "
        f"{len(beside_s)} beside, p50 {beside[49] * 1e3:.2f}, p99 {beside[98] * 1e3:.2f} ms; "
        f"p99 {beside[98] / alone[98]:.2f} x"
    )
    return beside[98] / alone[98]
