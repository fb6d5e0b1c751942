from __future__ import annotations

import asyncio
import time
from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.toys import Ear

from vrseg.frame import Frame
from vrseg.pipeline.batcher import Batcher, Inlet
from vrseg.pipeline.channel import Channel
from vrseg.pipeline.ledger import Ledger

if TYPE_CHECKING:
    from vrseg.pipeline.channel import OnFull


def frame(stream: str, index: int) -> Frame:
    return Frame(
        stream=stream,
        index=index,
        pts=index,
        time_base=Fraction(1, 30),
        picture=None,
        width=2,
        height=2,
        decoded_s=time.monotonic(),
    )


def inlet(stream: str, *, size: int = 8, room: int = 8, policy: OnFull = "block") -> Inlet:
    decoded: Channel[Frame] = Channel(f"{stream}.decoded", size, policy)
    return Inlet(decoded, Channel(f"{stream}.finished", room), Ledger(stream, room, Ear()))


async def fill(target: Inlet, count: int) -> None:
    for index in range(count):
        target.ledger.enter()
        await target.decoded.put(frame(target.ledger.stream, index))


def test_a_full_batch_goes_at_once() -> None:
    async def main() -> None:
        batcher, source = Batcher(4, 10.0), inlet("a")
        batcher.attach(source)
        await fill(source, 6)
        started_s = time.monotonic()
        assert len(await anext(batcher)) == 4
        assert time.monotonic() - started_s < 0.1

    asyncio.run(main())


def test_a_partial_batch_goes_when_its_oldest_frame_has_waited_long_enough() -> None:
    async def main() -> None:
        batcher, source = Batcher(4, 0.05), inlet("a")
        batcher.attach(source)
        await fill(source, 2)
        started_s = time.monotonic()
        assert len(await anext(batcher)) == 2
        assert 0.03 < time.monotonic() - started_s < 0.2

    asyncio.run(main())


def test_a_lone_live_stream_never_waits_for_its_own_next_frame() -> None:
    async def main() -> None:
        batcher, source = Batcher(4, 10.0), inlet("a", policy="drop_oldest")
        batcher.attach(source)
        await fill(source, 1)
        assert len(await asyncio.wait_for(anext(batcher), 1)) == 1

    asyncio.run(main())


def test_a_batch_does_not_wait_for_a_stream_without_credits() -> None:
    async def main() -> None:
        batcher, ready, stuck = Batcher(4, 10.0), inlet("a", policy="drop_oldest"), inlet("b", room=1)
        batcher.attach(ready)
        batcher.attach(stuck)
        await fill(stuck, 1)
        stuck.decoded.take_nowait()
        stuck.ledger.depart()  # its only credit is under way
        await fill(ready, 1)
        assert [one.stream for one in await asyncio.wait_for(anext(batcher), 1)] == ["a"]

    asyncio.run(main())


def shares(batch: tuple[Frame, ...]) -> Counter[str]:
    return Counter(one.stream for one in batch)


async def gathered(batches: int, *streams: tuple[Inlet, int]) -> list[Counter[str]]:
    """Gather so many batches of four from streams with so many frames each; return frames by stream."""
    batcher = Batcher(4, 0.0)
    for one, frames in streams:
        batcher.attach(one)
        await fill(one, frames)
    return [shares(await anext(batcher)) for _ in range(batches)]


def test_live_streams_take_turns_frame_by_frame() -> None:
    greedy, modest = (inlet(name, policy="drop_oldest") for name in ("greedy", "modest"))
    assert asyncio.run(gathered(1, (greedy, 8), (modest, 2))) == [{"greedy": 2, "modest": 2}]


def test_files_take_turns_batch_by_batch() -> None:
    taken = asyncio.run(gathered(4, (inlet("first"), 8), (inlet("second"), 6)))
    assert taken == [{"first": 4}, {"second": 4}, {"first": 4}, {"second": 2}]


def test_a_turn_that_a_file_cannot_fill_is_filled_by_the_next() -> None:
    assert asyncio.run(gathered(1, (inlet("short"), 1), (inlet("long"), 8))) == [{"short": 1, "long": 3}]


def test_a_turn_that_the_end_of_a_batch_cut_short_begins_anew_so_that_the_next_ones_are_not_cut() -> None:
    streams = (inlet("camera", policy="drop_oldest"), 1), (inlet("first"), 8), (inlet("second"), 8)
    taken = asyncio.run(gathered(4, *streams))
    assert taken == [{"camera": 1, "first": 3}, {"first": 4}, {"second": 4}, {"first": 1, "second": 3}]


def test_a_live_frame_does_not_wait_behind_a_file() -> None:
    async def main() -> None:
        batcher = Batcher(4, 0.0)
        files, camera = [inlet("first"), inlet("second")], inlet("camera", policy="drop_oldest")
        for one in (*files, camera):
            batcher.attach(one)
        for one in files:
            await fill(one, 8)
        await fill(camera, 1)
        assert shares(await anext(batcher))["camera"] == 1
        assert shares(await anext(batcher)).total() == 4, "and the files go on without it"

    asyncio.run(main())


