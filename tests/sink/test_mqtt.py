from __future__ import annotations

import asyncio
import json
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest
import structlog
from plugins.broker import Broker, Listener, wait_for
from structlog.testing import capture_logs

from vrseg.sink.discovery import Subject, discovery
from vrseg.sink.mqtt import Mqtt, read_broker
from vrseg.sink.outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASE = "site/door"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    from vrseg.backoff import Backoff

    monkeypatch.setattr("vrseg.sink.mqtt.PATIENCE", Backoff(initial_s=0.05, max_s=0.2))
    monkeypatch.setattr("vrseg.sink.mqtt.GRACE_S", 1.0)


@contextmanager
def outlet_to(
    uri: str,
    *,
    spool: Path | None = None,
    content: Literal["frames", "events"] = "events",
    announce: bool = False,
    zones: tuple[str, ...] = ("hall",),
    forget: bool = False,
) -> Iterator[Outlet]:
    broker = read_broker(uri)
    mqtt = Mqtt(
        broker,
        Subject(stream="door", base=broker.topic, zones=zones, lines=("gate",)),
        content=content,
        announce=announce,
        spool=spool,
        spool_bytes=1_000_000,
        log=structlog.stdlib.get_logger(),
    )
    outlet = Outlet(mqtt, structlog.stdlib.get_logger(), name="mqtt", kind="mqtt")
    outlet.start()
    try:
        yield outlet
    finally:
        outlet.close(forget=forget)
        assert outlet.join(5.0)


def uri_of(broker: Broker) -> str:
    return f"mqtt://127.0.0.1:{broker.port}/{BASE}"


def state(value: str) -> dict[str, Any]:
    return {"event_id": value, "kind": "stream", "state": value, "time": "t"}


def entered(number: int) -> dict[str, Any]:
    return {"event_id": f"e{number}", "kind": "enter", "zone": "hall", "count": number, "time": "t"}


def test_what_is_true_now_is_retained_and_events_are_told(broker: Broker, listener: Listener) -> None:
    with outlet_to(uri_of(broker)) as outlet:
        first = [f"{BASE}/line/gate", f"{BASE}/state", f"{BASE}/zone/hall"]
        wait_for(lambda: all(map(listener.retained, first)))  # in any order to a listener that has only just subscribed
        assert listener.retained(f"{BASE}/state") == "offline"
        assert listener.retained(f"{BASE}/zone/hall") == {"occupied": False, "count": 0}
        assert listener.retained(f"{BASE}/line/gate") == {"in": 0, "out": 0}
        outlet.put(state("up"))
        outlet.put(entered(2))
        outlet.put({"event_id": "c", "kind": "cross", "line": "gate", "in": 1, "out": 3, "time": "t"})
        wait_for(lambda: outlet.delivered == 3)
        wait_for(lambda: listener.retained(f"{BASE}/line/gate") == {"in": 1, "out": 3, "time": "t"})
        wait_for(lambda: len(listener.payloads(f"{BASE}/event")) == 3)
        late = Listener(broker.port)
        wait_for(lambda: len(late.heard) == 3)
        late.close()
    assert {topic: json.loads(value) if value[:1] == b"{" else value for topic, value, _ in late.heard} == {
        f"{BASE}/state": b"online",
        f"{BASE}/zone/hall": {"occupied": True, "count": 2, "time": "t"},
        f"{BASE}/line/gate": {"in": 1, "out": 3, "time": "t"},
    }
    assert [event["event_id"] for event in listener.payloads(f"{BASE}/event")] == ["up", "e2", "c"]
    wait_for(lambda: listener.retained(f"{BASE}/state") == "offline")  # who leaves says so


def test_what_an_event_tells_of_is_true_before_it_is_told() -> None:
    said: list[str] = []

    class Client:
        async def publish(self, topic: str, payload: bytes | str, *, qos: int, retain: bool = False) -> None:
            assert (qos, retain) == (1, not topic.endswith("/event"))
            said.append(f"{topic.removeprefix(BASE)} {json.loads(payload)['count']}")
            if len(said) == 2:
                mqtt._sort([entered(2)])  # while the broker is still asked to take the first

    async def main() -> None:
        mqtt._letters.open()
        mqtt._sort([entered(1)])
        await mqtt._publish_letters(cast("Any", Client()))
        mqtt._letters.close()

    subject = Subject(stream="door", base=BASE, zones=("hall",))
    broker, log = read_broker(f"mqtt://127.0.0.1/{BASE}"), structlog.stdlib.get_logger()
    mqtt = Mqtt(broker, subject, content="events", announce=False, spool=None, spool_bytes=10_000, log=log)
    asyncio.run(main())
    assert said == ["/zone/hall 1", "/event 1", "/zone/hall 2", "/event 2"]
    assert (mqtt.counts, mqtt.waiting) == ({"delivered": 2}, 0)


