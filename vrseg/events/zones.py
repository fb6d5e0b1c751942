"""Who is in a zone: objects by where they stand, masks by how much of the zone they cover. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from vrseg.events.event import Event, LeaveReason, Moment
from vrseg.events.geometry import Point, is_inside

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """An object with an identity, seen in a frame."""

    track_id: int
    class_id: int
    class_name: str
    score: float
    foot: Point
    """Where it stands; see `geometry`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneRule:
    """A zone of the configuration; see `config.schema.Zone`."""

    name: str
    corners: tuple[Point, ...]
    class_ids: frozenset[int] | None
    """Classes that count; None for all."""
    cover: float
    debounce_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Whether something counts as being in a zone."""

    inside: bool = False
    otherwise_since_s: float | None = None
    """Since when it has been the other way round without a break, presentation time; None when it has not."""
    last: Sighting | None = None


_ABSENT = Presence()


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneState:
    """Who is in a zone, and who is about to be or not to be."""

    objects: Mapping[int, Presence] = field(default_factory=lambda: MappingProxyType({}))
    """By identity. Whom nothing is to be known of is not there."""
    mask: Presence = Presence()
    class_name: str | None = None
    """Of the mask: the class that covered most of the zone when it became occupied."""

    @property
    def count(self) -> int:
        """Objects that count as being in the zone."""
        return sum(one.inside for one in self.objects.values())


def seen(
    rule: ZoneRule, state: ZoneState, sightings: Iterable[Sighting], held: Collection[int], moment: Moment, now_s: float
) -> tuple[ZoneState, list[Event]]:
    """Go on by one frame with boxes.

    Args:
        rule: the zone.
        state: what the frame before left.
        sightings: of this frame.
        held: identities that the tracker has not given up, also those that are not seen.
        moment: of the frame, for the events.
        now_s: presentation time of the frame.
    """
    objects = dict(state.objects)
    events: list[Event] = []

    def tell(one: Presence, reason: LeaveReason | None = None) -> None:
        count = sum(other.inside for other in objects.values())
        events.append(_moved(rule, one, count, moment, reason))

    for track_id in [one for one in objects if one not in held]:
        if (gone := objects.pop(track_id)).inside:
            tell(replace(gone, inside=False), "gone")
    for sighting in sightings:
        if rule.class_ids is not None and sighting.class_id not in rule.class_ids:
            continue
        before = objects.get(sighting.track_id, _ABSENT)
        inside = is_inside(sighting.foot, rule.corners)
        if before is _ABSENT and not inside:
            continue
        after = replace(debounced(before, inside, now_s, rule.debounce_s), last=sighting)
        if after.inside or after.otherwise_since_s is not None:
            objects[sighting.track_id] = after
        else:
            objects.pop(sighting.track_id, None)
        if after.inside != before.inside:
            tell(after)
    return replace(state, objects=MappingProxyType(objects)), events


def covered(
    rule: ZoneRule, state: ZoneState, share: float, class_name: str | None, moment: Moment, now_s: float
) -> tuple[ZoneState, list[Event]]:
    """Go on by one frame with a mask that covers `share` of the zone, mostly with the class that is named."""
    before = state.mask
    after = debounced(before, share >= rule.cover, now_s, rule.debounce_s)
    if after.inside == before.inside:
        return replace(state, mask=after), []
    named = class_name if after.inside else state.class_name
    event = Event(
        kind="occupied" if after.inside else "free", moment=moment, zone=rule.name, class_name=named, share=share
    )
    return replace(state, mask=after, class_name=named), [event]


def emptied(rule: ZoneRule, state: ZoneState, moment: Moment, reason: LeaveReason) -> tuple[ZoneState, list[Event]]:
    """Let everybody leave, for nobody sees the zone any more."""
    inside = [one for one in state.objects.values() if one.inside]
    events = [
        _moved(rule, replace(one, inside=False), len(inside) - number, moment, reason)
        for number, one in enumerate(inside, start=1)
    ]
    if state.mask.inside:
        events.append(
            Event(kind="free", moment=moment, zone=rule.name, class_name=state.class_name, share=0.0, reason=reason)
        )
    return ZoneState(), events


def debounced(before: Presence, inside: bool, now_s: float, debounce_s: float) -> Presence:
    """Believe what is seen once it has been so for long enough."""
    if inside == before.inside:
        return replace(before, otherwise_since_s=None)
    since_s = now_s if before.otherwise_since_s is None else before.otherwise_since_s
    if now_s - since_s >= debounce_s:
        return replace(before, inside=inside, otherwise_since_s=None)
    return replace(before, otherwise_since_s=since_s)


def _moved(rule: ZoneRule, one: Presence, count: int, moment: Moment, reason: LeaveReason | None) -> Event:
    assert one.last is not None  # noqa: S101 -- who is in a zone was seen there
    return Event(
        kind="enter" if one.inside else "leave",
        moment=moment,
        zone=rule.name,
        class_name=one.last.class_name,
        track_id=one.last.track_id,
        score=one.last.score,
        count=count,
        reason=reason,
    )
