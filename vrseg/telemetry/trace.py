"""What the stages did for a while, in the format of Chrome's trace viewer and of Perfetto."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vrseg.pipeline.observer import StageName

# Some 20 MB of JSON: five seconds of 400 frames/s through ten threads.
MOST_SPANS = 100_000
_THREADS, _FRAMES = 1, 2


class Trace:
    """Collects spans: what each thread worked on, and how long each frame was under way. For the event loop alone.

    Beyond `most_spans` nothing more is collected, so that a busy daemon is not harmed by being looked at.
    """

    def __init__(self, most_spans: int = MOST_SPANS) -> None:
        self._most_spans = most_spans
        self._began_s = time.monotonic()
        self._events: list[dict[str, Any]] = []
        self._rows: dict[tuple[int, str], int] = {}
        self._left_out = 0

    def stage_done(
        self, stage: StageName, thread: str, waited_s: float, busy_s: float, ended_s: float | None = None
    ) -> None:
        """A thread has worked on one item, for `busy_s` up to `ended_s` (monotonic time), or up to now."""
        self._add(_THREADS, thread or stage, stage, busy_s, {"waited_ms": round(1000 * waited_s, 3)}, ended_s)

    def frame_delivered(self, stream: str, latency_s: float, handed_s: float) -> None:
        """A frame reached all outputs at `handed_s` (monotonic time); it was decoded `latency_s` before."""
        self._add(_FRAMES, stream, "frame", latency_s, {}, handed_s)

    def _add(
        self,
        group: int,
        row: str,
        name: str,
        length_s: float,
        details: dict[str, Any],
        ended_s: float | None = None,
    ) -> None:
        if len(self._events) >= self._most_spans:
            self._left_out += 1
            return
        number = self._rows.setdefault((group, row), len(self._rows) + 1)
        end_s = (time.monotonic() if ended_s is None else ended_s) - self._began_s
        self._events.append(
            {
                "ph": "X",
                "name": name,
                "pid": group,
                "tid": number,
                "ts": round(1e6 * (end_s - length_s), 1),
                "dur": round(1e6 * length_s, 1),
                "args": details,
            }
        )

    def text(self) -> str:
        """Return the trace as JSON. Rows are named after threads (`door.decode`) and streams; times are microseconds.

        Event by event: one call of the encoder holds Python's lock to its end, and all frames would wait for 20 MB.
        """
        names = [_name("process_name", pid, 0, text) for pid, text in ((_THREADS, "threads"), (_FRAMES, "frames"))]
        names += [_name("thread_name", group, number, row) for (group, row), number in self._rows.items()]
        events = ",".join(json.dumps(event) for event in [*names, *self._events])
        metadata = json.dumps({"spans_left_out": self._left_out})
        return f'{{"displayTimeUnit":"ms","metadata":{metadata},"traceEvents":[{events}]}}'


def _name(kind: str, group: int, row: int, text: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": group, "tid": row, "ts": 0, "args": {"name": text}}
