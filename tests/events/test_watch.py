from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.encoded import frames_at

from vrseg.config.schema_output import Zone
from vrseg.events.machine import Rules, make_rules
from vrseg.events.watch import Watch, WatchedResults
from vrseg.frame import Detections
from vrseg.sink.results import RecordsSink, ResultRecords

if TYPE_CHECKING:
    from vrseg.frame import Frame


class Told:
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def put(self, record: dict[str, Any], /) -> None:
        self.records.append(record)

    @property
    def kinds(self) -> list[str]:
        return [record.get("state") or record["kind"] for record in self.records]


def everywhere() -> Rules:
    zone = Zone.model_validate({"points": [[0, 0], [1, 0], [1, 1], [0, 1]], "debounce": 0})
    return make_rules({"all": zone}, {}, ("person",))


def frame_at(time_s: float, *, decoded_s: float | None = None) -> Frame:
    (made,) = frames_at([round(time_s * 15360)])
    result = Detections(
        boxes_xyxy=np.array([[10, 10, 30, 60]], np.float32), scores=np.array([0.9], np.float32), class_ids=np.array([0])
    )
    return replace(made, result=result, decoded_s=time.monotonic() if decoded_s is None else decoded_s)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watch(told: Told) -> Watch:
    return Watch("door", everywhere(), (told,))


def test_states_of_a_stream_are_told_once_each(watch: Watch, told: Told) -> None:
    for state, detail in [
        ("starting", ""),
        ("running", ""),
        ("reconnecting", "no frame for 10 s; next try in 0.5 s"),
        ("reconnecting", "refused; next try in 1 s"),
        ("reconnecting", "refused; next try in 2 s"),
        ("running", ""),
        ("draining", ""),
        ("ended", ""),
    ]:
        watch.stream_state(state, detail)
    assert told.kinds == ["up", "lost", "reconnecting", "up", "ended"]
    assert told.records[1]["detail"] == "no frame for 10 s; next try in 0.5 s"
    assert {record["stream"] for record in told.records} == {"door"}
    assert len({record["event_id"] for record in told.records}) == 5


def test_nobody_stays_in_a_zone_of_a_lost_source_not_even_by_frames_that_were_still_on_their_way(
    watch: Watch, told: Told
) -> None:
    watch.stream_state("running")
    for index in range(4):
        watch.see(frame_at(index / 10))
    on_its_way = frame_at(0.5)
    watch.stream_state("reconnecting", "gone")
    for index in range(4):
        watch.see(replace(on_its_way, pts=on_its_way.pts + index))
    assert told.kinds == ["up", "enter", "leave", "lost"]
    assert told.records[2]["reason"] == "source_lost"
    watch.stream_state("running")
    for index in range(3):
        watch.see(frame_at(20 + index / 10))
    assert told.kinds[4:] == ["up", "enter"]
    assert told.records[-1]["id"] == 2, "identities are never used twice"


def test_the_end_of_a_life_empties_zones_and_sinks_see_identities(watch: Watch, told: Told) -> None:
    frames = Told()
    stage = WatchedResults(watch, (RecordsSink(ResultRecords(), frames.put),))
    stage.open()
    for index in range(3):
        assert list(stage.process(frame_at(index / 10))) == []
    list(stage.flush())
    stage.close()
    stage.close()
    assert [record["boxes"][0].get("id") for record in frames.records] == [None, 1, 1]
    assert [(record["kind"], record.get("reason")) for record in told.records] == [("enter", None), ("leave", "ended")]


def test_a_life_that_fails_empties_zones_too(watch: Watch, told: Told) -> None:
    stage = WatchedResults(watch)
    stage.open()
    for index in range(3):
        stage.process(frame_at(index / 10))
    stage.close()
    assert [record["kind"] for record in told.records] == ["enter", "leave"]
