from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest

from vrseg.telemetry.timings import SECONDS_BUCKETS, Timings


def test_a_scrape_shows_what_the_library_s_own_histogram_would() -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has no annotation there
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("spent_seconds", "Time.", ["stage"], buckets=SECONDS_BUCKETS, registry=theirs)
    timings = Timings("spent_seconds", "Time.", "stage", registry=ours)
    for stage, duration_s in (("a", 0.0), ("a", 0.0005), ("b", 0.00051), ("a", 1.5), ("b", 10.0), ("b", 11.0)):
        histogram.labels(stage).observe(duration_s)
        timings.observe(stage, duration_s)
    assert generate_latest(ours) == generate_latest(theirs)
