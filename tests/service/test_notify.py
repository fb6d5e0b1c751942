"""What a service manager hears, on a real datagram socket, while a clock of the test runs."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from vrseg.config.schema import Config
from vrseg.config.systemd import NotifySettings, notify_settings
from vrseg.errors import ConfigError
from vrseg.notify import Notifier, Watched, service_manager, status_line
from vrseg.pipeline.ledger import Ledger
from vrseg.telemetry.metrics import Metrics
from vrseg.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vrseg.pipeline.observer import StreamState

LOG = structlog.stdlib.get_logger()


class Manager:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self._messages: list[str] = []

    def listen(self) -> None:
        """Take what is there: the kernel keeps ten messages, then senders must wait."""
        with suppress(BlockingIOError):
            while True:
                self._messages.append(self._socket.recv(4096).decode())

    def heard(self) -> list[str]:
        """Messages since the last call."""
        self.listen()
        messages, self._messages = self._messages, []
        return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"\0vrseg-test-{os.getpid()}")
    yield made
    made.close()


@dataclass
class Site:
    """A daemon of one stream, of which the test is the pipeline."""

    now_s: float = 1000.0
    reasons: list[str] = field(default_factory=lambda: ["model person is loading"])
    illness: str = ""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    notifiers: list[Notifier] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config = Config.model_validate(
            {
                "streams": {"door": {"source": {"uri": "rtsp://10.0.0.5/main", "stall_timeout": "10s"}}},
                "drain_timeout": "60s",
            }
        )
        self.recorder = Recorder(Metrics(CollectorRegistry()), LOG)
        self.ledger = Ledger("door", 8, self.recorder)
        self.recorder.add_stream(self.ledger)

    async def ill(self) -> str:
        return self.illness

    def watched(self) -> Watched:
        return Watched(
            recorder=self.recorder,
            config=lambda: self.config,
            not_ready=lambda: self.reasons,
            stop=self.stop,
            ill=self.ill,
        )

    def notifier(self, manager: Manager, watchdog_s: float = 30.0) -> Notifier:
        self.manager = manager
        settings = NotifySettings(address=manager.address, watchdog_s=watchdog_s)
        self.notifiers.append(Notifier(self.watched(), LOG, settings, clock=lambda: self.now_s))
        return self.notifiers[-1]

    def state(self, state: StreamState) -> None:
        self.recorder.stream_state("door", state)

    def frames(self, count: int = 1) -> None:
        for _ in range(count):
            self.ledger.enter()
            self.ledger.depart()
            self.ledger.deliver(SimpleNamespace(decoded_s=0.0), 0.0)  # type: ignore[arg-type] # all that is read of it

    def run(self, notifier: Notifier, seconds: int, *, frames: int = 0) -> None:
        for _ in range(seconds):
            self.frames(frames)
            if not self.illness:
                notifier.device_answered()
            notifier.beat()
            self.manager.listen()
            self.now_s += notifier.beat_s


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    for notifier in made.notifiers:
        notifier.close()


def count(messages: list[str], start: str) -> int:
    return sum(message.startswith(start) for message in messages)


def test_who_loads_gets_more_time_and_says_what_for(site: Site, manager: Manager) -> None:
    site.run(site.notifier(manager), 10)
    heard = manager.heard()
    assert count(heard, "EXTEND_TIMEOUT_USEC=30000000") == 10
    assert "STATUS=model person is loading" in heard


def test_who_loads_for_ever_gets_no_more_time(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager)
    site.now_s += 1801
    site.run(notifier, 3)
    assert count(manager.heard(), "EXTEND") == 0


def test_a_reload_has_a_beginning_with_its_time_an_end_and_more_time_between(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager)
    notifier.ready()
    site.run(notifier, 2)
    assert count(manager.heard(), "EXTEND") == 0
    site.now_s = 1234.5
    notifier.reloading()
    site.run(notifier, 2)
    notifier.ready()
    heard = manager.heard()
    assert heard[0] == "RELOADING=1\nMONOTONIC_USEC=1234500000"
    assert count(heard, "EXTEND") == 2
    assert heard[-1] == "READY=1"


def test_stopping_asks_for_as_long_as_draining_may_take_and_is_said_once(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager)
    notifier.stopping()
    notifier.stopping()
    assert manager.heard() == ["STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=75000000"]


def test_a_reload_that_ends_while_the_daemon_stops_does_not_make_it_ready_again(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager)
    notifier.reloading()
    notifier.stopping()
    manager.heard()
    notifier.ready()
    notifier.reloading()
    assert notifier.phase == "stopping"
    assert manager.heard() == []


def test_while_frames_move_the_watchdog_hears_of_it_every_half_of_its_time(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager)
    notifier.ready()
    site.state("running")
    site.run(notifier, 91, frames=25)
    heard = manager.heard()
    assert count(heard, "WATCHDOG=1") == 7  # at 0, 15, ... 90 s
    assert "1 of 1 streams up, 25.0 frames/s" in [message for message in heard if message.startswith("STATUS=")][-1]


def test_a_short_watchdog_hears_often_enough(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager, watchdog_s=1.0)
    notifier.ready()
    site.state("running")
    site.run(notifier, 40, frames=1)  # beats of 0.25 s
    assert count(manager.heard(), "WATCHDOG=1") == 20


def test_a_running_stream_without_frames_silences_the_watchdog_and_says_why(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager)
    notifier.ready()
    site.state("running")
    site.run(notifier, 20, frames=1)
    manager.heard()
    with capture_logs() as logs:
        site.run(notifier, 21)  # 10 s of stall timeout, 10 s of margin
        assert count(manager.heard(), "WATCHDOG=1") == 1
        site.run(notifier, 60)
    heard = manager.heard()
    assert count(heard, "WATCHDOG=1") == 0
    assert "stream door: no frame for" in [message for message in heard if message.startswith("STATUS=")][-1]
    assert [entry["event"] for entry in logs] == ["not well"]
    site.run(notifier, 2, frames=1)
    assert count(manager.heard(), "WATCHDOG=1") == 1


@pytest.mark.parametrize("state", ["starting", "reconnecting", "draining", "ended", "failed"])
def test_a_stream_that_need_not_move_is_no_reason_to_be_silent(
    site: Site, manager: Manager, state: StreamState
) -> None:
    notifier = site.notifier(manager)
    notifier.ready()
    site.state("running")
    site.run(notifier, 5, frames=1)
    site.state(state)
    manager.heard()
    site.run(notifier, 600)
    assert count(manager.heard(), "WATCHDOG=1") == 40


def test_frames_that_come_in_and_hang_in_the_pipeline_silence_it(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager)
    notifier.ready()
    site.state("running")
    site.ledger.enter()
    site.ledger.depart()  # never comes back: the credit of a model that hangs
    for _ in range(100):
        site.ledger.enter()
        site.ledger.drop_queued("queue_full")
        site.run(notifier, 1)
    heard = manager.heard()
    assert count(heard, "WATCHDOG=1") == 5  # at 0, 15, 30, 45, 60 s
    assert "1 frames under way, none arrived" in heard[-1] + heard[-2]


def test_frames_that_all_arrive_too_late_are_no_hang(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager)
    notifier.ready()
    site.state("running")
    for _ in range(300):
        site.ledger.enter()
        site.ledger.depart()
        site.run(notifier, 1)
        site.ledger.drop("encode", "too_old")
    assert count(manager.heard(), "WATCHDOG=1") == 20


def test_a_loop_that_is_late_each_time_silences_it_and_one_late_turn_does_not(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager)
    notifier.ready()
    site.run(notifier, 1)
    manager.heard()
    for _ in range(10):
        site.now_s += 5
        site.run(notifier, 1)
    assert count(manager.heard(), "WATCHDOG=1") == 0
    site.run(notifier, 1)
    assert count(manager.heard(), "WATCHDOG=1") == 1


def test_a_gpu_that_does_not_answer_silences_it(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager)
    notifier.ready()
    site.run(notifier, 60)
    assert count(manager.heard(), "WATCHDOG=1") == 4
    site.illness = "an illegal address was met"
    site.run(notifier, 60)
    heard = manager.heard()
    assert count(heard, "WATCHDOG=1") <= 1  # within the ten seconds
    assert any("the GPU has not answered for" in message for message in heard)


def test_a_change_of_phase_waits_for_a_manager_that_is_away_and_the_order_stays(site: Site, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    away = Manager(address)
    notifier = site.notifier(away)
    away.close()
    Path(address).unlink()
    with capture_logs() as logs:
        notifier.ready()
        notifier.reloading()
        notifier.beat()
    assert [entry["event"] for entry in logs] == ["the service manager cannot be told"]
    back = Manager(address)
    notifier.beat()
    assert [message.split("=")[0] for message in back.heard()[:2]] == ["READY", "RELOADING"]
    back.close()


def test_a_sign_of_life_that_did_not_get_through_is_given_again(site: Site, manager: Manager) -> None:
    notifier = site.notifier(manager)
    notifier.ready()
    for _ in range(11):
        notifier.reloading()  # until the kernel takes no more
    notifier.beat()
    assert "WATCHDOG=1" not in manager.heard()
    site.now_s += 1
    site.run(notifier, 1)
    assert "WATCHDOG=1" in manager.heard()


def test_the_status_names_streams_that_are_away_but_not_all_of_a_hundred() -> None:
    states = {f"camera{number}": "reconnecting" for number in range(100)} | {"door": "running", "clip": "ended"}
    line = status_line(states, 24.96, "inference 97 % busy,\nits input full", [])
    assert line == (
        "1 of 102 streams up (camera0 reconnecting, camera1 reconnecting, camera2 reconnecting, 97 more), "
        "25.0 frames/s; inference 97 % busy, its input full"
    )


def test_nothing_happens_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        tasks = asyncio.all_tasks()
        async with service_manager(Site().watched(), LOG) as notifier:
            notifier.ready()
            notifier.reloading()
            notifier.stopping()
            assert asyncio.all_tasks() == tasks

    asyncio.run(main())


def test_a_whole_life_is_told_in_order(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address.replace("\0", "@"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        site = Site()
        async with service_manager(site.watched(), LOG) as notifier:
            await asyncio.sleep(0.02)
            notifier.ready()
            await asyncio.sleep(0.2)
            site.stop.set()
            await asyncio.sleep(0.02)
            assert notifier.phase == "stopping"
        heard = manager.heard()
        phases = [message.splitlines()[0] for message in heard if message.startswith(("EXTEND", "READY", "STOPPING"))]
        assert phases == ["EXTEND_TIMEOUT_USEC=30000000", "READY=1", "STOPPING=1"]
        assert 2 <= count(heard, "WATCHDOG=1") <= 4

    asyncio.run(main())


def test_an_ill_gpu_leaves_the_watchdog_without_a_word_in_the_end(site: Site, manager: Manager) -> None:
    site.illness = "an illegal address was met"
    settings = NotifySettings(address=manager.address, watchdog_s=0.04)

    async def main() -> None:
        async with service_manager(site.watched(), LOG, settings):
            await asyncio.sleep(0.1)

    with patch("vrseg.telemetry.liveness.DEVICE_SILENT_S", 0.03):
        asyncio.run(main())
    assert count(manager.heard(), "WATCHDOG=1") <= 2


def test_the_manager_is_told_that_it_ends_also_when_it_fails(manager: Manager) -> None:
    async def main() -> None:
        settings = NotifySettings(address=manager.address)
        with pytest.raises(ValueError, match="of the daemon"):
            async with service_manager(Site().watched(), LOG, settings):
                raise ValueError("of the daemon")
        assert manager.heard()[-1].startswith("STOPPING=1")

    asyncio.run(main())


def test_the_manager_is_told_that_it_ends_also_when_the_health_cannot_be_asked(site: Site, manager: Manager) -> None:
    async def fails() -> str:
        raise MemoryError("for the health")

    async def main() -> None:
        settings = NotifySettings(address=manager.address)
        with pytest.raises(MemoryError, match="for the health"):
            async with service_manager(replace(site.watched(), ill=fails), LOG, settings):
                await asyncio.sleep(0.05)
        assert manager.heard()[-1].startswith("STOPPING=1")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": ""}, None),
        ({"NOTIFY_SOCKET": "/run/systemd/notify"}, NotifySettings(address="/run/systemd/notify")),
        ({"NOTIFY_SOCKET": "@sd"}, NotifySettings(address="\0sd")),
        ({"NOTIFY_SOCKET": "@sd", "WATCHDOG_USEC": "30000000"}, NotifySettings(address="\0sd", watchdog_s=30)),
        ({"NOTIFY_SOCKET": "@sd", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, NotifySettings(address="\0sd")),
    ],
)
def test_the_environment_says_where_and_how_often(environment: dict[str, str], expected: NotifySettings | None) -> None:
    assert notify_settings(environment) == expected


@pytest.mark.parametrize(
    "environment",
    [
        {"NOTIFY_SOCKET": "vsock:2:9"},
        {"NOTIFY_SOCKET": "@"},
        {"NOTIFY_SOCKET": "@sd", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "@sd", "WATCHDOG_USEC": "0"},
    ],
)
def test_an_environment_that_no_manager_makes_is_refused_in_one_line(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        notify_settings(environment)
    assert len(str(refused.value).splitlines()) == 1
    assert list(environment)[-1] in str(refused.value)
