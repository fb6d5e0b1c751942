"""One thread that asks a GPU's decoders on behalf of several, a picture of each in turn."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Turns:
    """Runs jobs of several threads on one thread, each a step at a time. A job is to decode some packets.

    To ask NVDEC for a picture is to wait for the one before. Who asks another decoder meanwhile finds the first one's
    done when he comes back, and does not sleep. What runs after a sleep, be it of a millisecond, takes two to four
    times as long as what runs on and on, so this saves more than the waking.
    """

    def __init__(self, name: str, begin: Callable[[], None]) -> None:
        """Store what is given; `begin` is called on the thread, before its first step."""
        self._begin = begin
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Let the thread go, and wait until it has gone. When nobody has a job any more."""
        self._jobs.put(None)
        self._thread.join()

    def work(self, steps: Iterator[None]) -> None:
        """Let the thread do all steps, and wait for that. Raises what one of them raised; the rest is not done."""
        job = _Job(steps)
        self._jobs.put(job)
        job.wait()

    def _work(self) -> None:
        begin = _Job(iter(self._begin, None))
        begin.step()
        under_way: deque[_Job] = deque()
        while True:
            if not under_way or not self._jobs.empty():
                job = self._jobs.get()
                if job is None:
                    return
                under_way.append(job)
            else:
                job = under_way.popleft()
                if begin.error is not None:
                    job.give_up(begin.error)
                elif job.step():
                    under_way.append(job)
            del job  # it holds what was decoded, while the next is waited for


class _Job:
    """Steps that somebody waits for."""

    def __init__(self, steps: Iterator[None]) -> None:
        self._steps = steps
        self.error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def step(self) -> bool:
        """Do the next step; tell whether there may be another."""
        try:
            next(self._steps)
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 -- it is raised again where the job came from
            self.error = error
        else:
            return True
        self._done.release()  # not in the handler, which holds the error until it ends
        return False

    def give_up(self, error: BaseException) -> None:
        """Do no more of it."""
        self.error = error
        self._done.release()

    def wait(self) -> None:
        """Wait until all is done.

        Raises: what a step raised.
        """
        self._done.acquire()
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback leads here: what was decoded would be held until somebody collects garbage
