from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.encoded import frames_at
from plugins.scores import in_16_bits

from vrseg.config.schema_output import Line, Zone
from vrseg.events.event import Event, Moment, as_json
from vrseg.events.geometry import area_of, feet, is_inside
from vrseg.events.lines import LineRule, LineState, dispersed, walked
from vrseg.events.machine import Rules, State, blinded, make_rules, watched
from vrseg.events.zones import Sighting, ZoneRule, ZoneState, covered, emptied, seen
from vrseg.frame import Detections, Segmentation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import Frame

MOMENT = Moment(wall_s=0.0, time_s=0.0, pts=0)
LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
IN, OUT = (0.25, 0.5), (0.75, 0.5)


def zone(**changes: Any) -> ZoneRule:
    return replace(ZoneRule(name="left", corners=LEFT_HALF, class_ids=None, cover=0.25, debounce_s=0.5), **changes)


def line(**changes: Any) -> LineRule:
    """From the top to the bottom, so that left of it is what is right in the picture."""
    rule = LineRule(name="middle", start=(0.5, 0.2), end=(0.5, 0.8), class_ids=None, debounce_s=0.5)
    return replace(rule, **changes)


def one(foot: tuple[float, float], track_id: int = 1, class_id: int = 0) -> Sighting:
    return Sighting(track_id=track_id, class_id=class_id, class_name="person", score=0.9, foot=foot)


def zone_story(rule: ZoneRule, story: Iterable[tuple[float, list[Sighting], set[int]]]) -> list[tuple[float, Event]]:
    state, told = ZoneState(), []
    for now_s, sightings, held in story:
        state, events = seen(rule, state, sightings, held, MOMENT, now_s)
        told += [(now_s, event) for event in events]
    return told


def line_story(rule: LineRule, story: Iterable[tuple[float, tuple[float, float] | None]]) -> list[tuple[float, str]]:
    """One object; None is when it has been given up."""
    state, told = LineState(), []
    for now_s, foot in story:
        sightings, held = ([one(foot)], {1}) if foot else ([], set[int]())
        state, events = walked(rule, state, sightings, held, MOMENT, now_s)
        told += [(now_s, str(event.direction)) for event in events]
    return told


def test_who_stands_in_a_zone_for_long_enough_is_in_it_and_then_out() -> None:
    times_s = [index / 10 for index in range(30)]
    told = zone_story(zone(), ((now_s, [one(IN if 1.0 <= now_s < 2.0 else OUT)], {1}) for now_s in times_s))
    assert [(now_s, event.kind, event.count) for now_s, event in told] == [(1.5, "enter", 1), (2.5, "leave", 0)]
    assert {event.reason for _, event in told} == {None}


def test_who_is_in_a_zone_for_a_moment_only_was_not_there() -> None:
    assert not zone_story(zone(), ((index / 10, [one(IN if index % 4 else OUT)], {1}) for index in range(50)))


def test_without_debounce_every_step_counts() -> None:
    told = zone_story(zone(debounce_s=0.0), ((index / 10, [one(IN if index % 2 else OUT)], {1}) for index in range(4)))
    assert [event.kind for _, event in told] == ["enter", "leave", "enter"]


def test_who_is_hidden_in_a_zone_stays_and_who_is_given_up_leaves() -> None:
    story = [(0.0, [one(IN)], {1}), (1.0, [one(IN)], {1}), (2.0, [], {1}), (3.0, [], set[int]())]
    told = zone_story(zone(), story)
    assert [(now_s, event.kind, event.reason) for now_s, event in told] == [
        (1.0, "enter", None),
        (3.0, "leave", "gone"),
    ]


def test_only_the_classes_of_a_zone_count_in_it() -> None:
    rule = zone(class_ids=frozenset({1}), debounce_s=0.0)
    told = zone_story(rule, [(0.0, [one(IN, 1, class_id=0), one(IN, 2, class_id=1)], {1, 2})])
    assert [(event.track_id, event.count) for _, event in told] == [(2, 1)]


def test_when_nobody_sees_the_zone_any_more_everybody_leaves_it() -> None:
    rule = zone(debounce_s=0.0)
    state, _ = seen(rule, ZoneState(), [one(IN, 1), one(IN, 2)], {1, 2}, MOMENT, 0.0)
    assert state.count == 2
    state, events = emptied(rule, state, MOMENT, "source_lost")
    assert state.count == 0
    assert [(event.kind, event.count, event.reason) for event in events] == [
        ("leave", 1, "source_lost"),
        ("leave", 0, "source_lost"),
    ]
    assert emptied(rule, state, MOMENT, "ended")[1] == []


