"""What `auto` in a configuration comes to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vrseg.assembly import queue_rule
from vrseg.backend.cpu import cpu_backend
from vrseg.config.schema import Stream

CPU = cpu_backend("a test")
BATCHING = replace(CPU, device="cuda:0", wants_whole_batches=True)


def stream(**queue: Any) -> Stream:
    return Stream.model_validate({"source": {"uri": "film.mp4"}, "queue": queue})


def test_a_file_s_queue_holds_a_batch_where_the_device_wants_whole_ones() -> None:
    """One file alone could never fill a batch of eight from a queue of four: a GPU would work at half its pace."""
    assert queue_rule(stream(), BATCHING, live=False, max_batch=8).size == 8
    assert queue_rule(stream(size=16), BATCHING, live=False, max_batch=8).size == 16
    assert queue_rule(stream(), CPU, live=False, max_batch=8).size == 4


@pytest.mark.parametrize("policy", ["block", "drop_oldest"])
def test_a_queue_that_somebody_laid_out_stays_as_it_is(policy: str) -> None:
    rule = queue_rule(stream(size=2, policy=policy), BATCHING, live=False, max_batch=8)
    assert (rule.size, rule.policy) == (2, policy)


def test_a_live_queue_is_as_long_as_it_says_since_what_waits_there_grows_old() -> None:
    rule = queue_rule(stream(), BATCHING, live=True, max_batch=8)
    assert (rule.size, rule.policy, rule.max_age_s) == (4, "drop_oldest", 0.5)
