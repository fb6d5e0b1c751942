"""What happened: objects in zones and at lines, and what became of a stream. As data, and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["enter", "leave", "cross", "occupied", "free", "stream"]
LeaveReason: TypeAlias = Literal["gone", "source_lost", "ended"]
LinkState: TypeAlias = Literal["up", "lost", "reconnecting", "paused", "ended", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When something happened, on all clocks that there are."""

    wall_s: float
    """Unix time at which the frame was decoded; of what has no frame, at which it was noticed."""
    time_s: float | None = None
    """Presentation time of the frame."""
    pts: int | None = None
    """The same in the units of its source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. What a kind does not have is None."""

    kind: Kind
    """`enter`, `leave`: a box and a zone. `cross`: a box and a line. `occupied`, `free`: masks and a zone. `stream`:
    the stream itself."""
    moment: Moment
    zone: str | None = None
    line: str | None = None
    class_name: str | None = None
    track_id: int | None = None
    score: float | None = None
    """0 to 1: of the box when it was last seen."""
    count: int | None = None
    """Objects now in the zone."""
    share: float | None = None
    """0 to 1: of the zone, which the mask covers."""
    direction: Literal["in", "out"] | None = None
    total_in: int | None = None
    total_out: int | None = None
    """Crossings of the line up to now, this one among them."""
    state: LinkState | None = None
    """Of the stream."""
    detail: str = ""
    """Why the stream is in this state."""
    reason: LeaveReason | None = None
    """Why an object left, or a zone is free, without being seen to: `gone` from sight, or the whole video is."""


_NAMES = {
    "zone": "zone",
    "line": "line",
    "class_name": "class",
    "track_id": "id",
    "score": "score",
    "count": "count",
    "share": "share",
    "direction": "direction",
    "total_in": "in",
    "total_out": "out",
    "state": "state",
    "reason": "reason",
}


def as_json(event: Event, stream: str, event_id: str) -> dict[str, Any]:
    """Describe an event as an object for JSON. What it does not have is left out."""
    said: dict[str, Any] = {
        "event_id": event_id,
        "stream": stream,
        "kind": event.kind,
        "time": datetime.fromtimestamp(event.moment.wall_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
    }
    if event.moment.pts is not None and event.moment.time_s is not None:
        said |= {"pts": event.moment.pts, "time_s": round(event.moment.time_s, 6)}
    for name, shown in _NAMES.items():
        if (value := getattr(event, name)) is not None:
            said[shown] = round(value, 4) if isinstance(value, float) else value
    return said | ({"detail": event.detail} if event.detail else {})
