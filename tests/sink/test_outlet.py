from __future__ import annotations

import asyncio
import errno
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from plugins.broker import wait_for
from structlog.testing import capture_logs

from vrseg.backoff import Backoff
from vrseg.errors import ConfigError, ExhaustedError
from vrseg.sink.event_file import EventFile
from vrseg.sink.mqtt import check_installed
from vrseg.sink.outlet import Mailbox, Outlet

if TYPE_CHECKING:
    from pathlib import Path


def numbered(number: int) -> dict[str, Any]:
    return {"kind": "enter", "number": number}


@given(st.lists(st.one_of(st.none(), st.integers(1, 6)), max_size=20), st.integers(1, 5))
def test_a_mailbox_keeps_the_newest_in_order_and_counts_the_others(actions: list[int | None], capacity: int) -> None:
    """None takes what is there, a number puts so many."""

    async def play() -> None:
        mailbox = Mailbox(capacity)
        put = taken = 0
        expected: list[int] = []
        for action in actions:
            if action is None:
                if expected:
                    got = [record["number"] for record in await mailbox.take()]
                    assert got == expected
                    taken += len(got)
                    expected = []
            else:
                for _ in range(action):
                    mailbox.put(numbered(put))
                    expected = [*expected, put][-capacity:]
                    put += 1
            assert put == taken + len(expected) + mailbox.dropped
        mailbox.close()
        assert [record["number"] for record in await mailbox.take()] == expected
        assert await mailbox.take() == []

    asyncio.run(play())


def test_what_another_thread_puts_wakes_the_one_who_waits() -> None:
    async def play() -> list[dict[str, Any]]:
        mailbox = Mailbox()
        threading.Timer(0.05, mailbox.put, [numbered(1)]).start()
        async with asyncio.timeout(5):
            return await mailbox.take()

    assert asyncio.run(play()) == [numbered(1)]


def test_who_stops_waiting_leaves_what_has_come_meanwhile() -> None:
    async def play() -> list[dict[str, Any]]:
        mailbox = Mailbox()
        waiting = asyncio.create_task(mailbox.take())
        await asyncio.sleep(0)
        mailbox.put(numbered(1))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(5):
            return await mailbox.take()

    assert asyncio.run(play()) == [numbered(1)]


class Fragile:
    """A delivery that breaks as often as it is told to, each time after it was given something."""

    def __init__(self, breaks: int) -> None:
        self.counts: Counter[str] = Counter()
        self.waiting = 0
        self.got: list[int] = []
        self.runs = 0
        self._breaks = breaks
        self._event = asyncio.Event()

    async def run(self, mailbox: Mailbox) -> None:
        self.runs += 1
        self._event.set()
        await self._event.wait()  # it lives on one loop
        while records := await mailbox.take():
            self.got += [record["number"] for record in records]
            if self.runs <= self._breaks:
                raise RuntimeError("broken")
            self.counts["delivered"] += len(records)

    def forget(self) -> None:
        pass


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrseg.sink.outlet.PATIENCE", Backoff(initial_s=0.05, max_s=0.1))


@pytest.mark.usefixtures("_impatient")
def test_a_delivery_that_breaks_is_told_and_begins_again() -> None:
    delivery = Fragile(breaks=2)
    with capture_logs() as logs:
        outlet = Outlet(delivery, structlog.stdlib.get_logger(), name="hook", kind="webhook")
        outlet.start()
        for number in range(3):
            outlet.put(numbered(number))
            wait_for(lambda: number in delivery.got)  # noqa: B023 -- awaited within the round
        outlet.close()
        assert outlet.join(5.0)
    assert delivery.got == [0, 1, 2]
    assert outlet.delivered == 1
    assert [entry["event"] for entry in logs] == ["results are not delivered"] * 2


@pytest.mark.usefixtures("_impatient")
def test_where_no_loop_can_be_made_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    new_loop, failures = asyncio.events.new_event_loop, [OSError(errno.EMFILE, "Too many open files")]

    def make() -> asyncio.AbstractEventLoop:
        if failures:
            raise failures.pop()
        return new_loop()

    delivery = Fragile(breaks=0)
    monkeypatch.setattr("asyncio.events.new_event_loop", make)
    with capture_logs() as logs:
        outlet = Outlet(delivery, structlog.stdlib.get_logger(), name="hook", kind="webhook")
        outlet.start()
        outlet.put(numbered(0))
        wait_for(lambda: outlet.delivered)
        outlet.close()
        assert outlet.join(5.0)
    assert [entry["event"] for entry in logs] == ["results are not delivered"]


@pytest.mark.usefixtures("_impatient")
def test_a_delivery_that_is_broken_for_good_ends_when_nothing_more_comes() -> None:
    delivery = Fragile(breaks=1000)
    with capture_logs():
        outlet = Outlet(delivery, structlog.stdlib.get_logger(), name="hook", kind="webhook")
        outlet.start()
        outlet.put(numbered(0))
        wait_for(lambda: delivery.runs > 1)
        outlet.close()
        assert outlet.join(5.0)
    assert outlet.delivered == 0


def test_counts_can_be_read_while_new_reasons_come_up() -> None:
    delivery = Fragile(0)
    outlet = Outlet(delivery, structlog.stdlib.get_logger(), name="hook", kind="webhook")
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            for number in range(2000):
                delivery.counts[f"reason {number}"] += 1
            delivery.counts.clear()

    counting = threading.Thread(target=count)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    counting.start()
    try:
        deadline_s = time.monotonic() + 1.0
        while time.monotonic() < deadline_s:
            assert "delivered" not in outlet.dropped
    finally:
        done.set()
        counting.join()
        sys.setswitchinterval(interval_s)


def test_without_room_for_its_thread_an_outlet_asks_its_stream_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", no_room)
    outlet = Outlet(Fragile(0), structlog.stdlib.get_logger(), name="hook", kind="webhook")
    with pytest.raises(ExhaustedError, match="no room for the thread hook"):
        outlet.start()
    outlet.close()
    assert outlet.join(0)


def test_events_in_a_file_are_readable_at_once_and_outlast_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "events.jsonl"
    log = structlog.stdlib.get_logger()
    outlet = Outlet(EventFile("door", path, None, log), log, name="file", kind="file")
    outlet.start()
    outlet.put(numbered(0))
    wait_for(lambda: path.exists() and path.read_text() == '{"kind":"enter","number":0}\n')
    outlet.close()
    assert outlet.join(5.0)
    path.unlink()
    path.symlink_to("/dev/full")
    with capture_logs() as logs:
        outlet = Outlet(EventFile("door", path, None, log), log, name="file", kind="file")
        outlet.start()
        for number in range(3):
            outlet.put(numbered(number))
            wait_for(lambda: sum(outlet.dropped.values()) == number + 1)  # noqa: B023 -- awaited within the round
        path.unlink()
        outlet.put(numbered(3))
        wait_for(lambda: outlet.delivered == 1)
        outlet.close()
        assert outlet.join(5.0)
    assert outlet.dropped == {"disk": 3}
    assert [entry["event"] for entry in logs] == ["events dropped"]
    assert path.read_text() == '{"kind":"enter","number":3}\n'


def test_without_the_library_for_mqtt_there_is_one_line_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vrseg.sink.mqtt.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'vrseg\[mqtt\]'"):
        check_installed()
