"""Is the process alive: do its frames move, its loop turn, its GPU answer? A decision of numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

# Behind its stall timeout a stream has to close its decoder before it calls itself lost.
MARGIN_S = 10.0
# Frames that are past the queue and do not arrive: no batch of any network takes so long, and a thread that does hangs.
STUCK_S = 60.0
# Live frames of this age are long dropped: a loop that is late by so much does not do its work.
MAX_LAG_S = 2.0
# The GPU is asked for next to nothing; the work of others on it delays the answer by milliseconds.
DEVICE_SILENT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What one stream has counted so far."""

    running: bool
    """Frames ought to come. False while it starts, waits to reconnect, is paused, drains, or is at its end."""
    decoded: int
    """Frames that came in."""
    returned: int
    """Frames that left the queue of decoded frames and have ended since, in whatever way."""
    under_way: int
    """Frames that left that queue and have not ended."""
    stall_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """When a stream was last seen to move, monotonic seconds."""

    flow: Flow
    moved_s: float
    """A frame came in, or ended, or none had to."""
    returned_s: float
    """A frame ended, or none was under way."""


def feel(before: Pulse | None, flow: Flow, now_s: float) -> Pulse:
    """Note what has moved since the last look."""
    if before is None or not flow.running or not before.flow.running:
        return Pulse(flow=flow, moved_s=now_s, returned_s=now_s)
    returned = flow.returned != before.flow.returned
    moved = returned or flow.decoded != before.flow.decoded
    return Pulse(
        flow=flow,
        moved_s=now_s if moved else before.moved_s,
        returned_s=now_s if returned or not before.flow.under_way or not flow.under_way else before.returned_s,
    )


def complaint(pulse: Pulse, now_s: float) -> str | None:
    """Say what is wrong with a stream; None when it moves, or need not.

    A slow or overloaded stream is none of this: its frames are late and dropped, but they end.
    """
    patience_s = pulse.flow.stall_timeout_s + MARGIN_S
    if (still_s := now_s - pulse.moved_s) > patience_s:
        return f"no frame for {still_s:.0f} s, and it does not count as lost"
    if (stuck_s := now_s - pulse.returned_s) > max(STUCK_S, patience_s):
        return f"{pulse.flow.under_way} frames under way, none arrived for {stuck_s:.0f} s"
    return None


def process_complaints(*, lag_s: float, device_silent_s: float) -> list[str]:
    """Say what is wrong with the process: the loop is late, the GPU does not answer."""
    found = []
    if lag_s > MAX_LAG_S:
        found.append(f"the event loop is {lag_s:.1f} s late")
    if device_silent_s > DEVICE_SILENT_S:
        found.append(f"the GPU has not answered for {device_silent_s:.0f} s")
    return found
