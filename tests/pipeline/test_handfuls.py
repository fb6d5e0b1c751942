"""Frames of files that go to the outputs several in one visit."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.toys import Ear, FillingSource, ToyDecoder, ToyEncoder, ToyRecorder, ToySink, toy_stream

from vrseg.pipeline.ledger import Ledger
from vrseg.pipeline.outputs import OutputStages
from vrseg.pipeline.stream import run_stream
from vrseg.pipeline.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.frame import EncodedPacket, Frame, Packet
    from vrseg.pipeline.observer import StageName
    from vrseg.pipeline.stream import StreamStages

ROOM = 32
"""Of a stream behind its queue of decoded frames: enough for handfuls of eight."""


def pts_of(count: int) -> list[int]:
    return [33 * index for index in range(count)]


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each thread was given something to do."""
    told: Counter[str] = Counter()
    submit = Worker.submit

    def counting(self: Worker, *arguments: Any, **named: Any) -> asyncio.Future[Any]:
        told[self.name] += 1
        return submit(self, *arguments, **named)

    monkeypatch.setattr(Worker, "submit", counting)
    return told


class Forgetting(ToyEncoder):
    """Keeps nothing and gives nothing."""

    def process(self, item: Frame, /) -> Iterable[EncodedPacket]:
        self.check()
        return ()


def run(stages: StreamStages, ledger: Ledger, ear: Ear) -> None:
    asyncio.run(run_stream(stages, None, ledger, ear, asyncio.Event()))


def file_stream(sink: ToySink, count: int, **more: Any) -> StreamStages:
    return replace(toy_stream("a", lambda: FillingSource(count), sink, **more), render=None)


def test_quick_outputs_get_handfuls(visits: Counter[str]) -> None:
    ear, sink = Ear(), ToySink()
    ledger = Ledger("a", ROOM, ear)
    run(file_stream(sink, 400), ledger, ear)
    assert sink.pts == pts_of(400)
    assert ledger.delivered == len(ear.latencies_s) == 400
    assert visits["a.encode0"] < 200, "an encoder that takes no time is visited for several frames at once"


def test_slow_outputs_get_frames_one_by_one(visits: Counter[str]) -> None:
    ear, sink = Ear(), ToySink(work_s=0.025)
    ledger = Ledger("a", ROOM, ear)
    run(file_stream(sink, 20), ledger, ear)
    assert sink.pts == pts_of(20)
    assert visits["a.encode0"] >= 20, "who stops the stream waits for one frame, not for eight"


def test_frames_that_may_grow_too_old_go_one_by_one(visits: Counter[str]) -> None:
    ear, sink = Ear(), ToySink()
    ledger = Ledger("a", ROOM, ear)
    run(file_stream(sink, 100, policy="drop_oldest", max_age_s=5.0), ledger, ear)
    besides = 6  # sink and encoder are opened, flushed and closed
    assert visits["a.encode0"] - besides == len(sink.pts)
    assert len(sink.pts) > 10


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 60),
    works_s=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.002, 0.022]), min_size=1, max_size=7),
    room=st.integers(1, 40),
    results=st.booleans(),
)
def test_order_is_kept_whatever_the_pace(count: int, works_s: list[float], room: int, *, results: bool) -> None:
    class Changing(ToyEncoder):
        def process(self, item: Frame, /) -> Iterable[EncodedPacket]:
            time.sleep(works_s[item.index % len(works_s)])
            return super().process(item)

    ear, sink, recorder = Ear(), ToySink(), ToyRecorder()
    ledger = Ledger("a", room, ear)
    stages = file_stream(sink, count, encoder=Changing())
    run(replace(stages, results=(recorder,) if results else ()), ledger, ear)
    assert sink.pts == pts_of(count)
    assert [frame.index for frame in recorder.frames] == (list(range(count)) if results else [])
    assert ledger.delivered == count
    assert ledger.unaccounted == ledger.held == 0


def test_what_was_written_before_a_failure_counts_as_delivered() -> None:
    ear, sink = Ear(), ToySink(fail_at=37)
    ledger = Ledger("a", ROOM, ear)
    with pytest.raises(ExceptionGroup):
        run(file_stream(sink, 400), ledger, ear)
    assert len(sink.pts) == ledger.delivered == 37
    assert ledger.unaccounted == ledger.held == 0


