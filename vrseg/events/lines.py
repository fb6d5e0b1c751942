"""Who crosses a line, and which way. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from vrseg.events.event import Event, Moment
from vrseg.events.geometry import Point, meets, side

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from vrseg.events.zones import Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRule:
    """A line of the configuration; see `config.schema.Line`."""

    name: str
    start: Point
    end: Point
    class_ids: frozenset[int] | None
    """Classes that count; None for all."""
    debounce_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Walker:
    """An object on its way."""

    last: Sighting
    foot: Point
    """Where it was last seen beside the line, not on it."""
    direction: Literal["in", "out"] | None = None
    """Which way it has crossed, if that does not count yet."""
    crossed_s: float = 0.0
    """Presentation time of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineState:
    """Who is on the way, and how many have crossed."""

    walkers: Mapping[int, Walker] = field(default_factory=lambda: MappingProxyType({}))
    """By identity."""
    total_in: int = 0
    total_out: int = 0


def walked(
    rule: LineRule, state: LineState, sightings: Iterable[Sighting], held: Collection[int], moment: Moment, now_s: float
) -> tuple[LineState, list[Event]]:
    """Go on by one frame; arguments as for `zones.seen`. Who is lost beyond the line is not back, and has crossed."""
    walkers = dict(state.walkers)
    for sighting in sightings:
        if rule.class_ids is None or sighting.class_id in rule.class_ids:
            walkers[sighting.track_id] = _step(rule, walkers.get(sighting.track_id), sighting, now_s)
    crossed: list[Walker] = []
    for track_id, one in list(walkers.items()):
        if one.direction is not None and (now_s - one.crossed_s >= rule.debounce_s or track_id not in held):
            crossed.append(one)
            walkers[track_id] = replace(one, direction=None)
        if track_id not in held:
            del walkers[track_id]
    return _counted(rule, replace(state, walkers=MappingProxyType(walkers)), crossed, moment)


def dispersed(rule: LineRule, state: LineState, moment: Moment) -> tuple[LineState, list[Event]]:
    """Count who is beyond the line, and forget everybody, for nobody sees the line any more. The totals stay."""
    crossed = [one for one in state.walkers.values() if one.direction is not None]
    return _counted(rule, replace(state, walkers=MappingProxyType({})), crossed, moment)


def _step(rule: LineRule, before: Walker | None, sighting: Sighting, now_s: float) -> Walker:
    now = side(sighting.foot, rule.start, rule.end)
    if before is None:
        return Walker(last=sighting, foot=sighting.foot)
    foot = before.foot if now == 0 else sighting.foot
    after = Walker(last=sighting, foot=foot, direction=before.direction, crossed_s=before.crossed_s)
    then = side(before.foot, rule.start, rule.end)
    if then * now >= 0 or not meets(rule.start, rule.end, before.foot, sighting.foot):
        return after
    if before.direction is not None:
        return replace(after, direction=None)  # back again
    return replace(after, direction="in" if now > 0 else "out", crossed_s=now_s)


def _counted(rule: LineRule, state: LineState, crossed: list[Walker], moment: Moment) -> tuple[LineState, list[Event]]:
    events = []
    for one in crossed:
        state = replace(
            state,
            total_in=state.total_in + (one.direction == "in"),
            total_out=state.total_out + (one.direction == "out"),
        )
        events.append(
            Event(
                kind="cross",
                moment=moment,
                line=rule.name,
                class_name=one.last.class_name,
                track_id=one.last.track_id,
                score=one.last.score,
                direction=one.direction,
                total_in=state.total_in,
                total_out=state.total_out,
            )
        )
    return state, events
