"""Events that are recorded again instead of made anew: each mark still stands for its own moment."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.gpu_on_cpu import CONTEXT, Event

import vrseg.gpu.counts
from vrseg.errors import DeviceError
from vrseg.gpu import memory
from vrseg.gpu.block import allocate
from vrseg.gpu.counts import CountsSnapshot
from vrseg.gpu.device import Gpu
from vrseg.gpu.memory import Pool, elapsed_s, recorded

if TYPE_CHECKING:
    from random import Random

    from plugins.gpu_on_cpu import Contexts

    from vrseg.gpu.memory import Lease


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


def test_a_closed_pool_lends_nothing_and_frees_what_comes_back(gpu_on_cpu: Gpu) -> None:
    pool = Pool(gpu_on_cpu, "device", 64, limit=64, name="test")
    leases = [pool.lend() for _ in range(16)]
    pool.close()
    assert gpu_on_cpu.counts.snapshot().device_bytes == 16 * 64
    with pytest.raises(DeviceError, match="was closed"):
        pool.lend()
    for lease in leases:
        lease.release()
    assert gpu_on_cpu.counts.snapshot().device_bytes == 0


def test_who_waits_for_a_block_is_told_when_the_pool_is_closed(gpu_on_cpu: Gpu) -> None:
    pool = Pool(gpu_on_cpu, "device", 64, limit=1, name="test")
    held = pool.lend()
    threading.Timer(0.05, pool.close).start()
    with pytest.raises(DeviceError, match="was closed"):
        pool.lend()
    held.release()


@given(order=st.randoms(use_true_random=False), limit=st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_no_two_have_one_block_and_none_is_lost(order: Random, limit: int) -> None:
    """Over blocks that nobody allocates: what is counted and lent is the same with them."""
    with pytest.MonkeyPatch.context() as patch:
        names = itertools.count(1)
        patch.setattr(memory, "allocate", lambda *_: Named(next(names)))
        gpu = Gpu(index=0, name="none", compute_capability=(9, 0), memory_bytes=1 << 30)
        pool = Pool(gpu, "device", 64, limit=limit, name="test")
        held: list[Lease] = []
        for _ in range(60):
            if len(held) < limit and order.random() < 0.55:
                held.append(pool.lend())
            elif held:
                held.pop(order.randrange(len(held))).release()
            if order.random() < 0.05:
                pool.free_idle()
            assert len({lease.address for lease in held}) == len(held)
            snapshot = gpu.counts.snapshot()
            assert len(held) * 64 <= snapshot.device_bytes <= limit * 64
        pool.close()
        assert gpu.counts.snapshot().device_bytes == len(held) * 64
        held.clear()
        assert gpu.counts.snapshot().device_bytes == 0


def test_many_that_find_nothing_at_once_do_not_each_make_spare_blocks(
    gpu_on_cpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen cameras whose frames come at one moment: each eighth would be one of all the eighths before."""

    def slow(*arguments: Any) -> Any:
        time.sleep(0.002)
        return allocate(*arguments)

    monkeypatch.setattr(memory, "allocate", slow)
    pool = Pool(gpu_on_cpu, "device", 64, limit=10_000, name="test")
    held = [pool.lend() for _ in range(80)]
    together = threading.Barrier(16)

    def work() -> None:
        together.wait()
        held.append(pool.lend())

    for _ in range(3):
        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({lease.address for lease in held}) == 128
    assert pool.made <= 128 * 9 / 8 + 1


