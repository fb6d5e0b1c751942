"""A thread that hangs, and those who wait for it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from vrseg.pipeline.worker import Worker


async def cancelled_at_work(worker: Worker, gate: threading.Event) -> asyncio.Task[bool]:
    """Return a cancelled task whose call waits for `gate`."""
    calling = asyncio.create_task(worker.call(gate.wait))
    await asyncio.sleep(0.05)
    calling.cancel()
    return calling


def test_a_cancelled_caller_waits_for_the_thread() -> None:
    async def main() -> None:
        gate = threading.Event()
        async with Worker("w") as worker:
            calling = await cancelled_at_work(worker, gate)
            _, waiting = await asyncio.wait([calling], timeout=0.3)
            assert waiting
            gate.set()
            with pytest.raises(asyncio.CancelledError):
                await calling

    asyncio.run(main())


def test_a_cancelled_caller_leaves_a_thread_that_hangs_to_itself() -> None:
    async def main() -> None:
        gate, closed = threading.Event(), threading.Event()
        async with Worker("w", patience_s=0.2) as worker:
            calling = await cancelled_at_work(worker, gate)
            async with asyncio.timeout(5):
                with pytest.raises(asyncio.CancelledError):
                    await calling
            began_s = time.monotonic()
            await worker.end(closed.set)
            assert time.monotonic() - began_s < 0.1, "nobody waits again"
        assert not closed.is_set()
        gate.set()
        assert closed.wait(5), "should it come back, it does what was left to do"

    asyncio.run(main())


def test_who_is_not_cancelled_waits_for_as_long_as_it_takes() -> None:
    async def main() -> None:
        async with Worker("w", patience_s=0.5) as worker:  # what a busy machine may take to come to a thread
            await worker.call(time.sleep, 0.8)
            calling = asyncio.create_task(worker.call(time.sleep, 0.02))
            await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait([calling])  # else what follows is queued before its last job, and it waits for that, too
            assert calling.cancelled()
            await worker.call(time.sleep, 0.8)  # another's end is not everybody's
            with pytest.raises(ZeroDivisionError):
                await worker.call(lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await worker.end(lambda: 1 / 0)  # type: ignore[arg-type]

    asyncio.run(main())
