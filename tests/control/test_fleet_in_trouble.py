"""Whatever becomes of one stream, the others and the control over all of them stay."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Literal

import pytest
from plugins.fleets import camera, running_of, state, until, with_fleet

from vrseg.config.schema import Stream
from vrseg.errors import DeviceError
from vrseg.fleet import BusyError, Fleet
from vrseg.pipeline import outputs
from vrseg.running import models_at_work

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Never

    from vrseg.frame import Frame
    from vrseg.running import Running


class DeadDisk:
    """A result sink that hangs where it is told to, until it is let go."""

    def __init__(self, where: Literal["process", "close"]) -> None:
        self.hangs = threading.Event()
        self.gone = threading.Event()
        self._where = where

    def open(self) -> None: ...

    def process(self, _frame: Frame, /) -> Iterable[Never]:
        self._hang("process")
        return ()

    def flush(self) -> Iterable[Never]:
        return ()

    def close(self) -> None:
        self._hang("close")

    def _hang(self, where: str) -> None:
        if where == self._where:
            self.hangs.set()
            self.gone.wait(20)


class Dying:
    """A result sink on a device that fails."""

    def open(self) -> None:
        raise DeviceError("cuda:0: an illegal memory access was encountered")

    def process(self, _frame: Frame, /) -> Iterable[Never]:
        return ()

    def flush(self) -> Iterable[Never]:
        return ()

    def close(self) -> None: ...


@pytest.fixture(params=["process", "close"])
def disk(request: pytest.FixtureRequest) -> Iterator[DeadDisk]:
    disk = DeadDisk(request.param)
    yield disk
    disk.gone.set()


def test_a_disk_that_hangs_for_ever_keeps_nobody_from_the_other_streams(
    disk: DeadDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "PATIENCE_S", 0.3)

    async def work(fleet: Fleet, running: Running) -> None:
        await until(lambda: state(running, "a") == "running" and state(running, "b") == "running")
        if disk._where == "process":
            await until(disk.hangs.is_set)
        fleet.order("a", "pause", 0.1)
        await until(lambda: fleet.members["a"].paused, 5)
        assert running.recorder.streams["a"].ledger.unaccounted == 0
        assert running.recorder.streams["a"].ledger.held == 0
        running.extra_results = {}
        fleet.resume("a")
        before = running.recorder.streams["a"].ledger.delivered
        await until(lambda: running.recorder.streams["a"].ledger.delivered > before)
        disk.gone.set()
        await asyncio.sleep(0.1)
        assert running.recorder.streams["a"].ledger.unaccounted == 0
        assert state(running, "b") == "running"

    def with_disk(running: Running) -> None:
        running.extra_results = {"a": (disk,)}

    with_fleet(work, with_disk, a=camera(), b=camera())


def test_no_room_for_the_thread_of_an_outlet_makes_one_stream_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    room = False
    start = threading.Thread.start

    def start_where_there_is_room(self: threading.Thread) -> None:
        if self.name == "a.outlet" and not room:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_where_there_is_room)

    async def work(_fleet: Fleet, running: Running) -> None:
        nonlocal room
        await until(lambda: state(running, "a") == "reconnecting" and state(running, "b") == "running")
        assert "no room for the thread a.outlet" in running.recorder.streams["a"].detail
        room = True
        await until(lambda: state(running, "a") == "running")

    telling = camera()
    telling["source"]["reconnect"] = {"initial": "100ms"}
    with_fleet(work, a=telling | {"results": [{"uri": "http://127.0.0.1:9/hook"}]}, b=camera())


def test_nothing_is_changed_once_all_has_ended() -> None:
    async def main() -> None:
        running = running_of(a={"source": {"uri": "synthetic:64x48@30?frames=3"}})
        async with asyncio.timeout(60), models_at_work(running):
            fleet = Fleet(running)
            assert await fleet.run() == []
            for _ in range(2):
                with pytest.raises(BusyError, match="the stop is under way"):
                    fleet.order("a", "restart", 5)
                with pytest.raises(BusyError, match="the stop is under way"):
                    fleet.resume("a")
                with pytest.raises(BusyError, match="the stop is under way"):
                    fleet.admit("b", Stream.model_validate(camera()))
                with fleet.closed("a reload"):
                    pass  # one that was cut short by the end does not open the door again

    asyncio.run(main())


def test_nothing_is_changed_while_a_failure_ends_all() -> None:
    refused: list[str] = []

    async def work(fleet: Fleet, running: Running) -> None:
        await until(lambda: state(running, "a") == "running")
        running.extra_results = {"a": (Dying(),)}
        fleet.order("a", "restart", 5)
        try:
            await asyncio.sleep(60)
        finally:
            try:
                fleet.order("b", "restart", 5)
            except BusyError as error:
                refused.append(str(error))

    with pytest.raises(DeviceError):
        with_fleet(work, a=camera(), b=camera())
    assert refused == ["the stop is under way; ask again when it is done"]
