from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, generate_latest

from vrseg.telemetry.tallies import Tallies


def test_a_scrape_shows_what_the_library_s_own_counter_would() -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has no annotation there
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    counter = Counter("frames", "Frames.", ["stream", "stage"], registry=theirs)
    tallies = Tallies("frames", "Frames.", ["stream", "stage"], registry=ours)
    for values in (("a", "decode"), ("b", "decode"), ("a", "sink"), ("a", "decode")):
        counter.labels(*values).inc()
        tallies.count(*values)
    assert generate_latest(ours) == generate_latest(theirs)
    counter.remove_by_labels({"stream": "a"})
    tallies.forget("a")
    assert generate_latest(ours) == generate_latest(theirs)
