from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
import weakref
from contextlib import suppress

from plugins.broker import wait_for

from vrseg.sink.detached import DetachedThreads

_PROCESS = """
import asyncio, time
from collections import Counter
import structlog
from vrseg.sink.outlet import Outlet

class Stuck:
    counts = Counter()
    waiting = 0
    async def run(self, mailbox):
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, int, "7") == 7
        print("at work", flush=True)
        await loop.run_in_executor(None, time.sleep, 60)
    def forget(self):
        pass

outlet = Outlet(Stuck(), structlog.get_logger(), name="stuck", kind="mqtt")
outlet.start()
input()
"""


def test_what_a_call_that_failed_held_is_let_go_at_once() -> None:
    held: list[weakref.ref[Held]] = []

    class Held:
        pass

    def fail() -> None:
        mine = Held()
        held.append(weakref.ref(mine))
        raise OSError("refused")

    async def play() -> None:
        with suppress(OSError):
            await asyncio.get_running_loop().run_in_executor(DetachedThreads(), fail)

    gc.disable()
    try:
        asyncio.run(play())
        wait_for(lambda: held[0]() is None)
    finally:
        gc.enable()


def test_a_name_that_nobody_resolves_does_not_keep_the_process_from_its_end() -> None:
    command = [sys.executable, "-c", _PROCESS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        started_s = time.monotonic()
        process.communicate("\n", timeout=30)
    assert process.returncode == 0
    assert time.monotonic() - started_s < 10
