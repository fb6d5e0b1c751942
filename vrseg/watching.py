"""What is watched and told of each stream, for as long as the daemon lives."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from vrseg.address import redact
from vrseg.assembly import result_records
from vrseg.config.places import state_folder
from vrseg.errors import ExhaustedError
from vrseg.events.machine import make_rules
from vrseg.events.watch import Watch, WatchedResults
from vrseg.sink.discovery import Subject
from vrseg.sink.result_factory import content_of, make_outlet, make_result_sink
from vrseg.sink.results import PatientSink, RecordsSink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import structlog
    from prometheus_client.metrics_core import Metric

    from vrseg.config.schema import ResultOutput, Stream
    from vrseg.models.spec import ModelSpec
    from vrseg.sink.outlet import Outlet
    from vrseg.sink.results import ResultRecords
    from vrseg.stage import ResultSink

CLOSE_TIMEOUT_S = 4.0
"""At the end, time for brokers and receivers to take what is left, and to be left in good order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A stream that is watched, and where that is told."""

    section: Stream
    spec: ModelSpec | None
    watch: Watch
    outlets: tuple[Outlet | None, ...]
    """One for each of the stream's outputs of results; None where its sink is made anew for each life."""
    lost: tuple[Counter[str], ...]
    """Of each output: records that were not written, by reason; outlets count their own."""

    def close(self, *, forget: bool = False) -> list[Outlet]:
        """Let the outlets end; returns those that are about to."""
        outlets = [one for one in self.outlets if one is not None]
        for one in outlets:
            one.close(forget=forget)
        return outlets


class Watches:
    """Streams that are watched. All calls come from the event loop and return at once, but for `close`."""

    def __init__(self, log: structlog.stdlib.BoundLogger, base_dir: Path) -> None:
        self.streams: dict[str, Watched] = {}
        self._log = log
        self._base_dir = base_dir
        self._ending: list[Outlet] = []

    def results(self, name: str, section: Stream, spec: ModelSpec | None) -> tuple[ResultSink, ...]:
        """Return the result sinks of one life of a stream. Identities, counts and connections last over its lives.

        Where the stream was changed since its last life, it is watched anew.

        Raises:
            ConfigError: results cannot go where the stream wants them.
            ExhaustedError: the system has no room for what tells them.
        """
        watched = self.streams.get(name)
        if watched is None or not _same(watched, section, spec):
            if watched is not None:
                del self.streams[name]
                self._let_end(watched.close())
            watched = self.streams[name] = self._begin(name, section, spec)
        outputs = zip(section.results, watched.outlets, watched.lost, strict=True)
        sinks = tuple(
            self._sink(output, result_records(output, spec), outlet, lost)
            for output, outlet, lost in outputs
            if content_of(output) == "frames"
        )
        tracked = section.track or section.zones or section.lines
        return (WatchedResults(watched.watch, sinks),) if tracked else sinks

    def stream_state(self, stream: str, state: str, detail: str = "") -> None:
        """Tell of a stream's state; see `pipeline.observer.Observer.stream_state`."""
        if stream in self.streams:
            self.streams[stream].watch.stream_state(state, detail)

    def remove(self, name: str) -> None:
        """Stop watching a stream that is gone for good: brokers forget it."""
        watched = self.streams.pop(name, None)
        if watched is not None:
            self._let_end(watched.close(forget=True))

    def _let_end(self, outlets: list[Outlet]) -> None:
        self._ending = [one for one in self._ending if not one.join(0)] + outlets

    def close(self) -> None:
        """Let all outlets end, and wait for them for a while."""
        for watched in self.streams.values():
            self._let_end(watched.close())
        self.streams.clear()
        deadline_s = time.monotonic() + CLOSE_TIMEOUT_S
        for outlet in self._ending:
            outlet.join(deadline_s - time.monotonic())
        self._ending.clear()

    def _sink(
        self, output: ResultOutput, records: ResultRecords, outlet: Outlet | None, lost: Counter[str]
    ) -> ResultSink:
        if outlet is not None:
            return RecordsSink(records, outlet.put)
        return PatientSink(lambda: make_result_sink(output, self._base_dir, records), lost, self._log)

    def _begin(self, name: str, section: Stream, spec: ModelSpec | None) -> Watched:
        class_names = tuple(one.name for one in spec.classes) if spec else ()
        rules = make_rules(section.zones, section.lines, class_names, spec.background_ids if spec else frozenset())
        subject = Subject(
            stream=name,
            base=f"vrseg/{name}",
            zones=tuple(section.zones),
            lines=tuple(section.lines),
            boxes=spec is None or spec.task == "detect",
        )
        outlets = tuple(
            make_outlet(one, subject, self._base_dir, spools, self._log)
            for one, spools in zip(section.results, _spool_folders(section.results), strict=True)
        )
        self._start([outlet for outlet in outlets if outlet is not None])
        told = tuple(
            outlet
            for output, outlet in zip(section.results, outlets, strict=True)
            if outlet is not None and (content_of(output) == "events" or outlet.kind == "mqtt")
        )
        lost = tuple(Counter[str]() for _ in outlets)
        return Watched(section=section, spec=spec, watch=Watch(name, rules, told), outlets=outlets, lost=lost)

    def _start(self, outlets: list[Outlet]) -> None:
        """Start all of them, or let those end that were."""
        for number, outlet in enumerate(outlets):
            try:
                outlet.start()
            except ExhaustedError:
                for started in outlets[:number]:
                    started.close()
                self._let_end(outlets[:number])
                raise


class WatchesCollector(Collector):
    """How outlets are doing, read off at the moment of a scrape."""

    def __init__(self, watches: Watches) -> None:
        self._watches = watches

    def collect(self) -> Iterator[Metric]:
        labels = ["stream", "output", "kind"]
        delivered = CounterMetricFamily("vrseg_results_delivered", "Records that reached a receiver.", labels=labels)
        dropped = CounterMetricFamily(
            "vrseg_results_dropped", "Records that reach no receiver.", labels=[*labels, "reason"]
        )
        waiting = GaugeMetricFamily("vrseg_results_waiting", "Records that wait for their receiver.", labels=labels)
        for stream, watched in self._watches.streams.copy().items():
            for number, (outlet, lost) in enumerate(zip(watched.outlets, watched.lost, strict=True)):
                values = [stream, str(number), outlet.kind if outlet is not None else "file"]
                if outlet is not None:
                    delivered.add_metric(values, outlet.delivered)
                    waiting.add_metric(values, outlet.waiting)
                for reason, count in (dict(lost) if outlet is None else outlet.dropped).items():
                    dropped.add_metric([*values, reason], count)
        yield from (delivered, dropped, waiting)


def _spool_folders(results: Sequence[ResultOutput]) -> Iterator[Path]:
    """Yield where each output's spool lies: its name is the address as it is shown, which several may share."""
    seen = Counter[str]()
    for one in results:
        shown = redact(one.uri)
        folder = state_folder() / "spool"
        yield folder / str(seen[shown]) if seen[shown] else folder
        seen[shown] += 1


def _same(watched: Watched, section: Stream, spec: ModelSpec | None) -> bool:
    """Tell whether what is watched, and where that is told, has not changed."""
    before = watched.section
    kept = ("zones", "lines", "results", "model")
    return all(getattr(before, key) == getattr(section, key) for key in kept) and watched.spec == spec
