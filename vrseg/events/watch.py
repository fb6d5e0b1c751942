"""One stream, watched for as long as the daemon lives: over lost sources and new lives of its pipeline."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Never, Protocol
from uuid import uuid4

from vrseg.events.event import Event, LinkState, Moment, as_json
from vrseg.events.machine import Rules, State, blinded, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vrseg.events.event import LeaveReason
    from vrseg.frame import Frame
    from vrseg.stage import ResultSink


class EventOutlet(Protocol):
    """Where events go. Nobody waits for it."""

    def put(self, record: dict[str, Any], /) -> None:
        """Take one event (see `event.as_json`), from any thread, and return at once."""


class Watch:
    """Keeps what the stream's next frame must know, and tells outlets what happened.

    Frames come on the results' thread, the stream's states from the event loop; both for less than a millisecond.
    """

    def __init__(self, stream: str, rules: Rules, outlets: tuple[EventOutlet, ...] = ()) -> None:
        self._stream = stream
        self._rules = rules
        self._outlets = outlets
        self._lock = threading.Lock()
        self._state = State()
        self._link: LinkState | None = None
        self._lost_s = 0.0
        """Monotonic time of the last loss: what was decoded before is of a world that is gone."""

    def see(self, frame: Frame) -> Frame:
        """Go on by one frame; returns it with identities on its boxes."""
        with self._lock:
            if frame.decoded_s <= self._lost_s:
                return frame
            age_s = time.monotonic() - frame.decoded_s
            moment = Moment(wall_s=time.time() - age_s, time_s=frame.time_s, pts=frame.pts)
            self._state, result, events = watched(self._rules, self._state, frame, moment)
            self._tell(events)
        return replace(frame, result=result)

    def go_blind(self, reason: LeaveReason) -> None:
        """No frames will come for a while, or for ever: nobody is in any zone."""
        with self._lock:
            self._go_blind(reason)

    def stream_state(self, state: str, detail: str = "") -> None:
        """Take note of a state of the pipeline (see `pipeline.observer.StreamState`), and tell when it is news."""
        with self._lock:
            link = self._news(state)
            if link is None or link == self._link:
                return
            self._link = link
            if link != "up":
                self._go_blind("ended" if link in ("ended", "paused") else "source_lost")
            self._tell([Event(kind="stream", moment=Moment(wall_s=time.time()), state=link, detail=detail)])

    def _news(self, state: str) -> LinkState | None:
        if state == "reconnecting":  # said before each try: the first is the loss
            return "reconnecting" if self._link in ("lost", "reconnecting") else "lost"
        told: dict[str, LinkState] = {"running": "up", "paused": "paused", "ended": "ended", "failed": "failed"}
        return told.get(state)

    def _go_blind(self, reason: LeaveReason) -> None:
        self._lost_s = time.monotonic()
        self._state, events = blinded(self._rules, self._state, Moment(wall_s=time.time()), reason)
        self._tell(events)

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            record = as_json(event, self._stream, uuid4().hex)
            for outlet in self._outlets:
                outlet.put(record)


class WatchedResults:
    """Stage[Frame, Never]: one life of a stream's results. Tracks once, then hands frames to all its sinks.

    Args:
        watch: of the stream.
        sinks: take each frame, with identities on its boxes.
    """

    def __init__(self, watch: Watch, sinks: tuple[ResultSink, ...] = ()) -> None:
        self._watch = watch
        self._sinks = sinks
        self._at_work = False

    def open(self) -> None:
        self._at_work = True
        for sink in self._sinks:
            sink.open()

    def process(self, frame: Frame, /) -> Iterable[Never]:
        seen = self._watch.see(frame)
        return _each(self._sinks, lambda sink: sink.process(seen))

    def flush(self) -> Iterable[Never]:
        self._end("ended")
        return _each(self._sinks, lambda sink: sink.flush())

    def close(self) -> None:
        self._end("source_lost")
        for sink in self._sinks:
            sink.close()

    def _end(self, reason: LeaveReason) -> None:
        at_work, self._at_work = self._at_work, False
        if at_work:
            self._watch.go_blind(reason)


def _each(sinks: tuple[ResultSink, ...], work: Callable[[ResultSink], Iterable[Never]]) -> Iterable[Never]:
    for sink in sinks:
        for _ in work(sink):
            pass
    return ()
