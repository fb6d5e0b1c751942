"""Stopping has two steps: the first signal drains, within a deadline; the second cancels."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import structlog

# `timeout` and some supervisors signal the process and then its group: that is one wish, told twice.
ECHO_S = 0.2


@contextmanager
def drain_on_signals(
    stop: asyncio.Event, drain_timeout_s: Callable[[], float], log: structlog.stdlib.BoundLogger
) -> Iterator[None]:
    """Within the block, SIGTERM and SIGINT set `stop`; a second one, or the deadline, cancels the task.

    `drain_timeout_s` is asked when the first comes: a reload may have changed it.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 -- a coroutine always runs in a task
    deadline: asyncio.TimerHandle | None = None
    first_s = 0.0

    def give_up(reason: str) -> None:
        log.warning("not waiting any longer", reason=reason)
        task.cancel()

    def on_signal(name: str) -> None:
        nonlocal deadline, first_s
        if stop.is_set():
            if loop.time() - first_s > ECHO_S:
                give_up(f"second signal ({name})")
            return
        first_s = loop.time()
        timeout_s = drain_timeout_s()
        log.info("draining", signal=name, timeout_s=timeout_s)
        stop.set()
        deadline = loop.call_later(timeout_s, give_up, "drain timeout")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            if stop.is_set():
                signal.signal(number, signal.SIG_IGN)  # an echo must not kill what is all but gone
        if deadline is not None:
            deadline.cancel()
