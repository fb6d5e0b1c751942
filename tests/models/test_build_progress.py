from __future__ import annotations

import random
import threading

from hypothesis import given
from hypothesis import strategies as st

from vrseg.models.build_progress import BuildProgress


def collected() -> tuple[BuildProgress, list[float]]:
    fractions: list[float] = []
    return BuildProgress(fractions.append, lambda: False), fractions


def test_a_phase_within_another_is_part_of_one_of_its_steps() -> None:
    progress, fractions = collected()
    progress.phase_start("all", None, 4)
    progress.step_complete("all", 0)
    progress.phase_start("inner", "all", 2)
    progress.step_complete("inner", 0)
    progress.phase_finish("inner")
    progress.step_complete("all", 1)
    assert fractions == [0.25, 0.375, 0.5]


def test_steps_that_were_left_out_count_when_their_phase_ends() -> None:
    progress, fractions = collected()
    progress.phase_start("all", None, 100)
    progress.phase_finish("all")
    assert fractions == [1.0]


def test_phases_may_have_the_same_name_again_and_within_themselves() -> None:
    progress, fractions = collected()
    progress.phase_start("timing", None, 2)
    for step in range(2):
        progress.phase_start("timing", "timing", 2)
        progress.step_complete("timing", 0)
        progress.phase_finish("timing")
        progress.step_complete("timing", step)
    assert fractions == [0.25, 0.5, 0.75, 1.0]


def test_a_phase_without_steps_or_of_an_unknown_name_does_no_harm() -> None:
    progress, fractions = collected()
    progress.phase_start("empty", "nobody", 0)
    assert progress.step_complete("empty", 0)
    progress.phase_finish("empty")
    progress.phase_finish("never begun")
    assert fractions == [1.0]


def test_the_builder_is_told_to_stop() -> None:
    progress = BuildProgress(lambda _: None, lambda: True)
    progress.phase_start("all", None, 2)
    assert progress.step_complete("all", 0) is False


@given(st.integers(0, 10_000))
def test_whatever_is_reported_the_fraction_only_grows_and_stays_within_one(seed: int) -> None:
    choose = random.Random(seed)
    progress, fractions = collected()
    names = ["a", "b", "c", None]
    for _ in range(60):
        name = choose.choice(names)
        match choose.randrange(3):
            case 0:
                progress.phase_start(name or "a", choose.choice(names), choose.randrange(5))
            case 1:
                progress.step_complete(name or "b", choose.randrange(7))
            case _:
                progress.phase_finish(name or "c")
    progress.finish()
    assert fractions == sorted(set(fractions))
    assert all(0 < one <= 1 for one in fractions)
    assert progress.fraction == 1


def test_it_may_be_called_from_several_threads() -> None:
    progress, fractions = collected()
    progress.phase_start("all", None, 400)

    def work(first: int) -> None:
        for step in range(first, 400, 4):
            progress.step_complete("all", step)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert fractions == sorted(set(fractions))
    assert fractions[-1] == 1
