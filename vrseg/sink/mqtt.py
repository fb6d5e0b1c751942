"""Events and frames to an MQTT broker, with what is true now retained there."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter, deque
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from vrseg.backoff import wait_or_stop
from vrseg.errors import ConfigError
from vrseg.sink.discovery import OFFLINE, changed_value, discovery, first_values
from vrseg.sink.spooled import GRACE_S, PATIENCE, SpooledLetters

if TYPE_CHECKING:
    from pathlib import Path

    import aiomqtt
    import structlog

    from vrseg.sink.discovery import Subject
    from vrseg.sink.outlet import Mailbox

# aiomqtt warns of more calls that wait for their answers.
LETTERS_AT_ONCE = 10
# Frames are of the moment: a broker that is slower than the camera gets the newest ones.
FRAMES_WAITING = 30
CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 15
_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where a broker is, and who asks."""

    host: str
    port: int
    tls: bool
    topic: str
    """The address's path, which all topics are under; empty when there is none."""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The address, without a secret."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}/{self.topic}"


def read_broker(uri: str) -> Broker:
    """Read mqtt://user:password@host:port/topic.

    Raises:
        ValueError: no host, no such port, or a topic that cannot be published to.
    """
    parts = urlsplit(uri)
    topic = unquote(parts.path).strip("/")
    if not parts.hostname:
        raise ValueError("names no host")
    if set(topic) & set("+#\0"):
        raise ValueError("+ and # are for subscribers; leave them out of the topic")
    return Broker(
        host=parts.hostname,
        port=parts.port or _PORTS[parts.scheme],
        tls=parts.scheme == "mqtts",
        topic=topic,
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def check_installed() -> None:
    """Raise ConfigError where the MQTT library is missing."""
    if find_spec("aiomqtt") is None:
        raise ConfigError("results over MQTT need a package that is not installed: pip install 'vrseg[mqtt]'")


class Mqtt:
    """A `Delivery` under one topic, its base.

    `state` (retained): `online` while pictures come, else `offline`; the broker says so too when the connection breaks.
    `zone/<name>`, `line/<name>` (retained): what is true now. `event`: each event, QoS 1, in order, at least once; from
    the spool when the broker was away. `frame`: each frame, QoS 0, only while the broker keeps up.

    Args:
        broker: where to.
        subject: what there is to tell; its base is the topic.
        content: `events`, or `frames` in their place.
        announce: tell Home Assistant.
        spool: file for events that wait; None keeps them in memory.
        spool_bytes: how large it may grow.
        log: is told when the broker is lost and found.
    """

    def __init__(
        self,
        broker: Broker,
        subject: Subject,
        *,
        content: Literal["frames", "events"],
        announce: bool,
        spool: Path | None,
        spool_bytes: int,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._broker = broker
        self._subject = subject
        self._content = content
        self._log = log.bind(stream=subject.stream, broker=broker.shown)
        self._letters = SpooledLetters(subject.stream, spool, spool_bytes, self.counts, self._log)
        self._announced = discovery(subject) if announce else {}
        self._values = first_values(subject)
        self._changed: dict[str, None] = {}
        """Topics whose new values the broker does not have yet, in the order of their change."""
        self._frames: deque[bytes] = deque(maxlen=FRAMES_WAITING)
        self._connected = False
        self._forget = False

    @property
    def waiting(self) -> int:
        return len(self._letters)

    async def run(self, mailbox: Mailbox) -> None:
        self._letters.open()
        try:
            async with asyncio.TaskGroup() as group:  # should the one fail, so does the other
                connecting = group.create_task(self._stay_connected())
                while records := await mailbox.take():
                    self._sort(records)
                self._letters.end()
                await asyncio.wait([connecting], timeout=GRACE_S)
                connecting.cancel()
        finally:
            self._letters.close(forget=self._forget)

    def forget(self) -> None:
        self._forget = True

    def _sort(self, records: list[dict[str, Any]]) -> None:
        events = [record for record in records if "kind" in record]
        for event in events:
            if changed := changed_value(self._subject, event):
                topic, self._values[topic] = changed
                self._changed[topic] = None
        if self._content == "events":
            self._letters.add(events)
        else:
            self._queue_frames([record for record in records if "kind" not in record])
        self._letters.news.set()

    def _queue_frames(self, frames: list[dict[str, Any]]) -> None:
        if not self._connected:
            self.counts["broker_away"] += len(frames)
            return
        for frame in frames:
            if len(self._frames) == FRAMES_WAITING:
                self.counts["broker_slow"] += 1
            self._frames.append(json.dumps(frame, separators=(",", ":")).encode())

    async def _stay_connected(self) -> None:
        import aiomqtt  # noqa: PLC0415 -- an extra

        waits, lost = PATIENCE.delays_s(), False
        while not self._letters.closing.is_set():
            try:
                async with self._client(aiomqtt) as client:
                    self._log.info("broker found")
                    waits, lost = PATIENCE.delays_s(), False
                    await self._serve(client)
                    return
            except (aiomqtt.MqttError, OSError) as error:
                if not lost:
                    self._log.warning("broker lost", detail=str(error), next="events wait; it is tried again")
                lost = True
            finally:
                self._connected = False
            await wait_or_stop(self._letters.closing, next(waits))

    def _client(self, library: Any) -> aiomqtt.Client:
        client: aiomqtt.Client = library.Client(
            self._broker.host,
            self._broker.port,
            username=self._broker.user,
            password=self._broker.password,
            identifier=f"vrseg-{uuid4().hex[:16]}",
            will=library.Will(self._subject.state_topic, OFFLINE, qos=1, retain=True),
            timeout=CONNECT_TIMEOUT_S,
            keepalive=KEEPALIVE_S,
            tls_context=ssl.create_default_context() if self._broker.tls else None,
        )
        return client

    async def _serve(self, client: aiomqtt.Client) -> None:
        """Publish until nothing more will come; raises MqttError when the connection breaks."""
        listening = asyncio.create_task(_until_lost(client))
        publishing = asyncio.create_task(self._publish_all(client))
        try:
            await asyncio.wait([listening, publishing], return_when=asyncio.FIRST_COMPLETED)
            await (publishing if publishing.done() else listening)
        finally:
            for task in (listening, publishing):
                task.cancel()
            await asyncio.gather(listening, publishing, return_exceptions=True)

    async def _publish_all(self, client: aiomqtt.Client) -> None:
        await self._greet(client)
        self._connected = True
        self._letters.news.set()
        while True:
            await self._letters.news.wait()
            self._letters.news.clear()
            await self._publish_frames(client)
            await self._publish_changes(client)
            await self._publish_letters(client)
            if self._letters.closing.is_set():
                await self._take_leave(client)
                return

    async def _greet(self, client: aiomqtt.Client) -> None:
        """Tell what is true now, and take away what is not any more."""
        self._changed.clear()
        now = self._announced | (self._values if self._content == "events" else self._state_only())
        left = self._letters.topics
        self._letters.topics = left | frozenset(now)
        for topic in sorted(left - now.keys()):
            await client.publish(topic, b"", qos=1, retain=True)
        for topic, value in now.items():
            await client.publish(topic, value, qos=1, retain=True)
        self._letters.topics = frozenset(now)

    def _state_only(self) -> dict[str, str]:
        return {self._subject.state_topic: self._values[self._subject.state_topic]}

    async def _publish_frames(self, client: aiomqtt.Client) -> None:
        while self._frames:
            await client.publish(f"{self._subject.base}/frame", self._frames.popleft(), qos=0)
            self.counts["delivered"] += 1

    async def _publish_changes(self, client: aiomqtt.Client) -> None:
        while self._changed:
            topic = next(iter(self._changed))
            del self._changed[topic]  # a change while it is published makes it anew
            if self._content == "events" or topic == self._subject.state_topic:
                await client.publish(topic, self._values[topic], qos=1, retain=True)

    async def _publish_letters(self, client: aiomqtt.Client) -> None:
        while letters := self._letters.oldest(LETTERS_AT_ONCE):
            await self._publish_changes(client)  # who is told of an event finds it true
            # They are put on the wire in this order; what is gathered is the broker's word for each.
            topic = f"{self._subject.base}/event"
            await asyncio.gather(*(client.publish(topic, letter.body, qos=1) for letter in letters))
            self._letters.done(letters, "delivered")

    async def _take_leave(self, client: aiomqtt.Client) -> None:
        if not self._forget:
            await client.publish(self._subject.state_topic, OFFLINE, qos=1, retain=True)
            return
        for topic in sorted(self._letters.topics):
            await client.publish(topic, b"", qos=1, retain=True)
        self._letters.topics = frozenset()


async def _until_lost(client: aiomqtt.Client) -> None:
    """Nobody writes to us; but only who listens hears that the connection is gone."""
    async for _ in client.messages:
        pass
