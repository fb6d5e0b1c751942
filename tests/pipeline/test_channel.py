from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrseg.pipeline.channel import Ageing, Channel, ChannelClosedError


def test_items_come_out_in_order_and_the_end_is_the_close() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel("c", 3)

        async def write() -> None:
            for item in range(100):
                await channel.put(item)
            channel.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            assert [item async for item in channel] == list(range(100))

    asyncio.run(main())


def test_a_blocked_writer_is_told_when_the_channel_closes() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel("c", 1)
        await channel.put(1)
        writer = asyncio.ensure_future(channel.put(2))
        await asyncio.sleep(0.01)
        channel.close()
        with pytest.raises(ChannelClosedError):
            await writer
        assert [item async for item in channel] == [1]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("policy", "left", "lost"), [("drop_oldest", [3, 4], [0, 1, 2]), ("drop_newest", [0, 1], [2, 3, 4])]
)
def test_a_full_channel_drops_by_its_policy_and_says_so(policy: Any, left: list[int], lost: list[int]) -> None:
    async def main() -> None:
        dropped: list[tuple[int, str]] = []
        channel: Channel[int] = Channel("c", 2, policy, on_drop=lambda item, why: dropped.append((item, why)))
        for item in range(5):
            await channel.put(item)
        channel.close()
        assert [item async for item in channel] == left
        assert dropped == [(item, "queue_full") for item in lost]

    asyncio.run(main())


def test_what_is_too_old_is_dropped_when_it_is_its_turn() -> None:
    async def main() -> None:
        dropped: list[tuple[float, str]] = []
        now_s = asyncio.get_running_loop().time()
        channel: Channel[float] = Channel(
            "c",
            4,
            ageing=Ageing(max_age_s=0.5, born_s=lambda born_s: born_s),
            on_drop=lambda item, why: dropped.append((item, why)),
        )
        await channel.put(now_s - 1)
        await channel.put(now_s)
        assert await channel.take() == now_s
        assert dropped == [(now_s - 1, "max_age")]

    asyncio.run(main())


def test_blocked_and_full_time_are_counted() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel("c", 1)
        await channel.put(1)
        writer = asyncio.ensure_future(channel.put(2))
        await asyncio.sleep(0.05)
        assert channel.blocked_s >= 0.04
        assert channel.full_s >= 0.04
        await channel.take()
        await writer
        blocked_s = channel.blocked_s
        await asyncio.sleep(0.02)
        assert channel.blocked_s == blocked_s

    asyncio.run(main())


@settings(max_examples=150, deadline=None)
@given(
    capacity=st.integers(1, 4),
    policy=st.sampled_from(["block", "drop_oldest", "drop_newest"]),
    writers=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    readers=st.integers(1, 3),
    cancelled=st.lists(st.integers(0, 20), max_size=3),
    close_after=st.integers(0, 60),
)
def test_every_item_is_taken_once_or_dropped_once(
    capacity: int, policy: Any, writers: list[int], readers: int, cancelled: list[int], close_after: int
) -> None:
    async def main() -> None:
        dropped: list[tuple[int, int]] = []
        taken: list[tuple[int, int]] = []
        accepted: Counter[tuple[int, int]] = Counter()
        channel: Channel[tuple[int, int]] = Channel(
            "c", capacity, policy, on_drop=lambda item, _why: dropped.append(item)
        )

        async def write(number: int, count: int) -> None:
            for item in range(count):
                try:
                    await channel.put((number, item))
                except ChannelClosedError:
                    return
                accepted[number, item] += 1
                await asyncio.sleep(0)

        async def read() -> None:
            async for item in channel:
                taken.append(item)
                await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(write(number, count)) for number, count in enumerate(writers)]
        reading = [asyncio.ensure_future(read()) for _ in range(readers)]
        for tick in range(60):
            if tick in cancelled and reading[:-1]:
                reading.pop(0).cancel()
            if tick == close_after:
                channel.close()
            await asyncio.sleep(0)
        if policy == "block":
            # nobody is left hanging: readers drain what blocked writers bring
            await asyncio.wait_for(asyncio.gather(*tasks), 5)
        await asyncio.gather(*tasks)
        channel.close()
        await asyncio.wait_for(asyncio.gather(*reading), 5)
        assert Counter(taken) + Counter(dropped) == accepted
        assert max(Counter(taken).values(), default=1) == 1
        for number in range(len(writers)):
            mine = [item for writer, item in taken if writer == number]
            if readers == 1:
                assert mine == sorted(mine)

    asyncio.run(main())
