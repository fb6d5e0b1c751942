"""Events of a running daemon, at a real broker, a real receiver and a file."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from plugins.broker import Listener, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.broker import Broker
    from plugins.daemon import Daemon, StartDaemon

pytestmark = pytest.mark.alone

EVERYWHERE = {"points": [[0, 0], [1, 0], [1, 1], [0, 1]], "debounce": "200ms", "cover": 0.005}


def config_of(broker: Broker, folder: Path, **changes: Any) -> dict[str, Any]:
    stream = {
        "source": {"uri": "synthetic:320x180@10?seed=7&figures=4", "loop": False},
        "model": "person",
        "zones": {"room": EVERYWHERE},
        "results": [
            {"uri": f"mqtt://127.0.0.1:{broker.port}/site/hall"},
            {"uri": str(folder / "events.jsonl"), "content": "events"},
            {"uri": str(folder / "frames.jsonl")},
        ],
    }
    return {"models": {"person": {"path": "demo"}}, "streams": {"hall": stream | changes}}


def events_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def dropped(daemon: Daemon) -> float:
    return sum(value for _, value in daemon.samples().get("vrseg_results_dropped_total", []))


def test_a_zone_becomes_occupied_and_free_again_when_the_daemon_ends(
    broker: Broker, listener: Listener, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    state = {"STATE_DIRECTORY": str(tmp_path / "state")}
    daemon = start_daemon(config_of(broker, tmp_path), environment=state)
    wait_for(lambda: (listener.retained("site/hall/zone/room") or {}).get("occupied"), 20.0)
    assert listener.retained("site/hall/state") == "online"
    assert listener.retained("homeassistant/binary_sensor/site_hall/zone_room/config")["name"] == "room"
    samples = daemon.samples()
    assert {labels["kind"] for labels, _ in samples["vrseg_results_delivered_total"]} == {"mqtt", "file"}
    assert daemon.stop() == 0
    wait_for(lambda: listener.retained("site/hall/state") == "offline")
    assert listener.retained("site/hall/zone/room")["occupied"] is False
    told = events_in(tmp_path / "events.jsonl")
    assert [event.get("state", event["kind"]) for event in told] == ["up", "occupied", "free", "ended"]
    assert told[2]["reason"] == "ended"
    assert [event["event_id"] for event in listener.payloads("site/hall/event")] == [one["event_id"] for one in told]
    assert len(events_in(tmp_path / "frames.jsonl")) >= 3


def test_what_happens_while_the_broker_is_down_is_told_even_after_the_daemon_was_killed(
    broker: Broker, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    state = {"STATE_DIRECTORY": str(tmp_path / "state")}
    broker.kill()
    config = config_of(broker, tmp_path)
    daemon = start_daemon(config, environment=state)
    daemon.wait_for(lambda: len(events_in(tmp_path / "events.jsonl")) == 2, 20.0, "events without a broker")
    waiting = dict.fromkeys(["hall"], 2.0)
    daemon.wait_for(
        lambda: {one["stream"]: value for one, value in daemon.samples()["vrseg_results_waiting"] if value} == waiting,
        5.0,
        "events wait",
    )
    delivered = daemon.delivered("hall")
    daemon.wait_for(lambda: daemon.delivered("hall") > delivered + 5, 5.0, "frames go on")
    assert dropped(daemon) == 0
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    broker.start()
    listener = Listener(broker.port)
    start_daemon(config, environment=state)
    wait_for(lambda: len(listener.payloads("site/hall/event")) >= 4, 20.0)
    listener.close()
    wait_for(lambda: len(events_in(tmp_path / "events.jsonl")) >= 4)
    told = [event["event_id"] for event in events_in(tmp_path / "events.jsonl")]
    heard = [event["event_id"] for event in listener.payloads("site/hall/event")]
    assert heard[:4] == told[:4], "in order, and nothing is missing"


def test_an_address_that_nobody_answers_at_makes_no_stream_wait(
    broker: Broker, start_daemon: StartDaemon, tmp_path: Path, free_port: int
) -> None:
    results = [{"uri": f"http://127.0.0.1:{free_port}/hook", "secret": "s3cret", "content": "frames"}]
    config = config_of(broker, tmp_path, results=results)
    daemon = start_daemon(config, environment={"STATE_DIRECTORY": str(tmp_path / "state")})
    daemon.wait_for(lambda: daemon.delivered("hall") >= 20, 20.0, "frames go on")
    daemon.wait_for(
        lambda: any(value >= 10 for _, value in daemon.samples()["vrseg_results_waiting"]), 5.0, "frames wait"
    )
    assert daemon.stop() == 0
    assert "s3cret" not in daemon.log.read_text()