def test_the_broker_says_so_when_the_process_dies(broker: Broker, listener: Listener) -> None:
    code = f"""
import time, structlog
from vrseg.sink.discovery import Subject
from vrseg.sink.mqtt import Mqtt, read_broker
from vrseg.sink.outlet import Outlet
mqtt = Mqtt(read_broker({uri_of(broker)!r}), Subject(stream="door", base={BASE!r}), content="events", announce=False,
            spool=None, spool_bytes=1000, log=structlog.stdlib.get_logger())
outlet = Outlet(mqtt, structlog.stdlib.get_logger(), name="mqtt", kind="mqtt")
outlet.start()
outlet.put({{"kind": "stream", "state": "up", "time": "t"}})
time.sleep(60)
"""
    import sys

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: listener.retained(f"{BASE}/state") == "online")
        process.kill()
        wait_for(lambda: listener.retained(f"{BASE}/state") == "offline")


def test_a_broker_that_is_killed_and_back_gets_all_events_in_order_and_what_is_true_now(
    broker: Broker, tmp_path: Path
) -> None:
    with capture_logs() as logs, outlet_to(uri_of(broker), spool=tmp_path / "spool.sqlite") as outlet:
        outlet.put(state("up"))
        outlet.put(entered(1))
        wait_for(lambda: outlet.delivered == 2)
        broker.kill()
        slowest_s = 0.0
        for number in range(2, 202):
            started_s = time.perf_counter()
            outlet.put(entered(number))
            slowest_s = max(slowest_s, time.perf_counter() - started_s)
        wait_for(lambda: outlet.waiting == 200)
        assert slowest_s < 0.2, "nobody waits for a broker"
        broker.start()
        again = Listener(broker.port)
        wait_for(lambda: outlet.waiting == 0)
        wait_for(lambda: again.retained(f"{BASE}/zone/hall") == {"occupied": True, "count": 201, "time": "t"})
        wait_for(lambda: again.retained(f"{BASE}/state") == "online")
        again.close()
    assert outlet.delivered == 202
    assert outlet.dropped == {}
    assert [entry["event"] for entry in logs if entry["event"].startswith("broker")] == [
        "broker found",
        "broker lost",
        "broker found",
    ]


def test_events_outlast_the_process_when_the_broker_is_down(broker: Broker, tmp_path: Path) -> None:
    broker.kill()
    spool = tmp_path / "spool.sqlite"
    with outlet_to(uri_of(broker), spool=spool) as outlet:
        for number in range(1, 31):
            outlet.put(entered(number))
        wait_for(lambda: outlet.waiting == 30)
    broker.start()
    listener = Listener(broker.port)
    with outlet_to(uri_of(broker), spool=spool) as outlet:
        outlet.put(entered(31))
        wait_for(lambda: len(listener.payloads(f"{BASE}/event")) == 31)
    listener.close()
    assert [event["count"] for event in listener.payloads(f"{BASE}/event")] == list(range(1, 32))


def test_frames_are_of_the_moment_and_do_not_wait(broker: Broker, listener: Listener) -> None:
    with outlet_to(uri_of(broker), content="frames") as outlet:
        wait_for(lambda: listener.retained(f"{BASE}/state"))
        wait_for(lambda: _put_and_see(outlet, listener))
        broker.kill()
        before = outlet.dropped.get("broker_away", 0)
        wait_for(lambda: _put_and_lose(outlet, before))
        assert outlet.waiting == 0
    assert listener.retained(f"{BASE}/frame")["stream"] == "door"
    assert listener.payloads(f"{BASE}/zone/hall") == [], "zones belong to events"


def _put_and_see(outlet: Outlet, listener: Listener) -> bool:
    outlet.put({"stream": "door", "frame": 1, "boxes": []})
    return bool(listener.payloads(f"{BASE}/frame"))


def _put_and_lose(outlet: Outlet, before: int) -> bool:
    outlet.put({"stream": "door", "frame": 1, "boxes": []})
    return outlet.dropped.get("broker_away", 0) > before


