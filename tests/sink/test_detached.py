from __future__ import annotations

import subprocess
import sys
import time

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


def test_a_name_that_nobody_resolves_does_not_keep_the_process_from_its_end() -> None:
    command = [sys.executable, "-c", _PROCESS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        started_s = time.monotonic()
        process.communicate("\n", timeout=30)
    assert process.returncode == 0
    assert time.monotonic() - started_s < 10
