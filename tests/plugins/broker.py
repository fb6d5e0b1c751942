"""A real MQTT broker (Mosquitto), and one who listens to all that it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from plugins.media_servers import unused_port, wait_until_listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


class Broker:
    """A broker on a fixed port; what is retained does not outlive it, unless it is `stop`ped with persistence."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = unused_port()
        self._config = folder / f"mosquitto{self.port}.conf"
        lines = [f"listener {self.port} 127.0.0.1", "persistence false", "log_type error", *settings]
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert _PROGRAM is not None
        self._process = subprocess.Popen([_PROGRAM, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        wait_until_listening(self.port)

    def stop(self) -> None:
        """End it in order: with `persistence true`, it will know its sessions again."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            assert process.wait(5) == 0

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


class Listener:
    """Subscribes to everything, and notes what comes, in order.

    `session`: a name under which the broker keeps what comes while nobody listens.
    """

    def __init__(self, port: int, *, session: str = "", **credentials: str) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        """Topic, payload, and whether it was retained."""
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=session, clean_session=not session)
        if credentials:
            self._client.username_pw_set(**credentials)
        self._client.on_message = self._note
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe("#", qos=1)
        assert self._ready.wait(5), "no answer from the broker"

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def payloads(self, topic: str) -> list[Any]:
        """All that came under a topic: JSON, or text where it is none."""
        return [_read(payload) for heard, payload, _ in list(self.heard) if heard == topic]

    def retained(self, topic: str) -> Any:
        """The last that came under a topic; None when nothing did."""
        return (self.payloads(topic) or [None])[-1]

    def _note(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self.heard.append((message.topic, bytes(message.payload), message.retain))


def _read(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode()


def wait_for(claim: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline_s, "it did not come to be"
        time.sleep(0.01)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if _PROGRAM is None:
        pytest.skip("no mosquitto program")
    running = Broker(tmp_path, "allow_anonymous true")
    running.start()
    yield running
    running.kill()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    one = Listener(broker.port)
    yield one
    one.close()