def test_more_threads_than_blocks_all_get_their_turn(gpu_on_cpu: Gpu) -> None:
    pool, turns = Pool(gpu_on_cpu, "device", 64, limit=3, name="test"), [0] * 7

    def work(number: int) -> None:
        for _ in range(150):
            leases = [pool.lend()]
            time.sleep(0)
            leases.clear()
            turns[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert turns == [150] * 7
    assert pool.made <= 3


@pytest.mark.parametrize("where", ["counting", "reading the counts", "lending"])
def test_a_lease_may_be_dropped_in_the_middle_of_anything(
    gpu_on_cpu: Gpu, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A collection runs where it likes, also where its thread holds a lock, be its pool closed by then or not."""

    class CollectingDict(dict[str, int]):
        def __setitem__(self, name: str, amount: int) -> None:
            gc.collect()
            super().__setitem__(name, amount)

    class CollectingList(list[Any]):
        def __bool__(self) -> bool:
            gc.collect()
            return len(self) > 0

    class Cycle:
        def __init__(self, lease: Lease) -> None:
            self.itself, self.lease = self, lease

    counts = gpu_on_cpu.counts
    pool, closed = (Pool(gpu_on_cpu, "device", 64, limit=64, name="test") for _ in range(2))

    def collecting(*arguments: Any, **named: Any) -> Any:
        gc.collect()
        return CountsSnapshot(*arguments, **named)

    def work() -> None:
        if where == "counting":
            counts._totals = CollectingDict(counts._totals)
            counts.add(launches=1)
        elif where == "reading the counts":
            monkeypatch.setattr(vrseg.gpu.counts, "CountsSnapshot", collecting)
            counts.snapshot()
        else:
            pool._free = CollectingList(pool._free)
            pool.lend()

    gc.disable()
    try:
        Cycle(pool.lend())
        Cycle(closed.lend())
        closed.close()
        assert counts.snapshot().device_bytes == 2 * 64
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "it waits for a lock that it holds itself"
    finally:
        gc.enable()
    pool.close()
    assert counts.snapshot().device_bytes == 0


def test_an_event_that_two_tell_of_is_asked_once(gpu_on_cpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who draws notes the event of its work, and the picture that comes of it notes the same."""
    stream, asked = gpu_on_cpu.new_stream(), []
    pool = Pool(gpu_on_cpu, "device", 64, limit=1, name="test")
    lease = pool.lend(stream)
    ready = recorded(stream)
    lease.used_until(ready)
    lease.used_until(ready)
    lease.release()
    monkeypatch.setattr(Event, "done", property(lambda event: asked.append(event) is None))  # type: ignore[func-returns-value]
    pool.lend(stream)
    assert asked == [ready]


@pytest.mark.parametrize("closed", [False, True])
def test_a_lease_that_ends_among_garbage_finds_the_events_of_its_block_as_they_were(
    any_gpu: Gpu, *, closed: bool
) -> None:
    """A collector finalises what it has found in any order, and CuPy's events are destroyed then."""

    class Cycle:
        def __init__(self, lease: Lease) -> None:
            self.itself, self.lease = self, lease

    any_gpu.use()
    stream = any_gpu.new_stream()
    gc.collect()
    gc.disable()
    try:
        older = recorded(stream)  # and so found first
        pool = Pool(any_gpu, "device", 64, limit=1, name="test")
        lease = pool.lend(stream)
        lease.used_until(older)
        if closed:
            pool.close()
        cycle = Cycle(lease)
        del older, lease, cycle
        gc.collect()
    finally:
        gc.enable()
    assert any_gpu.counts.snapshot().device_bytes == (0 if closed else 64)
    if not closed:
        pool.lend(stream)


@pytest.mark.parametrize("context", [0, 0xBAD])
def test_a_thread_of_another_context_frees_in_that_of_the_memory_and_has_its_own_again(
    gpu_on_cpu: Gpu, contexts_on_cpu: Contexts, monkeypatch: pytest.MonkeyPatch, context: int
) -> None:
    """Without naming its own to the driver: who names one that is gone may be answered with a crash."""
    waited: list[int] = []
    monkeypatch.setattr(Event, "synchronize", lambda _: waited.append(contexts_on_cpu.stack[-1]))
    pool = Pool(gpu_on_cpu, "device", 64, limit=1, name="test")
    lease = pool.lend(gpu_on_cpu.new_stream())
    lease.used_on(gpu_on_cpu.new_stream())
    pool.close()
    contexts_on_cpu.stack[:] = [context]
    lease.release()
    assert waited == [CONTEXT]
    assert contexts_on_cpu.stack == [context]


def test_a_context_that_is_gone_takes_its_memory_along_and_is_said(gpu_on_cpu: Gpu, contexts_on_cpu: Contexts) -> None:
    pool = Pool(gpu_on_cpu, "device", 64, limit=1, name="test")
    lease = pool.lend(gpu_on_cpu.new_stream())
    pool.close()
    contexts_on_cpu.alive.clear()
    with pytest.raises(DeviceError, match=r"^the CUDA driver gives no context: CUDA_ERROR_CONTEXT_IS_DESTROYED$"):
        lease.release()


class Named:
    """A `Block` that is a number."""

    def __init__(self, address: int) -> None:
        self.address = address
        self.uses: list[Any] = []

    def free(self) -> None: ...
