"""What is left with an MQTT broker: topics of a stream, and what Home Assistant is told of them.

Home Assistant's side: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vrseg.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vrseg.sink.outlet import Record

PREFIX = "homeassistant"
ONLINE, OFFLINE = "online", "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What there is to tell of a stream."""

    stream: str
    base: str
    """Topic that all others are under, without a slash at its end."""
    zones: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    boxes: bool = True
    """True where zones count boxes, False where masks cover them."""

    @property
    def state_topic(self) -> str:
        """Retained: `online` while pictures come."""
        return f"{self.base}/state"


def first_values(subject: Subject) -> dict[str, str]:
    """Return the retained payloads, by topic, of a stream in which nothing has happened yet."""
    nobody: dict[str, Any] = {"occupied": False, **({"count": 0} if subject.boxes else {})}
    zones = {f"{subject.base}/zone/{name}": _text(nobody) for name in subject.zones}
    lines = {f"{subject.base}/line/{name}": _text({"in": 0, "out": 0}) for name in subject.lines}
    return zones | lines | {subject.state_topic: OFFLINE}


def changed_value(subject: Subject, event: Record) -> tuple[str, str] | None:
    """Return the retained topic that an event changes, and its new payload; None when it changes none."""
    kind = event["kind"]
    if kind in ("enter", "leave"):
        value = {"occupied": event["count"] > 0, "count": event["count"]}
        return f"{subject.base}/zone/{event['zone']}", _text(value | {"time": event["time"]})
    if kind in ("occupied", "free"):
        return f"{subject.base}/zone/{event['zone']}", _text({"occupied": kind == "occupied", "time": event["time"]})
    if kind == "cross":
        value = {"in": event["in"], "out": event["out"], "time": event["time"]}
        return f"{subject.base}/line/{event['line']}", _text(value)
    if kind == "stream":
        return subject.state_topic, ONLINE if event["state"] == "up" else OFFLINE
    return None


def discovery(subject: Subject) -> dict[str, str]:
    """Return what Home Assistant is told, by topic: sensors of zones and lines, all of one device."""
    device = {"identifiers": [_slug(subject.base)], "name": subject.stream, "manufacturer": "vrseg"}
    device["sw_version"] = __version__
    return {
        f"{PREFIX}/{component}/{_slug(subject.base)}/{key}/config": _text(
            {"unique_id": f"{_slug(subject.base)}_{key}", "device": device} | config
        )
        for component, key, config in _entities(subject)
    }


def _entities(subject: Subject) -> list[tuple[str, str, dict[str, Any]]]:
    """List component, key and configuration of each entity."""
    picture: dict[str, Any] = {
        "name": "Picture",
        "state_topic": subject.state_topic,
        "payload_on": ONLINE,
        "payload_off": OFFLINE,
        "device_class": "connectivity",
        "entity_category": "diagnostic",
    }
    entities: list[tuple[str, str, dict[str, Any]]] = [("binary_sensor", "state", picture)]
    available = {"availability_topic": subject.state_topic}  # `online` and `offline` are Home Assistant's own words
    for zone in subject.zones:
        about = {"state_topic": f"{subject.base}/zone/{zone}", **available}
        occupied = {"value_template": "{{ 'ON' if value_json.occupied else 'OFF' }}", "device_class": "occupancy"}
        entities.append(("binary_sensor", f"zone_{zone}", {"name": zone, **about, **occupied}))
        if subject.boxes:
            count = {"value_template": "{{ value_json.count }}", "state_class": "measurement"}
            entities.append(("sensor", f"zone_{zone}_count", {"name": f"{zone} count", **about, **count}))
    for line in subject.lines:
        about = {"state_topic": f"{subject.base}/line/{line}", **available, "state_class": "total_increasing"}
        for way in ("in", "out"):
            # Quoted, since `in` is a word of the template language.
            total = {"name": f"{line} {way}", "value_template": "{{ value_json['" + way + "'] }}"}
            entities.append(("sensor", f"line_{line}_{way}", {**total, **about}))
    return entities


def _slug(text: str) -> str:
    """Write a topic with the characters that Home Assistant allows in identities."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text)


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