steps = st.tuples(st.floats(0, 2), st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=4), st.booleans())


@given(st.lists(steps, max_size=30), st.sampled_from([0.0, 0.3, 1.0]))
def test_enter_and_leave_alternate_for_each_object_and_the_count_is_who_is_in(
    story: list[tuple[float, list[tuple[int, bool]], bool]], debounce_s: float
) -> None:
    rule, state, now_s = zone(debounce_s=debounce_s), ZoneState(), 0.0
    inside: set[int] = set()
    events: list[Event] = []
    for step_s, objects, loses in story:
        now_s += step_s
        there = dict(objects)
        held = set(there) if loses else {1, 2, 3, 4}
        sightings = [one(IN if is_in else OUT, number) for number, is_in in there.items()]
        state, told = seen(rule, state, sightings, held, MOMENT, now_s)
        events += told
        for event in told:
            assert event.track_id is not None
            assert (event.track_id in inside) == (event.kind == "leave")
            inside ^= {event.track_id}
            assert event.count == len(inside)
        assert state.count == len(inside)
    _, told = emptied(rule, state, MOMENT, "ended")
    assert {event.track_id for event in told} == inside


def test_who_crosses_from_left_to_right_goes_in_seen_from_start_to_end() -> None:
    # Looking down the picture, its right side is at the left hand.
    assert line_story(line(), [(0.0, OUT), (0.1, IN), (0.6, IN)]) == [(0.6, "in")]
    assert line_story(line(), [(0.0, IN), (0.1, OUT), (0.6, OUT)]) == [(0.6, "out")]
    upwards = line(start=(0.5, 0.8), end=(0.5, 0.2))
    assert line_story(upwards, [(0.0, IN), (0.1, OUT), (0.6, OUT)]) == [(0.6, "in")]


def test_who_is_back_soon_has_not_crossed_and_who_is_back_late_has_twice() -> None:
    assert line_story(line(), [(0.0, IN), (0.1, OUT), (0.4, IN), (2.0, IN)]) == []
    story = [(0.0, IN), (0.1, OUT), (0.7, OUT), (1.0, IN), (1.6, IN)]
    assert line_story(line(), story) == [(0.7, "out"), (1.6, "in")]


def test_who_passes_beside_the_ends_of_a_line_does_not_cross_it() -> None:
    assert line_story(line(debounce_s=0.0), [(0.0, (0.25, 0.9)), (0.1, (0.75, 0.9)), (1.0, (0.75, 0.1))]) == []


def test_who_stands_on_a_line_has_not_crossed_it_until_beyond() -> None:
    story = [(0.0, IN), (0.1, (0.5, 0.5)), (0.2, (0.5, 0.6)), (0.3, OUT)]
    assert line_story(line(debounce_s=0.0), story) == [(0.3, "out")]


def test_who_is_lost_beyond_a_line_is_not_back_and_has_crossed() -> None:
    assert line_story(line(), [(0.0, IN), (0.1, OUT), (0.2, None)]) == [(0.2, "out")]


def test_totals_of_a_line_outlast_those_who_crossed_it() -> None:
    rule = line(debounce_s=0.0)
    state, _ = walked(rule, LineState(), [one(IN)], {1}, MOMENT, 0.0)
    state, _ = walked(rule, state, [one(OUT)], {1}, MOMENT, 0.1)
    state, events = dispersed(rule, state, MOMENT)
    assert events == []
    state, _ = walked(rule, state, [one(OUT, 2)], {2}, MOMENT, 0.2)
    state, (event,) = walked(rule, state, [one(IN, 2)], {2}, MOMENT, 0.3)
    assert (event.total_in, event.total_out) == (1, 1)
    assert set(state.walkers) == {2}


def test_a_mask_occupies_a_zone_when_it_covers_enough_of_it_for_long_enough() -> None:
    state, told = ZoneState(), []
    for index, share in enumerate([0.1, 0.3, 0.2, 0.3, 0.4, 0.9, 0.2, 0.2, 0.2]):
        state, events = covered(zone(), state, share, "person", MOMENT, index / 4)
        told += [(index, event.kind, event.share) for event in events]
    assert told == [(5, "occupied", 0.9), (8, "free", 0.2)]


