"""Pictures of a stream as JPEG, made while somebody watches, once for all who do."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vrseg.frame import Frame
    from vrseg.pipeline.tap import Tap
    from vrseg.pipeline.worker import Worker
    from vrseg.stage import Stage
    from vrseg.viewing.found import Found

    AnyStage: TypeAlias = Stage[Frame, Frame] | Stage[Frame, bytes]

_log = structlog.get_logger(__name__)

MOST_PER_S = 10.0
"""Pictures of one tap; more would cost a core and show little more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture for all viewers."""

    number: int
    """Rises from picture to picture."""
    jpeg: bytes = field(repr=False)
    found: Found | None
    taken: float
    """Unix time in seconds at which the frame was decoded."""


class Feed:
    """The newest picture at one tap. Lives on the event loop; the work is done on `worker`'s thread.

    Nothing queues: one frame at most is held, until the thread, which all feeds share, has made a JPEG of it. Frames
    that pass meanwhile are not looked at. Viewers get the newest picture when they are ready for one.
    """

    def __init__(
        self,
        tap: Tap,
        worker: Worker,
        make_stages: Callable[[], Sequence[AnyStage]],
        sum_up: Callable[[Frame], Found | None],
    ) -> None:
        """Store what is given.

        Args:
            tap: where the frames pass.
            worker: a thread that has been started.
            make_stages: gives what a frame goes through, to its JPEG at the end.
            sum_up: says what was found in a frame.
        """
        self._tap = tap
        self._worker = worker
        self._make_stages = make_stages
        self._sum_up = sum_up
        self._stages: tuple[AnyStage, ...] = ()
        self._viewers = 0
        self._watching = 0
        """How often the last viewer has left."""
        self._due_s = 0.0
        self._number = 0
        self._latest: Picture | None = None
        self._making: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Pictures are made inside the block, as long as one viewer is in one."""
        self._viewers += 1
        self._tap.watch = self._see
        try:
            yield
        finally:
            self._viewers -= 1
            if self._viewers == 0:
                self._tap.watch = None
                self._watching += 1
                self._latest = None  # what is shown is never older than the watching
                self._close()

    async def next(self, after: int, timeout_s: float) -> Picture | None:
        """Return the newest picture whose number is higher than `after`; None when none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._latest is None or self._latest.number <= after:
                    await self._news.wait()
        except TimeoutError:
            return None
        return self._latest

    def _see(self, frame: Frame) -> None:
        now_s = time.monotonic()
        if self._making is not None or now_s < self._due_s:
            return
        # From when it was due, not from now: else frames that come every 33 ms would be taken every 133, not 100.
        self._due_s = max(self._due_s + 1 / MOST_PER_S, now_s)
        self._making = asyncio.get_running_loop().create_task(self._make(frame, self._watching))

    async def _make(self, frame: Frame, watching: int) -> None:
        taken = time.time() - (time.monotonic() - frame.decoded_s)
        try:
            if watching != self._watching:
                return  # the stages are being closed
            jpeg, found = await self._worker.submit(self._work, frame)
        except Exception as error:  # noqa: BLE001 -- no memory, a fault of a library: there will be another frame
            reason = type(error).__name__
            _log.warning("no picture for viewers", stream=frame.stream, reason=reason, detail=str(error))
            return
        finally:
            self._making = None
        if watching == self._watching:
            self._number += 1
            self._latest = Picture(number=self._number, jpeg=jpeg, found=found, taken=taken)
            news, self._news = self._news, asyncio.Event()
            news.set()

    def _work(self, frame: Frame) -> tuple[bytes, Found | None]:
        if not self._stages:
            self._stages = _opened(self._make_stages())
        item: Frame | bytes = frame
        for stage in self._stages:
            (item,) = stage.process(item)  # type: ignore[arg-type] # frames up to the last, which gives bytes
        assert isinstance(item, bytes)  # noqa: S101 -- for the type checker
        return item, self._sum_up(frame)

    def _close(self) -> None:
        def close() -> None:
            stages, self._stages = self._stages, ()
            for stage in stages:
                stage.close()

        self._worker.submit(close)


def _opened(stages: Sequence[AnyStage]) -> tuple[AnyStage, ...]:
    """Open all of them, or none."""
    try:
        for stage in stages:
            stage.open()
    except BaseException:
        for stage in stages:
            stage.close()
        raise
    return tuple(stages)
