"""A trace is bounded, and its spans lie where the work was done."""

from __future__ import annotations

import json

from vrseg.telemetry.trace import Trace


def test_beyond_its_size_nothing_is_collected_but_counted() -> None:
    trace = Trace(most_spans=3)
    for _ in range(5):
        trace.stage_done("decode", "door.decode", 0.0, 0.001)
    document = json.loads(trace.text())
    assert sum(one["ph"] == "X" for one in document["traceEvents"]) == 3
    assert document["metadata"]["spans_left_out"] == 2


def test_each_thread_and_each_stream_has_a_row_of_its_own() -> None:
    trace = Trace()
    trace.stage_done("decode", "door.decode", 0.5, 0.25)
    trace.stage_done("decode", "yard.decode", 0.0, 0.25)
    trace.frame_delivered("door", 0.75)
    first, second, frame = (one for one in json.loads(trace.text())["traceEvents"] if one["ph"] == "X")
    assert first["dur"] == second["dur"] == 250_000
    assert len({(one["pid"], one["tid"]) for one in (first, second, frame)}) == 3
    assert first["args"] == {"waited_ms": 500}
    assert -750_000 <= frame["ts"] < 0
