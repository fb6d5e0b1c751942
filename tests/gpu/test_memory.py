"""Events that are recorded again instead of made anew: each mark still stands for its own moment."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
from plugins.gpu_on_cpu import Event
from plugins.late_gpu import void

from vrseg.gpu.memory import Pool, elapsed_s

if TYPE_CHECKING:
    import pytest

    from vrseg.gpu.device import Gpu


def test_a_block_is_complete_for_each_borrower_when_its_own_writing_is_done(late_gpu: Gpu) -> None:
    pool = Pool(late_gpu, "device", 1, limit=1, name="test")
    stream: Any = late_gpu.new_stream()
    marks = []
    for value in (7, 8):
        lease = pool.lend(stream)
        address, written = lease.address, np.array([value], np.uint8)
        stream.put(lambda at=address, source=written: void(ctypes.memmove(at, source.ctypes.data, 1)))
        marks.append(lease.written_on(stream))
        assert not marks[-1].done
        marks[-1].synchronize()
        assert ctypes.c_uint8.from_address(address).value == value
        lease.release()
    assert marks[0] is marks[1]


def test_a_new_borrower_comes_after_readers_that_are_at_work_and_does_not_wait_for_others(late_gpu: Gpu) -> None:
    pool = Pool(late_gpu, "device", 1, limit=1, name="test")
    reader: Any = late_gpu.new_stream()
    for late in (True, False):
        read: list[bool] = []
        lease = pool.lend(reader)
        reader.put(lambda done=read: done.append(True))
        lease.read_on(reader)
        lease.release()
        if not late:
            reader.synchronize()
        writer: Any = late_gpu.new_stream()
        lease = pool.lend(writer)
        assert writer.begun == late
        writer.synchronize()
        assert read
        lease.release()


def test_what_is_timed_again_and_again_makes_no_more_events(gpu_on_cpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    made = count_events(monkeypatch)
    pool = Pool(gpu_on_cpu, "device", 64, limit=1, name="test", timed=True)
    stream, clock = gpu_on_cpu.new_stream(), gpu_on_cpu.clock
    for _ in range(5):
        lease = pool.lend(stream)
        assert lease.begun is not None
        assert clock.elapsed_s(lease.begun, clock.mark(stream)) == 0.0015
        lease.release()
    assert len(made) == 2


def test_marks_under_way_are_not_recorded_again(gpu_on_cpu: Gpu) -> None:
    stream, clock = gpu_on_cpu.new_stream(), gpu_on_cpu.clock
    marks = [clock.mark(stream) for _ in range(4)]
    clock.elapsed_s(*marks[:2])
    again = [clock.mark(stream) for _ in range(3)]
    assert len({id(mark) for mark in marks + again}) == 5
    assert elapsed_s(marks[2], again[2]) > 0


def count_events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Collect the events that are made from now on."""
    made: list[Event] = []
    make = Event.__init__

    def noted(self: Event, *, block: bool, disable_timing: bool) -> None:
        make(self, block=block, disable_timing=disable_timing)
        made.append(self)

    monkeypatch.setattr(Event, "__init__", noted)
    return made