@pytest.mark.parametrize(
    ("rotation_deg", "foot"), [(0, (0.3, 0.5)), (90, (0.7, 0.4)), (180, (0.7, 0.9)), (270, (0.3, 0.8))]
)
def test_feet_are_at_the_lower_edge_of_the_picture_as_it_is_shown(rotation_deg: int, foot: tuple[float, float]) -> None:
    # x from 0.2 to 0.4 and y from 0.1 to 0.5 of the coded frame.
    box = np.array([[20, 20, 40, 100]], np.float32)
    (found,) = feet(box, 100, 200, rotation_deg)
    assert found == pytest.approx(foot, abs=1e-6)


@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_an_area_on_the_coded_frame_is_the_polygon_on_the_picture_that_is_shown(rotation_deg: int) -> None:
    corners = ((0.1, 0.2), (0.9, 0.1), (0.4, 0.8))
    area = np.zeros((60, 80), bool)
    area.reshape(-1)[area_of(corners, (60, 80), rotation_deg)] = True
    shown = np.rot90(area, -rotation_deg // 90)
    height, width = shown.shape
    for y in range(height):
        for x in range(width):
            assert shown[y, x] == is_inside(((x + 0.5) / width, (y + 0.5) / height), corners)


def frame(time_ms: int, result: Detections | Segmentation) -> Frame:
    (made,) = frames_at([time_ms * 15360 // 1000])
    return replace(made, result=result)


def boxes(*lefts: float) -> Detections:
    return Detections(
        boxes_xyxy=np.array([(left, 20, left + 20, 60) for left in lefts], np.float32).reshape(-1, 4),
        scores=np.full(len(lefts), 0.9, np.float32),
        class_ids=np.zeros(len(lefts), np.int64),
    )


def rules(**changes: Any) -> Rules:
    zones = {"left": Zone.model_validate({"points": LEFT_HALF, "debounce": "200ms", "cover": 0.25, **changes})}
    lines = {"middle": Line.model_validate({"start": [0.5, 0], "end": [0.5, 1], "debounce": 0})}
    return make_rules(zones, lines, ("person", "dog"))


def test_a_walk_through_the_picture_is_told_as_it_happens() -> None:
    state, told = State(), []
    for index in range(40):
        state, result, events = watched(rules(), state, frame(100 * index, boxes(130 - 3 * index + 0.5)), MOMENT)
        assert isinstance(result, Detections)
        assert result.track_ids is not None
        told += [event.kind for event in events]
    assert told == ["cross", "enter"]
    state, events = blinded(rules(), state, MOMENT, "source_lost")
    assert [(event.kind, event.reason) for event in events] == [("leave", "source_lost")]
    assert state.lines["middle"].total_in == 1
    assert state.tracks.next_id == 2, "identities go on"


def test_masks_free_and_occupy_zones_by_their_classes() -> None:
    scores = np.zeros((1, 12, 16), np.uint8)
    scores[0, :, :8] = 255
    mask = Segmentation(scores=in_16_bits(scores), class_ids=(0,))
    state, told = State(), []
    for index in range(5):
        state, _, events = watched(rules(), state, frame(100 * index, mask), MOMENT)
        told += events
    assert [(event.kind, event.class_name, event.share) for event in told] == [("occupied", "person", 1.0)]
    other = rules(classes=["dog"])
    state = State()
    for index in range(5):
        state, _, events = watched(other, state, frame(100 * index, mask), MOMENT)
        assert events == [], "a person is no dog"


def test_when_a_file_begins_again_nobody_is_left_over() -> None:
    state = State()
    for index in range(20):
        state, _, _ = watched(rules(), state, frame(100 * index, boxes(10.0)), MOMENT)
    _, _, (event,) = watched(rules(), state, frame(0, boxes(10.0)), MOMENT)
    assert (event.kind, event.reason) == ("leave", "ended")


def test_an_event_as_json_has_the_time_in_utc_and_only_what_it_has() -> None:
    moment = Moment(wall_s=1_800_000_000.1234, time_s=41.1333333, pts=1234)
    event = Event(kind="enter", moment=moment, zone="left", class_name="person", track_id=7, score=0.87654, count=2)
    assert as_json(event, "door", "abc") == {
        "event_id": "abc",
        "stream": "door",
        "kind": "enter",
        "time": "2027-01-15T08:00:00.123Z",
        "pts": 1234,
        "time_s": 41.133333,
        "zone": "left",
        "class": "person",
        "id": 7,
        "score": 0.8765,
        "count": 2,
    }
