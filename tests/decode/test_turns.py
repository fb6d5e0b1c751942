"""The thread that decodes for several: everybody in turn, nobody in another's way."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrseg.decode.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator


class Table:
    """Turns, with what was done in the order in which it was done. Ended by its `with` block."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.turns = Turns("test.lanes", lambda: self.began.append(threading.current_thread().name))
        self.done: list[tuple[int, str]] = []
        """Who had a turn, and on which thread."""

    def __enter__(self) -> Self:
        self.turns.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.turns.end()

    def steps(self, number: int, count: int, *, step_s: float = 0.0) -> Iterator[None]:
        for _ in range(count):
            time.sleep(step_s)
            self.done.append((number, threading.current_thread().name))
            yield

    def work_at_once(self, counts: list[int], *, step_s: float = 0.0) -> None:
        """Have several jobs, all at the same time."""
        gate = threading.Barrier(len(counts))

        def work(number: int, count: int) -> None:
            gate.wait()
            self.turns.work(self.steps(number, count, step_s=step_s))

        threads = [threading.Thread(target=work, args=item) for item in enumerate(counts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_all_steps_of_all_are_done_once_each_on_the_one_thread(counts: list[int]) -> None:
    with Table() as table:
        table.work_at_once(counts)
    for number, count in enumerate(counts):
        assert [name for who, name in table.done if who == number] == ["test.lanes"] * count
    assert table.began == ["test.lanes"]


def test_jobs_that_are_there_together_take_turns() -> None:
    with Table() as table:
        table.work_at_once([40, 40, 40, 40], step_s=0.001)
    middle = [who for who, _ in table.done[40:120]]
    assert sum(one != other for one, other in pairwise(middle)) > 60


def test_who_fails_is_told_and_the_others_go_on() -> None:
    def failing() -> Iterator[None]:
        yield
        raise ValueError("this one")

    with Table() as table:
        other = threading.Thread(target=lambda: table.turns.work(table.steps(1, 50, step_s=0.001)))
        other.start()
        with pytest.raises(ValueError, match="this one"):
            table.turns.work(failing())
        other.join(10)
    assert len(table.done) == 50


def test_who_failed_holds_nothing_of_what_was_done() -> None:
    class Picture:
        pass

    def failing() -> Iterator[None]:
        picture = Picture()
        watch.append(weakref.ref(picture))
        yield
        raise ValueError("this one")

    watch: list[weakref.ref[Picture]] = []
    gc.disable()
    try:
        with Table() as table:
            with pytest.raises(ValueError, match="this one") as caught:
                table.turns.work(failing())
            del caught
            assert watch[0]() is None
    finally:
        gc.enable()


def test_a_thread_that_cannot_begin_says_so_to_each() -> None:
    def no_device() -> None:
        raise OSError("no device")

    turns = Turns("test.lanes", no_device)
    turns.start()
    for _ in range(2):
        with pytest.raises(OSError, match="no device"):
            turns.work(iter([None]))
    turns.end()


def test_the_thread_has_gone_at_the_end() -> None:
    with Table() as table:
        table.turns.work(iter([None, None]))
        assert any(thread.name == "test.lanes" for thread in threading.enumerate())
    assert not any(thread.name == "test.lanes" for thread in threading.enumerate())
