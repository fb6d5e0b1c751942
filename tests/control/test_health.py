"""Whether the GPU answers is asked aside, and a device that hangs is told of, not waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, cast

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

    def __init__(self, _gpu: Gpu) -> None: ...

    def open(self) -> None: ...

    def beat(self) -> None:
        type(self).beats += 1
        type(self).hangs.wait(10)
        if self.fails:
            raise DeviceError("cuda:0: an illegal memory access was encountered")


@pytest.fixture
def heart(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(health, "Heartbeat", StubbornHeart)
    monkeypatch.setattr(health, "PATIENCE_S", 0.2)
    StubbornHeart.hangs = threading.Event()
    StubbornHeart.fails = False
    StubbornHeart.beats = 0
    return StubbornHeart


def test_a_cpu_is_well() -> None:
    assert asyncio.run(Health(None).ill()) == ""


def test_a_gpu_that_hangs_is_ill_and_asked_once(heart: type[StubbornHeart]) -> None:
    async def main() -> None:
        one = Health(cast("Gpu", object()))
        began_s = time.monotonic()
        assert "not answered" in await one.ill()
        assert "not answered" in await one.ill()
        assert time.monotonic() - began_s < 2
        assert heart.beats == 1
        heart.hangs.set()
        await asyncio.sleep(0.1)
        assert await one.ill() == ""

    asyncio.run(main())


def test_no_room_for_the_thread_that_asks_says_nothing_of_the_gpu(
    heart: type[StubbornHeart], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = True
    start = threading.Thread.start

    def start_where_there_is_room(self: threading.Thread) -> None:
        if self.name == "health" and not room:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_where_there_is_room)
    monkeypatch.setattr(health, "GOOD_FOR_S", 0.0)

    async def main() -> None:
        nonlocal room
        heart.hangs.set()
        one = Health(cast("Gpu", object()))
        assert await one.ill() == ""
        room = False
        assert await one.ill() == ""
        assert heart.beats == 1
        room = True
        assert await one.ill() == ""
        assert heart.beats == 2

    asyncio.run(main())


def test_a_gpu_that_failed_is_ill_and_says_why(heart: type[StubbornHeart]) -> None:
    async def main() -> None:
        heart.hangs.set()
        one = Health(cast("Gpu", object()))
        assert await one.ill() == ""
        heart.fails = True
        assert await one.ill() == "", "an answer is good for a second"
        await asyncio.sleep(1.1)
        assert "illegal memory access" in await one.ill()
        assert heart.beats == 2

    asyncio.run(main())
