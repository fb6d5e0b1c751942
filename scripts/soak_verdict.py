"""What a soak must keep to, and the tables that tell how it went. No effects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soak_samples import (
    DECODED,
    DELIVERED,
    DROPPED,
    FAILED,
    RECONNECTS,
    Sample,
    Slope,
    by_label,
    grown,
    latency_s,
    slope,
)
from soak_streams import UNTOUCHED

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from soak_samples import Key, LogCount

MOST_RSS_MB_PER_H = 20.0
MOST_THREADS_PER_H = 1.0
MOST_DESCRIPTORS_PER_H = 1.0
SIGNIFICANT_ERRORS = 2.0
"""Standard errors by which a slope must exceed its bound to count."""
MOST_TRACEBACKS = 0
MOST_UNACCOUNTED = 0
MOST_SURPRISES = 0
HEALTHY = 200
CLEAN = 0
"""Exit code."""
MOST_LATE_S = 2.0
"""Behind `drain_timeout`, after the final SIGTERM."""

SHORTEST_WINDOW_S = 600.0
"""After warming up; a line through less says nothing about an hour."""

_LISTED_EVENTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the process ended."""

    code: int | None
    """None when it had to be killed."""
    took_s: float
    drain_timeout_s: float
    early: bool = False
    """It ended by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A whole soak."""

    title: str
    samples: Sequence[Sample]
    warm_up_s: float
    faults: Mapping[str, int]
    """How often each kind was done."""
    surprises: Sequence[str]
    """What did not answer a fault as it should."""
    log: LogCount
    ending: Ending

    @property
    def warm(self) -> Sequence[Sample]:
        """After warming up."""
        return [sample for sample in self.samples if sample.time_s >= self.warm_up_s]

    @property
    def long_enough(self) -> bool:
        """Slopes can be judged."""
        return bool(self.warm) and self.warm[-1].time_s - self.warm_up_s >= SHORTEST_WINDOW_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """Something that should not grow."""

    name: str
    of: Callable[[Sample], float]
    most_per_h: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Text in rows."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


QUANTITIES = (
    Quantity(name="RSS, MB", of=lambda sample: sample.rss_bytes / 1e6, most_per_h=MOST_RSS_MB_PER_H),
    Quantity(name="threads", of=lambda sample: sample.threads, most_per_h=MOST_THREADS_PER_H),
    Quantity(name="descriptors", of=lambda sample: sample.descriptors, most_per_h=MOST_DESCRIPTORS_PER_H),
    Quantity(name="child processes", of=lambda sample: sample.children),
    Quantity(name="files written, MB", of=lambda sample: sample.written_bytes / 1e6),
)


def broken(story: Story) -> Iterator[str]:
    """Yield every bound that was broken, as a sentence."""
    for quantity in QUANTITIES:
        found = growth(story, quantity)
        most = quantity.most_per_h
        if most is not None and story.long_enough and found.exceeds(most, errors=SIGNIFICANT_ERRORS):
            yield f"{quantity.name}: {_spoken(found)} per hour; at most {most:g}"
    if story.log.tracebacks > MOST_TRACEBACKS:
        yield f"{story.log.tracebacks} tracebacks in the log"
    if (lost := most_unaccounted(story)) > MOST_UNACCOUNTED:
        yield f"up to {lost} frames unaccounted for"
    if ill := [sample for sample in story.samples if sample.health != HEALTHY]:
        yield f"/healthz: {ill[0].health or 'no answer'} after {ill[0].time_s:.0f} s, and {len(ill) - 1} times more"
    if len(story.surprises) > MOST_SURPRISES:
        yield f"{len(story.surprises)} faults had another outcome than they should"
    ending = story.ending
    if ending.early:
        yield f"vrseg ended by itself, with exit code {ending.code}"
    elif ending.code != CLEAN:
        yield f"exit code {'none: it had to be killed' if ending.code is None else ending.code}"
    if ending.took_s > ending.drain_timeout_s + MOST_LATE_S:
        yield f"SIGTERM took {ending.took_s:.1f} s; drain_timeout is {ending.drain_timeout_s:g} s"


def growth(story: Story, quantity: Quantity) -> Slope:
    """Fit a line through a quantity after warming up."""
    return slope([sample.time_s for sample in story.warm], [quantity.of(sample) for sample in story.warm])


def most_unaccounted(story: Story) -> int:
    """Return the most frames that one stream missed at a scrape, in either direction."""
    found = (abs(lost) for one in story.samples if one.metrics for lost in one.metrics.unaccounted.values())
    return max(found, default=0)


