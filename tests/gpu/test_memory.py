"""Events that are recorded again instead of made anew: each mark still stands for its own moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugins.gpu_on_cpu import Event

from vrseg.gpu.memory import Pool, elapsed_s

if TYPE_CHECKING:
    import pytest

    from vrseg.gpu.device import Gpu


def test_a_new_borrower_comes_after_readers_that_are_at_work_and_does_not_wait_for_others(late_gpu: Gpu) -> None:
    pool = Pool(late_gpu, "device", 1, limit=1, name="test")
    reader: Any = late_gpu.new_stream()
    for late in (True, False):
        read: list[bool] = []
        lease = pool.lend(reader)
        reader.put(lambda done=read: done.append(True))
        lease.used_on(reader)
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


def test_who_gives_a_block_back_unused_leaves_its_readers_to_the_next(late_gpu: Gpu) -> None:
    pool = Pool(late_gpu, "device", 1, limit=1, name="test")
    reader: Any = late_gpu.new_stream()
    read: list[bool] = []
    lease = pool.lend(reader)
    reader.put(lambda: read.append(True))
    lease.used_on(reader)
    lease.release()
    pool.lend(late_gpu.new_stream()).release()  # not used after all
    writer: Any = late_gpu.new_stream()
    lease = pool.lend(writer)
    writer.synchronize()
    assert read, "it comes after the reader"
    lease.release()
