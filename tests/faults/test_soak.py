"""`scripts/soak` as a program, and what it computes and judges."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

pytestmark = pytest.mark.alone

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.append(str(SCRIPTS))
faults = importlib.import_module("soak_faults")
samples = importlib.import_module("soak_samples")
streams = importlib.import_module("soak_streams")
verdict = importlib.import_module("soak_verdict")

HOUR_S = 3600.0
EVERY_S = 5.0
ENDING = verdict.Ending(code=0, took_s=1.0, drain_timeout_s=5.0)
NOTHING_LOGGED = samples.LogCount(levels={}, events={}, tracebacks=0)


def one_sample(time_s: float, **values: Any) -> Any:
    usual: dict[str, Any] = {
        "rss_bytes": 200_000_000,
        "threads": 40,
        "descriptors": 30,
        "children": 0,
        "written_bytes": 0,
        "cpu_s": time_s,
        "health": 200,
        "metrics": samples.Metrics(counters={}, unaccounted={}),
    }
    return samples.Sample(time_s=time_s, **usual | values)


def one_story(duration_s: float = HOUR_S, grows: Mapping[str, Callable[[float], float]] = MappingProxyType({})) -> Any:
    """Everything as it should be, but for what grows."""
    times = [EVERY_S * number for number in range(int(duration_s / EVERY_S))]
    return verdict.Story(
        title="Soak",
        samples=[one_sample(time_s, **{name: of(time_s) for name, of in grows.items()}) for time_s in times],
        warm_up_s=300.0,
        faults={},
        surprises=[],
        log=NOTHING_LOGGED,
        ending=ENDING,
    )


def with_last(story: Any, **values: Any) -> Any:
    return replace(story, samples=[*story.samples, one_sample(story.samples[-1].time_s + EVERY_S, **values)])


def test_twenty_seconds_with_four_streams_keep_all_bounds(tmp_path: Path) -> None:
    table, log = tmp_path / "soak.md", tmp_path / "vrseg.log"
    arguments = ["--minutes", "0.34", "--streams", "4", "--seed", "3", "--out", str(table), "--keep-log", str(log)]
    ran = subprocess.run([SCRIPTS / "soak", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr + log.read_text()
    told = table.read_text()
    assert "all bounds kept" in told
    assert "| unaccounted, most of any stream | 0 |" in told
    cells = {row.split("|")[1].strip(): row.split("|")[2].strip() for row in told.splitlines() if row.startswith("| ")}
    assert int(cells["delivered"]) > 100
    assert float(cells["RSS, MB"]) > 50
    done = sum(int(cells.get(kind, 0)) for kind in faults.targets(streams.stream_names(4), ("http", "rtsp")))
    assert done >= 5
    assert "Verdict" in ran.stdout


def test_what_is_as_it_should_be_breaks_nothing() -> None:
    assert list(verdict.broken(one_story())) == []


@pytest.mark.parametrize(
    ("grows", "word"),
    [
        ({"rss_bytes": lambda time_s: 2e8 + 21e6 * time_s / HOUR_S}, "RSS"),
        ({"threads": lambda time_s: 40 + 2 * time_s / HOUR_S}, "threads"),
        ({"descriptors": lambda time_s: 30 + 2 * time_s / HOUR_S}, "descriptors"),
    ],
)
def test_what_grows_is_told(grows: dict[str, Callable[[float], float]], word: str) -> None:
    (told,) = verdict.broken(one_story(grows=grows))
    assert told.startswith(word)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda story: replace(story, log=samples.count_log([samples.TRACEBACK])), "1 tracebacks"),
        (lambda story: with_last(story, health=503), "/healthz: 503"),
        (lambda story: with_last(story, health=0, metrics=None), "/healthz: no answer"),
        (lambda story: with_last(story, metrics=samples.Metrics(counters={}, unaccounted={"door": -2})), "up to 2"),
        (lambda story: replace(story, surprises=["restart: 500"]), "1 faults"),
        (lambda story: replace(story, ending=replace(ENDING, code=1)), "exit code 1"),
        (lambda story: replace(story, ending=replace(ENDING, code=None)), "exit code none"),
        (lambda story: replace(story, ending=replace(ENDING, code=-11, early=True)), "vrseg ended by itself"),
        (lambda story: replace(story, ending=replace(ENDING, took_s=7.5)), "SIGTERM took 7.5 s"),
    ],
)
def test_every_other_broken_bound_is_told(change: Callable[[Any], Any], word: str) -> None:
    story = change(one_story())
    (told,) = verdict.broken(story)
    assert told.startswith(word)
    assert told in verdict.as_markdown(story)


def test_growth_within_the_noise_is_no_growth() -> None:
    lot = random.Random(1)
    noise = one_story(grows={"rss_bytes": lambda time_s: 2e8 + 22e6 * time_s / HOUR_S + lot.gauss(0, 3e7)})
    assert list(verdict.broken(noise)) == []


def test_a_line_through_a_minute_says_nothing_about_an_hour() -> None:
    growing = one_story(360.0, {"threads": lambda time_s: 40 + time_s})
    assert list(verdict.broken(growing)) == []
    assert "too short to judge" in verdict.as_markdown(growing)


def test_a_slope_is_found_with_its_error() -> None:
    exact = samples.slope([0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 5.0, 7.0])
    assert exact.per_hour == pytest.approx(7200)
    assert exact.error == pytest.approx(0)
    # by hand: the slope is 0.6, the squares of the residuals add up to 0.2, and no neighbours agree
    bent = samples.slope([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 1.0, 2.0])
    assert bent.per_hour == pytest.approx(0.6 * 3600)
    assert bent.error == pytest.approx((0.2 / 2 / 5) ** 0.5 * 3600)


def test_residuals_that_follow_one_another_widen_the_error() -> None:
    lot = random.Random(2)
    independent = [lot.gauss(0, 1) for _ in range(400)]
    wandering = [0.0]
    for step in independent[1:]:
        wandering.append(0.95 * wandering[-1] + (1 - 0.95**2) ** 0.5 * step)
    times_s = [EVERY_S * number for number in range(400)]
    assert samples.slope(times_s, wandering).error > 3 * samples.slope(times_s, independent).error


def counted(name: str, value: int, **labels: str) -> dict[Any, int]:
    return {(name, tuple(sorted(labels.items()))): value}


def test_counters_that_begin_anew_are_added_up() -> None:
    scrapes = [counted(samples.DELIVERED, value, stream="door") for value in (5, 8, 2, 2, 3)]
    assert samples.by_label(samples.grown(scrapes), samples.DELIVERED).total() == 11
    later = samples.grown(scrapes[1:], since=scrapes[0])
    assert samples.by_label(later, samples.DELIVERED, "stream") == {"door": 6}


def test_a_stream_that_was_away_at_a_scrape_begins_anew() -> None:
    scrapes = [counted(samples.DELIVERED, 5, stream="door"), {}, counted(samples.DELIVERED, 6, stream="door")]
    assert samples.by_label(samples.grown(scrapes), samples.DELIVERED).total() == 11


def test_latency_is_interpolated_within_its_bucket() -> None:
    total = {
        **counted(samples.LATENCY, 0, stream="door", le="0.001"),
        **counted(samples.LATENCY, 90, stream="door", le="0.002"),
        **counted(samples.LATENCY, 100, stream="door", le="+Inf"),
    }
    assert samples.latency_s(total, "door", 0.45) == pytest.approx(0.0015)
    assert samples.latency_s(total, "door", 0.99) == pytest.approx(0.002)
    assert samples.latency_s(total, "gate", 0.5) != samples.latency_s(total, "gate", 0.5)  # NaN


def test_a_scrape_is_read() -> None:
    read = samples.read_metrics(
        'vrseg_frames_total{stage="decode",stream="door"} 7.0\n'
        'vrseg_frames_unaccounted{stream="door"} 0.0\n'
        'vrseg_frames_unaccounted{stream="gate"} 2.0\n'
        "something_else 1.0\n"
    )
    assert read.unaccounted == {"gate": 2}
    assert samples.by_label(read.counters, samples.DECODED, "stream") == {"door": 7}
    assert len(read.counters) == 1


def test_a_log_is_counted_by_level_and_tracebacks_are_found_anywhere() -> None:
    found = samples.count_log(
        [
            '{"event": "listening", "level": "info"}',
            '{"event": "frames dropped", "level": "warning"}',
            f'{{"event": "failed", "level": "error", "exception": "{samples.TRACEBACK}"}}',
            "Exception in thread decode",
            samples.TRACEBACK,
        ]
    )
    assert found.levels == {"info": 1, "warning": 1, "error": 1, "other": 2}
    assert found.events["warning", "frames dropped"] == 1
    assert found.tracebacks == 2


def test_a_seed_decides_what_happens_and_the_untouched_stream_is_left_alone() -> None:
    aims = faults.targets(streams.stream_names(16), ("http", "rtsp"))
    first, again, other = (list(faults.schedule(seed, 1800.0, 4.0, aims)) for seed in (5, 5, 6))
    assert first == again != other
    assert {fault.kind for fault in first} == set(aims)
    assert streams.UNTOUCHED not in {fault.target for fault in first}
    assert all(fault.at_s + fault.lasts_s <= 1800.0 for fault in first)
    assert [fault.at_s for fault in first] == sorted(fault.at_s for fault in first)


def test_all_streams_of_any_number_have_names_of_their_own() -> None:
    for count in (4, 16, 50):
        names = streams.stream_names(count)
        assert len(set(names)) == count
        assert names[0] == streams.UNTOUCHED
