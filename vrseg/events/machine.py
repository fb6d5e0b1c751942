"""All zones and lines of one stream, frame by frame. Pure: state and result in, state and events out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from vrseg.events import lines, zones
from vrseg.events.geometry import area_of, feet
from vrseg.events.lines import LineRule, LineState
from vrseg.events.zones import Sighting, ZoneRule, ZoneState
from vrseg.frame import Detections, Segmentation
from vrseg.postprocess.class_map import class_map
from vrseg.track.tracker import Tracks, forget, track

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vrseg.config.schema_output import Line, Zone
    from vrseg.events.event import Event, LeaveReason, Moment
    from vrseg.frame import Frame, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is watched in one stream."""

    zones: tuple[ZoneRule, ...] = ()
    lines: tuple[LineRule, ...] = ()
    class_names: tuple[str, ...] = ()
    """In the order of class ids."""
    background_ids: frozenset[int] = frozenset()
    """Classes that are nothing."""

    def name_of(self, class_id: int) -> str:
        """Return what a class is called."""
        return self.class_names[class_id] if class_id < len(self.class_names) else f"class {class_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the next frame must know of all before it."""

    tracks: Tracks = field(default_factory=Tracks)
    zones: Mapping[str, ZoneState] = field(default_factory=lambda: MappingProxyType({}))
    lines: Mapping[str, LineState] = field(default_factory=lambda: MappingProxyType({}))
    """By name; those of which nothing is known are not there."""


def make_rules(
    zones: Mapping[str, Zone],
    lines: Mapping[str, Line],
    class_names: tuple[str, ...] = (),
    background_ids: frozenset[int] = frozenset(),
) -> Rules:
    """Resolve a stream's zones and lines for the classes of its model."""

    def ids_of(names: tuple[str, ...]) -> frozenset[int] | None:
        return frozenset(index for index, name in enumerate(class_names) if name in names) if names else None

    return Rules(
        zones=tuple(
            ZoneRule(
                name=name,
                corners=zone.points,
                class_ids=ids_of(zone.classes),
                cover=zone.cover,
                debounce_s=zone.debounce,
            )
            for name, zone in zones.items()
        ),
        lines=tuple(
            LineRule(
                name=name, start=line.start, end=line.end, class_ids=ids_of(line.classes), debounce_s=line.debounce
            )
            for name, line in lines.items()
        ),
        class_names=class_names,
        background_ids=background_ids,
    )


def watched(rules: Rules, state: State, frame: Frame, moment: Moment) -> tuple[State, Result | None, list[Event]]:
    """Go on by one frame. Returns its result too: boxes have identities now."""
    if isinstance(frame.result, Detections):
        return _boxes(rules, state, frame, frame.result, moment)
    if isinstance(frame.result, Segmentation) and rules.zones:
        return _masks(rules, state, frame, frame.result, moment)
    return state, frame.result, []


def blinded(rules: Rules, state: State, moment: Moment, reason: LeaveReason) -> tuple[State, list[Event]]:
    """Let everybody leave: there will be no frames for a while, or for ever. Identities and totals go on."""
    events: list[Event] = []
    zone_states, line_states = dict(state.zones), dict(state.lines)
    for line in rules.lines:
        line_states[line.name], told = lines.dispersed(line, state.lines.get(line.name, LineState()), moment)
        events += told
    for zone in rules.zones:
        zone_states[zone.name], told = zones.emptied(zone, state.zones.get(zone.name, ZoneState()), moment, reason)
        events += told
    return (
        State(tracks=forget(state.tracks), zones=MappingProxyType(zone_states), lines=MappingProxyType(line_states)),
        events,
    )


def _boxes(
    rules: Rules, state: State, frame: Frame, found: Detections, moment: Moment
) -> tuple[State, Detections, list[Event]]:
    now_s = frame.time_s
    events: list[Event] = []
    if now_s < state.tracks.time_s:  # a file begins again: nobody is where the clock says
        state, events = blinded(rules, state, moment, "ended")
    tracks, found = track(state.tracks, found, now_s)
    if not (rules.zones or rules.lines):
        return replace(state, tracks=tracks), found, events
    sightings = _sightings(rules, found, frame)
    zone_states, line_states = dict(state.zones), dict(state.lines)
    for line in rules.lines:
        before = state.lines.get(line.name, LineState())
        line_states[line.name], told = lines.walked(line, before, sightings, tracks.held, moment, now_s)
        events += told
    for zone in rules.zones:
        there = state.zones.get(zone.name, ZoneState())
        zone_states[zone.name], told = zones.seen(zone, there, sightings, tracks.held, moment, now_s)
        events += told
    after = State(tracks=tracks, zones=MappingProxyType(zone_states), lines=MappingProxyType(line_states))
    return after, found, events


def _sightings(rules: Rules, found: Detections, frame: Frame) -> list[Sighting]:
    assert found.track_ids is not None  # noqa: S101 -- the tracker sets them
    rows = zip(
        found.track_ids.tolist(),
        found.class_ids.tolist(),
        found.scores.tolist(),
        feet(found.boxes_xyxy, frame.width, frame.height, frame.rotation_deg),
        strict=True,
    )
    return [
        Sighting(track_id=track_id, class_id=class_id, class_name=rules.name_of(class_id), score=score, foot=foot)
        for track_id, class_id, score, foot in rows
        if track_id
    ]


def _masks(
    rules: Rules, state: State, frame: Frame, found: Segmentation, moment: Moment
) -> tuple[State, Segmentation, list[Event]]:
    # A share needs no pixel-exact edges: the model's own resolution is enough.
    height, width = found.scores.shape[1:]
    classes = class_map(found, width, height).reshape(-1)
    zone_states = dict(state.zones)
    events: list[Event] = []
    for zone in rules.zones:
        inside = classes[area_of(zone.corners, (height, width), frame.rotation_deg)]
        pixels = {
            one: int(np.count_nonzero(inside == one))
            for one in found.class_ids
            if _counts(zone, one, rules.background_ids)
        }
        share = sum(pixels.values()) / max(len(inside), 1)
        name = rules.name_of(max(pixels, key=pixels.__getitem__)) if share else None
        before = state.zones.get(zone.name, ZoneState())
        zone_states[zone.name], told = zones.covered(zone, before, share, name, moment, frame.time_s)
        events += told
    return replace(state, zones=MappingProxyType(zone_states)), found, events


def _counts(zone: ZoneRule, class_id: int, background_ids: frozenset[int]) -> bool:
    return class_id in zone.class_ids if zone.class_ids is not None else class_id not in background_ids