@pytest.mark.parametrize("broken", [0, 21, 63])
def test_what_all_of_several_writers_were_done_with_counts_as_delivered_when_one_fails(broken: int) -> None:
    class Breaking(ToyRecorder):
        def process(self, item: Frame, /) -> Iterable[Any]:
            if item.index == broken:
                raise RuntimeError("toy recorder broke")
            return super().process(item)

    ear, sink, recorder = Ear(), ToySink(), Breaking()
    ledger = Ledger("a", ROOM, ear)
    with pytest.raises(ExceptionGroup):
        run(replace(file_stream(sink, 400), results=(recorder,)), ledger, ear)
    assert len(recorder.frames) == broken
    assert sink.pts == pts_of(len(sink.pts)), "nobody is given what follows a frame that was left out"
    assert ledger.delivered == min(len(sink.pts), broken)
    assert ledger.unaccounted == ledger.held == 0


@pytest.mark.parametrize("slow", [range(30, 31), range(30, 400)], ids=["once", "from then on"])
def test_who_cancels_a_stream_waits_for_the_frame_in_hand_which_is_booked_and_not_for_the_handful(slow: range) -> None:
    began = threading.Event()

    class Slowing(ToySink):
        def process(self, item: EncodedPacket, /) -> Iterable[Any]:
            if len(self.pts) in slow:
                began.set()
                time.sleep(0.3)
            return super().process(item)

    async def main() -> None:
        ear, sink = Ear(), Slowing()
        ledger = Ledger("a", ROOM, ear)
        task = asyncio.create_task(run_stream(file_stream(sink, 400), None, ledger, ear, asyncio.Event()))
        assert await asyncio.to_thread(began.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(sink.pts) == 31 == ledger.delivered
        assert ledger.unaccounted == ledger.held == 0

    asyncio.run(main())


def test_frames_that_were_delivered_are_held_by_nobody_while_the_next_are_waited_for() -> None:
    class Picture:
        """Something that can be watched."""

    pictures: weakref.WeakSet[Picture] = weakref.WeakSet()

    class Decoder(ToyDecoder):
        def process(self, item: Packet, /) -> Iterable[Frame]:
            for frame in super().process(item):
                picture = Picture()
                pictures.add(picture)
                yield replace(frame, picture=picture)

    class Pausing(FillingSource):
        """Waits before it ends."""

        def read(self) -> Any:
            if self.sent == self.count:
                assert idle.wait(10)
            return super().read()

    idle = threading.Event()

    async def main() -> None:
        ear = Ear()
        ledger = Ledger("a", ROOM, ear)
        stages = toy_stream("a", lambda: Pausing(200), ToySink(), make_decoder=lambda first: Decoder("a", first))
        stages = replace(stages, render=None, outputs=(OutputStages(encode=Forgetting(), sinks=()),))
        task = asyncio.create_task(run_stream(stages, None, ledger, ear, asyncio.Event()))
        try:
            async with asyncio.timeout(10):
                while ledger.delivered < 200 or len(pictures) > 1:  # noqa: ASYNC110 -- there is no event for it
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"{len(pictures)} pictures are held, where one is: the last, for who may want it again")
        finally:
            idle.set()
            await task

    asyncio.run(main())


def test_latencies_are_those_of_each_frame_also_where_results_are_written_in_handfuls() -> None:
    handed: list[float] = []

    class Listening(Ear):
        def frame_delivered(self, stream: str, latency_s: float, *, handed_s: float, late: bool) -> None:
            handed.append(handed_s)

    ear = Listening()
    stages = replace(file_stream(ToySink(), 200), outputs=(), results=(ToyRecorder(),))
    run(stages, Ledger("a", ROOM, ear), ear)
    assert len(set(handed)) == 200
    assert handed == sorted(handed)


def test_what_a_thread_does_in_one_visit_is_told_as_one_after_the_other() -> None:
    spans: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)

    class Listening(Ear):
        def stage_done(
            self, stage: StageName, waited_s: float, busy_s: float, *, ended_s: float | None = None, thread: str = ""
        ) -> None:
            if ended_s is not None:
                spans[thread].append((ended_s - busy_s, ended_s))

    ear = Listening()
    run(file_stream(ToySink(), 200), Ledger("a", ROOM, ear), ear)
    assert {len(spans[thread]) for thread in ("a.decode", "a.encode0", "a.encode0, sinks")} == {200}
    for thread, told in spans.items():
        for (_, ended_s), (began_s, _) in pairwise(told):
            assert began_s >= ended_s - 1e-6, thread