async def crowded(cameras: int, every: int, max_size: int) -> tuple[Counter[str], int]:
    """Gather 320 batches of 32 files that are always full and of cameras with a frame in every so many batches.

    Returns:
        Frames by stream, and how many batches the frames of cameras waited for, together.
    """
    batcher, files = Batcher(max_size, 0.0), [inlet(f"file {number}", room=64) for number in range(32)]
    live = [inlet(f"camera {number}", policy="drop_oldest") for number in range(cameras)]
    for one in (*files, *live):
        batcher.attach(one)
    served, waited = Counter[str](), 0
    by_name = {one.ledger.stream: one for one in (*files, *live)}
    for number in range(320):
        for one in files:
            await fill(one, one.decoded.capacity - len(one.decoded))
        if number % every == 0:
            for one in live:
                await fill(one, 1)
        batch = await anext(batcher)
        served += shares(batch)
        waited += sum(len(one.decoded) for one in live)
        for taken in batch:
            by_name[taken.stream].ledger.deliver(taken, 0.0)
    return served, waited


@pytest.mark.parametrize("every", [1, 4, 8])
def test_cameras_do_not_wait_for_many_files_to_have_their_turns(every: int) -> None:
    served, waited = asyncio.run(crowded(cameras=3, every=every, max_size=8))
    assert waited == 0
    assert served["camera 0"] == served["camera 1"] == served["camera 2"] == 320 // every
    files = [served[f"file {number}"] for number in range(32)]
    assert sum(files) == 320 * 8 - 3 * 320 // every, "and the files get all the rest"
    assert max(files) - min(files) <= 16, "in turns"


@pytest.mark.parametrize("max_size", [1, 8])
def test_files_go_on_beside_more_cameras_than_the_model_can_serve(max_size: int) -> None:
    served, _ = asyncio.run(crowded(cameras=12, every=1, max_size=max_size))
    assert sum(served[f"file {number}"] for number in range(32)) == 160, "a place in every second batch"


def test_the_iteration_ends_when_closed_and_all_streams_have_ended() -> None:
    async def main() -> None:
        batcher, source = Batcher(4, 0.0), inlet("a")
        batcher.attach(source)
        await fill(source, 3)
        source.decoded.close()
        batcher.close()
        assert [len(batch) async for batch in batcher] == [3]

    asyncio.run(main())


@settings(max_examples=80, deadline=None)
@given(
    counts=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    rooms=st.lists(st.integers(1, 6), min_size=4, max_size=4),
    max_size=st.integers(1, 6),
    delays=st.lists(st.sampled_from([0.0, 0.001]), min_size=4, max_size=4),
)
def test_each_frame_is_batched_once_in_order_and_within_its_credits(
    counts: list[int], rooms: list[int], max_size: int, delays: list[float]
) -> None:
    async def main() -> None:
        batcher = Batcher(max_size, 0.002)
        inlets = [inlet(str(number), size=3, room=rooms[number]) for number in range(len(counts))]
        for one in inlets:
            batcher.attach(one)
        seen: dict[str, list[int]] = {one.ledger.stream: [] for one in inlets}

        async def feed(number: int) -> None:
            for index in range(counts[number]):
                await asyncio.sleep(delays[number])
                inlets[number].ledger.enter()
                await inlets[number].decoded.put(frame(str(number), index))
            inlets[number].decoded.close()

        async def consume() -> None:
            async for batch in batcher:
                assert 1 <= len(batch) <= max_size
                share = Counter(one.stream for one in batch)
                for number, one in enumerate(inlets):
                    assert share[one.ledger.stream] <= rooms[number]
                    assert one.ledger.credits >= 0
                for taken in batch:
                    seen[taken.stream].append(taken.index)
                    inlets[int(taken.stream)].ledger.deliver(taken, time.monotonic())

        async def all_fed() -> None:
            await asyncio.gather(*(feed(number) for number in range(len(counts))))
            batcher.close()

        await asyncio.wait_for(asyncio.gather(all_fed(), consume()), 20)
        assert seen == {str(number): list(range(count)) for number, count in enumerate(counts)}

    asyncio.run(main())


def test_detaching_forgets_a_stream() -> None:
    async def main() -> None:
        batcher, first, second = Batcher(4, 0.0), inlet("a"), inlet("b")
        batcher.attach(first)
        batcher.attach(second)
        await fill(first, 2)
        await fill(second, 2)
        batcher.detach(first)
        kept: list[Any] = list(await anext(batcher))
        assert {one.stream for one in kept} == {"b"}
        assert len(first.decoded) == 2

    asyncio.run(main())
