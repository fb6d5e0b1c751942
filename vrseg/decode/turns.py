"""One thread that asks a GPU's decoders on behalf of many files, a picture of each in turn."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Fewer do better each on a thread of their own: a picture is waited for in any case, and the way here costs something.
_FEWEST = 4
# Of those at work one in so many is waited for before the thread begins. The others have pictures in store.
_SHARE = 4
_GATHER_S = 0.03
_AT_WORK_S = 0.25
"""Who had no job for so long is not waited for."""
_IDLE_S = 10.0
"""Then the thread goes, until it is wanted again."""


class Turns:
    """Runs jobs of several seats on one thread, each a step at a time. A job is to decode some packets of a stream.

    To ask NVDEC for a picture is to wait for the one before. Who asks for another stream's meanwhile finds his own
    done when he comes back, and does not sleep. What runs after a sleep, be it of a millisecond, takes two to four
    times as long as what runs on and on, so this saves more than the waking.

    For that several jobs must be under way at once; and files that wait for the same model come one after the other. So
    where many are at work, the first to come waits a little for others.
    """

    def __init__(self, name: str, begin: Callable[[], None]) -> None:
        """Store what is given; `begin` is called on the thread, before its first step."""
        self._name = name
        self._begin = begin
        self._seats: set[Seat] = set()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def seat(self) -> Seat:
        """Take part, as one who will have jobs."""
        seat = Seat(self)
        with self._lock:
            self._seats.add(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Take part no more. Safe to call twice."""
        with self._lock:
            self._seats.discard(seat)

    def work(self, steps: Iterator[None]) -> None:
        """Do all steps, and wait for that. Raises what one of them raised; the rest is not done."""
        if len(self._seats) < _FEWEST:
            deque(steps, maxlen=0)
            return
        job = _Job(steps)
        self._jobs.put(job)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        job.wait()

    def _work(self) -> None:
        self._begin()
        while under_way := self._gathered():
            while under_way:
                while not self._jobs.empty():
                    under_way.append(self._jobs.get())
                job = under_way.popleft()
                if job.step():
                    under_way.append(job)
                del job  # it holds what was decoded, while the next is waited for

    def _gathered(self) -> deque[_Job]:
        """Wait for a job, and then a little for others. None when none came for long."""
        came: deque[_Job] = deque()
        try:
            came.append(self._jobs.get(timeout=_IDLE_S))
            until_s = time.monotonic() + _GATHER_S
            while len(came) < self._at_work() // _SHARE:
                came.append(self._jobs.get(timeout=max(0.0, until_s - time.monotonic())))
        except queue.Empty:
            if not came:
                self._go_unless_wanted(came)
        return came

    def _go_unless_wanted(self, came: deque[_Job]) -> None:
        with self._lock:
            if self._jobs.empty():
                self._thread = None
            else:
                came.append(self._jobs.get())

    def _at_work(self) -> int:
        since_s = time.monotonic() - _AT_WORK_S
        with self._lock:
            return sum(seat.last_s > since_s for seat in self._seats)


class Seat:
    """One of those who take turns."""

    def __init__(self, turns: Turns) -> None:
        self.last_s = 0.0
        """Monotonic time of its last job."""
        self._turns = turns

    def work(self, steps: Iterator[None]) -> None:
        """As `Turns.work`."""
        self.last_s = time.monotonic()
        self._turns.work(steps)

    def leave(self) -> None:
        """As `Turns.leave`."""
        self._turns.leave(self)


class _Job:
    """Steps that somebody waits for."""

    def __init__(self, steps: Iterator[None]) -> None:
        self._steps = steps
        self._error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def step(self) -> bool:
        """Do the next step; tell whether there may be another."""
        try:
            next(self._steps)
        except StopIteration:
            self._done.release()
            return False
        except BaseException as error:  # noqa: BLE001 -- it is raised again where the job came from
            self._error = error
            self._done.release()
            return False
        return True

    def wait(self) -> None:
        """Wait until all is done.

        Raises: what a step raised.
        """
        self._done.acquire()
        if self._error is not None:
            raise self._error