def tables(story: Story) -> Iterator[Table]:
    """Yield all that there is to tell, from the most important."""
    problems = list(broken(story))
    yield Table(title="Verdict", head=("bound",), rows=[(one,) for one in problems] or [("all bounds kept",)])
    yield _quantities(story)
    yield _frames(story)
    yield _latencies(story)
    yield Table(title="Faults", head=("kind", "times"), rows=_counted(story.faults))
    yield Table(title="Log", head=("level", "lines"), rows=_counted(story.log.levels))
    yield Table(title="Process", head=("what", "value"), rows=list(_process(story)))
    often = sorted(story.log.events.items(), key=lambda one: -one[1])[:_LISTED_EVENTS]
    events = [(level, event, str(times)) for (level, event), times in often]
    yield Table(title="Warnings and errors", head=("level", "event", "times"), rows=events)
    if story.surprises:
        yield Table(title="Surprises", head=("what",), rows=[(one,) for one in story.surprises])


def as_markdown(story: Story) -> str:
    """Return all tables as Markdown."""
    parts = [f"# {story.title}"]
    for table in tables(story):
        lines = [table.head, tuple("---" for _ in table.head), *table.rows]
        body = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
        parts.append(f"## {table.title}\n\n{body}")
    return "\n\n".join(parts) + "\n"


def _quantities(story: Story) -> Table:
    rows = []
    if story.warm:
        first, warm, last = story.samples[0], story.warm[0], story.samples[-1]
        for quantity in QUANTITIES:
            values = [_number(quantity.of(one)) for one in (first, warm, last)]
            highest = _number(max(quantity.of(one) for one in story.samples))
            bound = "" if quantity.most_per_h is None else f"{quantity.most_per_h:g}"
            rows.append((quantity.name, *values, highest, _spoken(growth(story, quantity)), bound))
        cores = (last.cpu_s - first.cpu_s) / max(last.time_s - first.time_s, 1e-9)
        rows.append(("cores in use, mean", "", "", "", _number(cores), "", ""))
    head = ("quantity", "start", "after warm-up", "end", "highest", "per hour, ± standard error", "bound")
    judged = "" if story.long_enough else "; too short to judge slopes"
    return Table(title=f"Growth, after {story.warm_up_s:.0f} s of warming up{judged}", head=head, rows=rows)


def _frames(story: Story) -> Table:
    total = _total(story)
    rows = [("decoded", str(by_label(_only_decoded(total), DECODED).total()))]
    rows.append(("delivered", str(by_label(total, DELIVERED).total())))
    rows += [(f"dropped, {reason}", times) for reason, times in _counted(by_label(total, DROPPED, "reason"))]
    rows.append(("failed", str(by_label(total, FAILED).total())))
    rows.append(("unaccounted, most of any stream", str(most_unaccounted(story))))
    rows += [(f"reconnects, {reason}", times) for reason, times in _counted(by_label(total, RECONNECTS, "reason"))]
    return Table(title="Frames of all streams", head=("what", "number"), rows=rows)


def _latencies(story: Story) -> Table:
    scrapes = [(sample.time_s, sample.metrics.counters) for sample in story.samples if sample.metrics]
    end_s = scrapes[-1][0] if scrapes else 0.0
    rows = []
    for name, from_s, to_s in (("first", 0.0, end_s / 4), ("last", end_s * 3 / 4, end_s)):
        within = [counters for time_s, counters in scrapes if from_s <= time_s <= to_s]
        # what was counted up to the first of them belongs to the time before
        total = grown(within[1:], since=within[0]) if within else grown(())
        told = (f"{latency_s(total, UNTOUCHED, quantile) * 1000:.2f}" for quantile in (0.5, 0.99))
        frames = by_label({key: one for key, one in total.items() if ("stream", UNTOUCHED) in key[1]}, DELIVERED)
        rows.append((name, *told, str(frames.total())))
    title = f"Latency of `{UNTOUCHED}`, which nothing was done to"
    return Table(title=title, head=("quarter", "p50, ms", "p99, ms", "frames"), rows=rows)


def _process(story: Story) -> Iterator[tuple[str, str]]:
    ending = story.ending
    healthy = sum(sample.health == HEALTHY for sample in story.samples)
    yield "/healthz was 200", f"{healthy} of {len(story.samples)} times"
    yield "tracebacks", str(story.log.tracebacks)
    yield "exit code", "killed" if ending.code is None else str(ending.code)
    yield "SIGTERM to exit, s", f"{ending.took_s:.2f}"


def _total(story: Story) -> Counter[Key]:
    return grown(sample.metrics.counters for sample in story.samples if sample.metrics)


def _only_decoded(total: Mapping[Key, int]) -> dict[Key, int]:
    return {key: value for key, value in total.items() if ("stage", "decode") in key[1]}


def _counted(numbers: Mapping[str, int]) -> list[tuple[str, str]]:
    return [(name, str(number)) for name, number in sorted(numbers.items())]


def _spoken(found: Slope) -> str:
    return "too few samples" if math.isnan(found.per_hour) else f"{found.per_hour:+.2f} ± {found.error:.2f}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.1f}"
