"""`vrseg run` as a service manager hears it."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plugins.daemon import Daemon, StartDaemon

pytestmark = pytest.mark.alone

CONFIG = {
    "models": {"person": {"path": "demo"}},
    "streams": {"door": {"source": {"uri": "synthetic:160x90@10"}, "model": "person"}},
    "drain_timeout": "3s",
}


class Listener:
    """The socket of a service manager, and what was said on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def listen(self, duration_s: float) -> list[str]:
        """Return what is said meanwhile."""
        before = len(self.messages)
        deadline_s = time.monotonic() + duration_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            with suppress(TimeoutError):
                self.messages.append(self._socket.recv(4096).decode())
        return self.messages[before:]

    def wait_for(self, start: str, timeout_s: float = 20) -> str:
        """Listen until a message begins so."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._socket.settimeout(max(0.01, deadline_s - time.monotonic()))
            try:
                self.messages.append(self._socket.recv(4096).decode())
            except TimeoutError:
                pytest.fail(f"no {start} within {timeout_s} s, but {self.messages}")
            if self.messages[-1].startswith(start):
                return self.messages[-1]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def daemon(listener: Listener, start_daemon: StartDaemon) -> Daemon:
    environment = {"NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": "1000000"}
    return start_daemon(CONFIG, environment=environment)


def test_it_is_ready_when_its_models_are_then_alive_and_tells_when_it_stops(daemon: Daemon, listener: Listener) -> None:
    listener.wait_for("READY=1")
    assert daemon.get("/readyz")[0] == 200
    listener.wait_for("WATCHDOG=1")
    listener.wait_for("STATUS=1 of 1 streams up")
    daemon.process.send_signal(signal.SIGTERM)
    assert "EXTEND_TIMEOUT_USEC=18000000" in listener.wait_for("STOPPING=1")
    assert daemon.process.wait(10) == 0
    assert listener.messages[-1].startswith("STOPPING=1")


def test_a_reload_begins_and_ends_whether_the_file_is_right_or_wrong(daemon: Daemon, listener: Listener) -> None:
    listener.wait_for("READY=1")
    file = daemon.log.with_suffix(".yaml")
    for content in (CONFIG | {"drain_timeout": "2s"}, {"streams": 3}):
        file.write_text(yaml.safe_dump({"server": {"listen": "127.0.0.1:0"}} | content))
        before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        daemon.process.send_signal(signal.SIGHUP)
        said = listener.wait_for("RELOADING=1").splitlines()
        assert before_us <= int(said[1].removeprefix("MONOTONIC_USEC=")) <= before_us + 5_000_000
        listener.wait_for("READY=1")
    assert daemon.process.poll() is None


def test_a_process_that_stands_still_is_silent(daemon: Daemon, listener: Listener) -> None:
    listener.wait_for("WATCHDOG=1")
    os.kill(daemon.process.pid, signal.SIGSTOP)
    listener.listen(0.1)  # to what was said before
    assert listener.listen(1.5) == []
    os.kill(daemon.process.pid, signal.SIGCONT)
    listener.wait_for("WATCHDOG=1", timeout_s=5)


def test_without_a_manager_it_runs_all_the_same(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(CONFIG, environment={"NOTIFY_SOCKET": ""})
    daemon.wait_for(lambda: daemon.delivered("door") > 3, 10, "frames flow")
    assert daemon.stop() == 0
