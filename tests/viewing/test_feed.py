"""Pictures for viewers: made while somebody watches, once for all, and never at a stream's expense."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest
from plugins.encoded import every, frames_at
from structlog.testing import capture_logs

from vrseg.errors import MediaError
from vrseg.pipeline.tap import Tap
from vrseg.pipeline.worker import Worker
from vrseg.viewing.feed import MOST_PER_S, Feed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from vrseg.frame import Frame
    from vrseg.viewing.found import Found

FRAME = frames_at(every(1))[0]


class Still:
    """A stage that says what was done to it, and takes as long as it is told."""

    def __init__(self, *, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.made = 0
        self.is_open = False
        self.broken: type[Exception] | None = None
        self.threads: set[int] = set()
        self.begun = threading.Event()

    def open(self) -> None:
        self.is_open = True

    def process(self, frame: Frame, /) -> Iterable[bytes]:
        assert self.is_open
        self.threads.add(threading.get_ident())
        self.begun.set()
        time.sleep(self.takes_s)
        if self.broken:
            raise self.broken("no such picture")
        self.made += 1
        return (b"%d" % self.made,)

    def flush(self) -> Iterable[bytes]:
        return ()

    def close(self) -> None:
        self.is_open = False


def found(_frame: Frame) -> Found | None:
    return {"person": 2}


def run(scenario: Callable[[Tap, Feed, Still], Awaitable[None]], still: Still) -> None:
    async def inner() -> None:
        tap = Tap()
        async with Worker("previews") as worker:
            await scenario(tap, Feed(tap, worker, lambda: (still,), found), still)

    asyncio.run(inner())


async def show(tap: Tap, seconds: float) -> float:
    """Show frames for so long; return how long it was."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < seconds:
        tap.show(FRAME)
        await asyncio.sleep(0.005)
    return time.monotonic() - began_s


def test_nothing_is_done_while_nobody_watches() -> None:
    async def scenario(tap: Tap, feed: Feed, still: Still) -> None:
        await show(tap, 0.1)
        assert still.made == 0
        with feed.watched():
            tap.show(FRAME)
            assert await feed.next(0, 5)
        assert tap.watch is None
        await show(tap, 0.2)
        assert still.made == 1
        assert not still.is_open

    run(scenario, Still())


def test_a_viewer_who_has_left_at_once_leaves_nothing_open() -> None:
    async def scenario(tap: Tap, feed: Feed, still: Still) -> None:
        with feed.watched():
            tap.show(FRAME)
        await asyncio.sleep(0.1)
        assert (still.made, still.is_open) == (0, False)
        with feed.watched():
            await asyncio.sleep(0)
            tap.show(FRAME)
            assert await feed.next(0, 5), "the next one is served"

    run(scenario, Still())


def test_nobody_is_shown_a_picture_from_before_he_came() -> None:
    async def scenario(tap: Tap, feed: Feed, still: Still) -> None:
        with feed.watched():
            tap.show(FRAME)
            assert await asyncio.to_thread(still.begun.wait, 5)
        with feed.watched():
            assert await feed.next(0, 0.5) is None
        assert still.made == 1

    run(scenario, Still(takes_s=0.2))


def test_one_picture_serves_all_at_a_bounded_rate() -> None:
    async def scenario(tap: Tap, feed: Feed, still: Still) -> None:
        async def watch() -> list[bytes]:
            number, pictures = 0, []
            with feed.watched():
                while picture := await feed.next(number, 2.0):
                    number = picture.number
                    pictures.append(picture.jpeg)
            return pictures

        viewers = [asyncio.create_task(watch()) for _ in range(5)]
        passed_s = await show(tap, 1.0)
        seen = await asyncio.gather(*viewers)
        assert all(pictures == seen[0] for pictures in seen)
        assert len(seen[0]) == still.made
        assert 3 <= still.made <= MOST_PER_S * passed_s + 1
        assert len(still.threads) == 1
        assert threading.get_ident() not in still.threads

    run(scenario, Still())


def test_a_slow_picture_holds_up_nobody_and_one_frame() -> None:
    async def scenario(tap: Tap, feed: Feed, still: Still) -> None:
        with feed.watched():
            began_s = time.monotonic()
            for _ in range(1000):
                tap.show(FRAME)
            assert time.monotonic() - began_s < 0.1
            picture = await feed.next(0, 5)
        assert picture is not None
        assert still.made == 1

    run(scenario, Still(takes_s=0.2))


@pytest.mark.parametrize("error", [MediaError, MemoryError, OSError])
def test_a_picture_that_cannot_be_made_is_left_out_whatever_the_reason(error: type[Exception]) -> None:
    async def scenario(tap: Tap, feed: Feed, still: Still) -> None:
        with feed.watched():
            still.broken = error
            tap.show(FRAME)
            with capture_logs() as said:
                assert await feed.next(0, 0.5) is None
            (warning,) = said
            assert warning["log_level"] == "warning"
            assert (warning["reason"], warning["detail"]) == (error.__name__, "no such picture")
            still.broken = None
            tap.show(FRAME)
            picture = await feed.next(0, 5)
        assert picture is not None
        assert picture.found == {"person": 2}

    run(scenario, Still())


def test_a_stage_that_does_not_open_leaves_none_open() -> None:
    class Shut(Still):
        def open(self) -> None:
            raise MemoryError

    async def scenario(tap: Tap, _feed: Feed, still: Still) -> None:
        async with Worker("previews") as worker:
            await watch(tap, Feed(tap, worker, lambda: (still, Shut()), found), still)

    async def watch(tap: Tap, feed: Feed, still: Still) -> None:
        with feed.watched():
            tap.show(FRAME)
            assert await feed.next(0, 0.15) is None
            assert not still.is_open

    run(scenario, Still())


def test_who_comes_later_sees_no_old_picture() -> None:
    async def scenario(tap: Tap, feed: Feed, _still: Still) -> None:
        with feed.watched():
            tap.show(FRAME)
            assert await feed.next(0, 5)
        with feed.watched():
            assert await feed.next(0, 0.1) is None

    run(scenario, Still())
