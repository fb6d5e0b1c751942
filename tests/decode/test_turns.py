"""The thread that decodes for many: everybody in turn, nobody in another's way."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrseg.decode import turns as module
from vrseg.decode.turns import Seat, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator


class Table:
    """Turns, with what was done in the order in which it was done."""

    def __init__(self, seats: int, name: str = "test.decode") -> None:
        self.began: list[str] = []
        self.turns = Turns(name, lambda: self.began.append(threading.current_thread().name))
        self.seats = [self.turns.seat() for _ in range(seats)]
        self.done: list[tuple[int, str]] = []
        """Who had a turn, and on which thread."""

    def steps(self, number: int, count: int, *, step_s: float = 0.0) -> Iterator[None]:
        for _ in range(count):
            time.sleep(step_s)
            self.done.append((number, threading.current_thread().name))
            yield

    def work_at_once(self, counts: list[int], *, step_s: float = 0.0) -> None:
        """Let the seats have a job each, all at the same time."""
        gate = threading.Barrier(len(counts))

        def work(number: int, count: int) -> None:
            gate.wait()
            self.seats[number].work(self.steps(number, count, step_s=step_s))

        threads = [threading.Thread(target=work, args=item) for item in enumerate(counts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)


@given(st.lists(st.integers(0, 30), min_size=4, max_size=8))
@settings(max_examples=30, deadline=None)
def test_all_steps_of_all_are_done_once_each_on_the_one_thread(counts: list[int]) -> None:
    table = Table(len(counts))
    table.work_at_once(counts)
    for number, count in enumerate(counts):
        assert [name for who, name in table.done if who == number] == ["test.decode"] * count


def test_jobs_that_are_there_together_take_turns() -> None:
    table = Table(4)
    table.work_at_once([40, 40, 40, 40], step_s=0.001)
    middle = [who for who, _ in table.done[40:120]]
    assert sum(one != other for one, other in pairwise(middle)) > 60
    assert table.began == ["test.decode"]


def test_a_few_work_each_on_their_own_thread() -> None:
    table = Table(3)
    table.seats[0].work(table.steps(0, 3))
    assert table.done == [(0, threading.current_thread().name)] * 3
    assert table.began == []


def test_seats_that_were_left_do_not_count() -> None:
    table = Table(5)
    for seat in table.seats[3:]:
        seat.leave()
        seat.leave()
    table.seats[0].work(table.steps(0, 1))
    assert table.done == [(0, threading.current_thread().name)]


def test_who_fails_is_told_and_the_others_go_on() -> None:
    table = Table(4)

    def failing() -> Iterator[None]:
        yield
        raise ValueError("this one")

    other = threading.Thread(target=lambda: table.seats[1].work(table.steps(1, 50, step_s=0.001)))
    other.start()
    with pytest.raises(ValueError, match="this one"):
        table.seats[0].work(failing())
    other.join(10)
    assert len(table.done) == 50


def test_the_thread_goes_when_nobody_wants_it_and_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_S", 0.05)
    table = Table(4, "test.idle")
    for times in (1, 2):
        table.seats[0].work(table.steps(0, 1))
        assert table.began == ["test.idle"] * times
        until_s = time.monotonic() + 5
        while any(thread.name == "test.idle" for thread in threading.enumerate()):
            assert time.monotonic() < until_s
            time.sleep(0.01)


@pytest.mark.parametrize(("at_work", "waits"), [(4, False), (7, False), (8, True), (16, True)])
def test_where_many_are_at_work_the_first_waits_for_others(
    at_work: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GATHER_S", 2.0)
    monkeypatch.setattr(module, "_AT_WORK_S", 60.0)
    table = Table(16)
    for seat in table.seats[:at_work]:
        seat.last_s = time.monotonic()
    assert (_took_s(table.seats[0], table) >= 2.0) == waits


def test_nobody_is_waited_for_who_has_not_worked_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GATHER_S", 2.0)
    table = Table(16)
    for seat in table.seats:
        seat.last_s = time.monotonic() - 1
    assert _took_s(table.seats[0], table) < 2.0


def _took_s(seat: Seat, table: Table) -> float:
    began_s = time.monotonic()
    seat.work(table.steps(0, 1))
    return time.monotonic() - began_s
