"""How the kernel schedules the threads of encoders: as all others."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_real_time() -> Iterator[None]:
    """Take back from this thread, and from all that start within the block, the real-time priority they get there.

    SVT-AV1, where root runs it, puts its threads and the one that opens it before everything else on the machine: other
    streams, and other programs, get what it leaves.
    """
    if sys.platform != "linux":
        yield
        return
    try:
        policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    except OSError:  # not allowed here: then nobody gets real time either
        yield
        return
    before = _threads()
    try:
        yield
    finally:
        for thread in (_threads() - before) | {threading.get_native_id()}:
            with suppress(OSError):  # it has ended, or may not be changed
                if os.sched_getscheduler(thread) in {os.SCHED_FIFO, os.SCHED_RR}:
                    os.sched_setscheduler(thread, policy, parameters)


def _threads() -> set[int]:
    try:
        return {int(task.name) for task in Path("/proc/self/task").iterdir()}
    except OSError:  # no descriptor left, or no /proc: an encoder is worth more than its priority
        return set()