def test_home_assistant_is_told_of_zones_and_lines_and_that_they_are_gone(
    broker: Broker, listener: Listener, tmp_path: Path
) -> None:
    spool = tmp_path / "spool.sqlite"
    with outlet_to(uri_of(broker), spool=spool, announce=True, zones=("hall", "desk")):
        wait_for(lambda: listener.retained("homeassistant/sensor/site_door/zone_desk_count/config"))
        config = listener.retained("homeassistant/binary_sensor/site_door/zone_desk/config")
    assert config["state_topic"] == f"{BASE}/zone/desk"
    assert config["availability_topic"] == f"{BASE}/state"
    assert config["device_class"] == "occupancy"
    assert config["device"] | {"sw_version": ""} == {
        "identifiers": ["site_door"],
        "name": "door",
        "manufacturer": "vrseg",
        "sw_version": "",
    }
    with outlet_to(uri_of(broker), spool=spool, announce=True, zones=("hall",), forget=True):
        wait_for(lambda: listener.retained("homeassistant/binary_sensor/site_door/zone_desk/config") == "")
        wait_for(lambda: listener.retained(f"{BASE}/zone/desk") == "")
        assert listener.retained("homeassistant/binary_sensor/site_door/zone_hall/config")["name"] == "hall"
    wait_for(lambda: listener.retained("homeassistant/sensor/site_door/line_gate_in/config") == "")
    late = Listener(broker.port)
    time.sleep(0.2)
    late.close()
    assert late.heard == [], "a stream that is gone for good leaves nothing behind"


def test_what_home_assistant_is_told_is_complete() -> None:
    subject = Subject(stream="door", base=BASE, zones=("hall",), lines=("gate",))
    configs = {topic: json.loads(text) for topic, text in discovery(subject).items()}
    assert len({config["unique_id"] for config in configs.values()}) == len(configs) == 5
    assert configs["homeassistant/sensor/site_door/line_gate_in/config"]["value_template"] == "{{ value_json['in'] }}"
    masks = discovery(Subject(stream="door", base=BASE, zones=("hall",), boxes=False))
    assert set(masks) == {
        "homeassistant/binary_sensor/site_door/state/config",
        "homeassistant/binary_sensor/site_door/zone_hall/config",
    }


def test_a_broker_that_wants_a_password_gets_it_and_no_log_does(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "vrseg", "p@ss/w0rd"], check=True)
    passwords.chmod(0o644)
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}", "user root")
    broker.start()
    try:
        listener = Listener(broker.port, username="vrseg", password="p@ss/w0rd")
        with capture_logs() as logs:
            with outlet_to(f"mqtt://vrseg:wr0ng@127.0.0.1:{broker.port}/{BASE}") as outlet:
                wait_for(lambda: logs)
                outlet.put(entered(1))
            with outlet_to(f"mqtt://vrseg:p%40ss%2Fw0rd@127.0.0.1:{broker.port}/{BASE}"):
                wait_for(lambda: listener.retained(f"{BASE}/state") == "offline")
        listener.close()
    finally:
        broker.kill()
    assert [entry["event"] for entry in logs] == ["broker lost", "broker found"]
    assert "w0rd" not in str(logs)
    assert "wr0ng" not in str(logs)


# paho leaves the socket of a failed handshake to Python's collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out"]
    subprocess.run([*command, str(certificate), *subject], check=True, capture_output=True)
    broker = Broker(tmp_path, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}", "user root")
    broker.start()
    uri = f"mqtts://localhost:{broker.port}/{BASE}"
    try:
        with capture_logs() as logs, outlet_to(uri):
            wait_for(lambda: logs)
        assert logs[0]["event"] == "broker lost"
        assert "certificate verify failed" in logs[0]["detail"]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with capture_logs() as logs, outlet_to(uri):
            wait_for(lambda: logs)
        assert logs[0]["event"] == "broker found"
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("uri", "port", "topic"),
    [
        ("mqtt://broker", 1883, ""),
        ("mqtts://broker/", 8883, ""),
        ("mqtt://u:p@broker:1234/a/b/", 1234, "a/b"),
        ("mqtt://[::1]/a%20b", 1883, "a b"),
    ],
)
def test_addresses_of_brokers_are_read(uri: str, port: int, topic: str) -> None:
    found = read_broker(uri)
    assert (found.port, found.topic) == (port, topic)
    assert "p@" not in repr(found)


@pytest.mark.parametrize("uri", ["mqtt://", "mqtt://broker/a/%23", "mqtt://broker/+/b", "mqtt://broker:99999/a"])
def test_what_is_no_address_of_a_broker_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_broker(uri)
