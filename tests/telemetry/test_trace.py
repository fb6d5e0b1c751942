"""A trace is bounded, and its spans lie where the work was done."""

from __future__ import annotations

import json
import time

import pytest

from vrseg.telemetry.trace import Trace


def test_beyond_its_size_nothing_is_collected_but_counted() -> None:
    trace = Trace(most_spans=3)
    for _ in range(5):
        trace.stage_done("decode", "door.decode", 0.0, 0.001)
    document = json.loads(trace.text())
    assert sum(one["ph"] == "X" for one in document["traceEvents"]) == 3
    assert document["metadata"]["spans_left_out"] == 2


def test_a_span_lies_where_the_work_was_done_however_late_it_is_told() -> None:
    trace = Trace()
    now_s = time.monotonic()
    for later_s in (1.0, 1.25):
        trace.stage_done("decode", "door.decode", 0.0, 0.25, now_s + later_s)
    first, second = (one for one in json.loads(trace.text())["traceEvents"] if one["ph"] == "X")
    assert second["ts"] == pytest.approx(first["ts"] + first["dur"], abs=1), "one after the other, not both up to now"
    assert first["ts"] == pytest.approx(750_000, abs=100_000)


def test_each_thread_and_each_stream_has_a_row_of_its_own() -> None:
    trace = Trace()
    trace.stage_done("decode", "door.decode", 0.5, 0.25)
    trace.stage_done("decode", "yard.decode", 0.0, 0.25)
    trace.frame_delivered("door", 0.75, time.monotonic())
    first, second, frame = (one for one in json.loads(trace.text())["traceEvents"] if one["ph"] == "X")
    assert first["dur"] == second["dur"] == 250_000
    assert len({(one["pid"], one["tid"]) for one in (first, second, frame)}) == 3
    assert first["args"] == {"waited_ms": 500}
    assert -750_000 <= frame["ts"] < 0
