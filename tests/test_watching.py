from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from plugins.broker import wait_for

from vrseg.config.schema import Stream
from vrseg.errors import ConfigError, ExhaustedError
from vrseg.events.watch import WatchedResults
from vrseg.watching import Watches, WatchesCollector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plugins.broker import Broker, Listener

SQUARE = {"points": [[0, 0], [1, 0], [1, 1]]}
CONFIG = "homeassistant/binary_sensor/site_door/zone_{}/config"


@pytest.fixture
def watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watches]:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    watches = Watches(structlog.stdlib.get_logger(), tmp_path)
    yield watches
    watches.close()


def section(broker: Broker, *zones: str, **changes: Any) -> Stream:
    results = [{"uri": f"mqtt://127.0.0.1:{broker.port}/site/door"}]
    stream = {"source": {"uri": "x"}, "zones": dict.fromkeys(zones, SQUARE), "results": results}
    return Stream.model_validate(stream | changes)


def outlets() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.endswith(".outlet")]


def test_connections_outlast_the_lives_of_a_stream(watches: Watches, broker: Broker, listener: Listener) -> None:
    for _ in range(3):
        (sink,) = watches.results("door", section(broker, "hall"), None)
        assert isinstance(sink, WatchedResults)
        sink.open()
        sink.close()
    assert len(outlets()) == 1
    watches.stream_state("door", "running")
    wait_for(lambda: listener.retained("site/door/state") == "online")
    watches.stream_state("elsewhere", "running")


def test_a_zone_that_is_taken_out_of_the_file_is_taken_from_home_assistant(
    watches: Watches, broker: Broker, listener: Listener
) -> None:
    watches.results("door", section(broker, "hall", "desk"), None)
    wait_for(lambda: listener.retained(CONFIG.format("desk")))
    watches.results("door", section(broker, "hall"), None)
    wait_for(lambda: listener.retained(CONFIG.format("desk")) == "")
    wait_for(lambda: len(outlets()) == 1)
    assert listener.retained(CONFIG.format("hall"))["name"] == "hall"


def test_a_stream_that_is_removed_leaves_nothing_with_the_broker(
    watches: Watches, broker: Broker, listener: Listener
) -> None:
    watches.results("door", section(broker, "hall"), None)
    wait_for(lambda: listener.retained(CONFIG.format("hall")))
    watches.remove("door")
    watches.remove("door")
    wait_for(lambda: listener.retained(CONFIG.format("hall")) == "")
    wait_for(lambda: listener.retained("site/door/state") == "")
    wait_for(lambda: not outlets())


def test_a_stream_of_which_nothing_is_to_be_known_costs_no_thread(watches: Watches, broker: Broker) -> None:
    assert watches.results("door", section(broker, results=[]), None) == ()
    assert outlets() == []


def test_results_that_can_go_nowhere_are_a_mistake(watches: Watches, broker: Broker) -> None:
    with pytest.raises(ConfigError, match=r"results go to a \.jsonl file"):
        watches.results("door", section(broker, results=[{"uri": "a.csv"}]), None)


def test_receivers_that_differ_by_their_password_only_have_a_spool_each(
    watches: Watches, broker: Broker, free_port: int, tmp_path: Path
) -> None:
    results = [{"uri": f"http://{user}:geheim@127.0.0.1:{free_port}/hook"} for user in ("one", "two")]
    watches.results("door", section(broker, "hall", results=results), None)
    wait_for(lambda: len(list((tmp_path / "state").rglob("*.sqlite"))) == 2)


def test_outlets_that_began_before_there_was_no_room_for_another_end(
    watches: Watches, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"mqtt://127.0.0.1:{broker.port}/site/door"
    wanted = section(broker, "hall", results=[{"uri": uri}, {"uri": f"{uri}/2"}])
    start = threading.Thread.start
    with monkeypatch.context() as patch:

        def start_one_only(self: threading.Thread) -> None:
            if self.name.endswith(".outlet") and outlets():
                raise RuntimeError("can't start new thread")
            start(self)

        patch.setattr(threading.Thread, "start", start_one_only)
        with pytest.raises(ExhaustedError):
            watches.results("door", wanted, None)
        wait_for(lambda: not outlets())
    watches.results("door", wanted, None)
    assert len(outlets()) == 2


def test_a_stream_whose_change_failed_can_be_changed_back(watches: Watches, broker: Broker, listener: Listener) -> None:
    watches.results("door", section(broker, "hall"), None)
    with pytest.raises(ConfigError):
        watches.results("door", section(broker, results=[{"uri": "a.csv"}]), None)
    watches.results("door", section(broker, "hall"), None)
    watches.stream_state("door", "running")
    wait_for(lambda: listener.retained("site/door/state") == "online")


def test_a_scrape_may_come_while_streams_and_reasons_do(watches: Watches, tmp_path: Path) -> None:
    results = [{"uri": str(tmp_path / "a.jsonl")}]
    watches.results("door", Stream.model_validate({"source": {"uri": "x"}, "results": results}), None)
    door = watches.streams["door"]
    over = threading.Event()

    def come_and_go() -> None:
        number = 0
        while not over.is_set():
            number += 1
            door.lost[0][f"reason{number % 50}"] += 1
            watches.streams[f"guest{number % 50}"] = door
            if number % 50 == 0:
                door.lost[0].clear()
                watches.streams.clear()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        began_s = time.monotonic()
        while time.monotonic() - began_s < 1:
            list(WatchesCollector(watches).collect())
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(before)
