"""Whether the GPU answers is asked aside, and a device that hangs is told of, not waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest

from vrseg.errors import DeviceError
from vrseg.server import health
from vrseg.server.health import Health

if TYPE_CHECKING:
    from vrseg.gpu.device import Gpu


class StubbornHeart:
    """In place of `Heartbeat`: hangs while it is told to, and fails once it is told to."""

    hangs = threading.Event()
    fails = False
    beats = 0
    opened = 0
    threads: ClassVar[set[int]] = set()

    def __init__(self, _gpu: Gpu) -> None: ...

    def open(self) -> None:
        type(self).opened += 1

    def beat(self) -> None:
        type(self).beats += 1
        type(self).threads.add(threading.get_ident())
        type(self).hangs.wait(10)
        if self.fails:
            raise DeviceError("cuda:0: an illegal memory access was encountered")


@pytest.fixture
def heart(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(health, "Heartbeat", StubbornHeart)
    monkeypatch.setattr(health, "PATIENCE_S", 0.2)
    StubbornHeart.hangs = threading.Event()
    StubbornHeart.fails = False
    StubbornHeart.beats = StubbornHeart.opened = 0
    StubbornHeart.threads.clear()
    return StubbornHeart


def test_a_cpu_is_well() -> None:
    assert asyncio.run(Health(None).ill()) == ""


def test_a_gpu_that_hangs_is_ill_and_asked_once(heart: type[StubbornHeart]) -> None:
    async def main() -> None:
        one = Health(cast("Gpu", object()))
        async with one.at_work():
            began_s = time.monotonic()
            assert "not answered" in await one.ill()
            assert "not answered" in await one.ill()
            assert time.monotonic() - began_s < 2
            assert heart.beats == 1
            heart.hangs.set()
            await asyncio.sleep(0.1)
            assert await one.ill() == ""

    asyncio.run(main())


def test_the_gpu_is_asked_from_one_thread_with_what_was_taken_once(
    heart: type[StubbornHeart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "GOOD_FOR_S", -1.0)

    async def main() -> None:
        heart.hangs.set()
        one = Health(cast("Gpu", object()))
        async with one.at_work():
            began = threading.active_count()
            for _ in range(3):
                assert await one.ill() == ""
            assert threading.active_count() == began, "there may be no room for another thread when it matters"
        assert (heart.beats, heart.opened, len(heart.threads)) == (3, 1, 1)
        assert threading.get_ident() not in heart.threads

    asyncio.run(main())


def test_a_gpu_that_failed_is_ill_and_says_why(heart: type[StubbornHeart]) -> None:
    async def main() -> None:
        heart.hangs.set()
        one = Health(cast("Gpu", object()))
        async with one.at_work():
            assert await one.ill() == ""
            heart.fails = True
            assert await one.ill() == "", "an answer is good for a second"
            await asyncio.sleep(1.1)
            assert "illegal memory access" in await one.ill()
            assert heart.beats == 2

    asyncio.run(main())
