"""The decision that keeps the watchdog quiet or feeds it, against all that a stream may do."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from vrseg.telemetry.liveness import (
    DEVICE_SILENT_S,
    MARGIN_S,
    MAX_LAG_S,
    STUCK_S,
    Flow,
    Pulse,
    complaint,
    feel,
    process_complaints,
)


@dataclass(frozen=True)
class Step:
    """What a stream does between two looks."""

    passed_s: float
    running: bool
    came_in: int
    dropped: int
    """Of those, before they left the queue."""
    returned: int


STEPS = st.lists(
    st.builds(
        Step,
        passed_s=st.floats(0.1, 30),
        running=st.booleans() | st.just(True),
        came_in=st.integers(0, 3),
        dropped=st.integers(0, 3),
        returned=st.integers(0, 3),
    ),
    max_size=60,
)


def follow(steps: list[Step], stall_timeout_s: float) -> list[tuple[float, Pulse]]:
    """Look at a stream after each step; returns the times of the looks with what was felt."""
    now_s, pulse = 0.0, None
    decoded = returned = under_way = 0
    looks = []
    for step in steps:
        now_s += step.passed_s
        decoded += step.came_in
        under_way += step.came_in - min(step.dropped, step.came_in)
        ended = min(step.returned, under_way)
        returned, under_way = returned + ended, under_way - ended
        flow = Flow(
            running=step.running,
            decoded=decoded,
            returned=returned,
            under_way=under_way,
            stall_timeout_s=stall_timeout_s,
        )
        pulse = feel(pulse, flow, now_s)
        looks.append((now_s, pulse))
    return looks


@given(STEPS, st.floats(0.1, 100))
def test_a_stream_at_rest_is_never_complained_about(steps: list[Step], stall_timeout_s: float) -> None:
    for now_s, pulse in follow(steps, stall_timeout_s):
        assert pulse.flow.running or complaint(pulse, now_s) is None


@given(STEPS, st.floats(0.1, 100))
def test_who_moved_within_the_stall_timeout_is_never_said_to_have_no_frame(
    steps: list[Step], stall_timeout_s: float
) -> None:
    last_s = 0.0
    before: Flow | None = None
    for now_s, pulse in follow(steps, stall_timeout_s):
        flow = pulse.flow
        if before is None or not flow.running or (flow.decoded, flow.returned) != (before.decoded, before.returned):
            last_s = now_s
        before = flow
        if now_s - last_s <= stall_timeout_s:
            assert "no frame" not in (complaint(pulse, now_s) or "")


@given(STEPS, st.floats(0.1, 100), st.booleans())
def test_who_stands_still_is_always_complained_about_in_the_end(
    steps: list[Step], stall_timeout_s: float, frames_under_way: bool
) -> None:
    hang = [Step(passed_s=1, running=True, came_in=int(frames_under_way), dropped=0, returned=0)]
    still = [Step(passed_s=1, running=True, came_in=0, dropped=0, returned=0)]
    patience_s = int(stall_timeout_s + MARGIN_S + 2)
    now_s, pulse = follow(steps + hang + still * patience_s, stall_timeout_s)[-1]
    assert complaint(pulse, now_s) is not None


@given(STEPS, st.floats(0.1, 100))
def test_frames_that_come_in_and_never_end_are_complained_about(steps: list[Step], stall_timeout_s: float) -> None:
    hang = [Step(passed_s=1, running=True, came_in=1, dropped=0, returned=0)]
    patience_s = int(max(STUCK_S, stall_timeout_s + MARGIN_S) + 3)
    now_s, pulse = follow(steps + hang * patience_s, stall_timeout_s)[-1]
    assert "under way" in (complaint(pulse, now_s) or "")


@given(STEPS, st.floats(0.1, 100))
def test_a_stream_that_overload_makes_drop_everything_moves(steps: list[Step], stall_timeout_s: float) -> None:
    overloaded = [Step(passed_s=1, running=True, came_in=3, dropped=2, returned=1)]
    for now_s, pulse in follow(steps + overloaded * 200, stall_timeout_s)[len(steps) :]:
        assert complaint(pulse, now_s) is None


@given(st.floats(0, 100), st.floats(0, 100))
def test_the_process_is_well_when_loop_and_gpu_are(lag_s: float, device_silent_s: float) -> None:
    said = process_complaints(lag_s=lag_s, device_silent_s=device_silent_s)
    assert len(said) == (lag_s > MAX_LAG_S) + (device_silent_s > DEVICE_SILENT_S)
