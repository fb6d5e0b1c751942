"""Whatever becomes of one stream, the others and the control over all of them stay."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Literal

import pytest
from plugins.fleets import camera, state, until, with_fleet

from vrseg.pipeline import outputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Never

    from vrseg.fleet import Fleet
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
