"""Moments of a GPU's work, and the time between two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.gpu.memory import elapsed_s, recorded

if TYPE_CHECKING:
    import cupy


class Clock:
    """Timed events of one GPU, each recorded again and again: to make one costs two more calls of the driver.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._spare: list[cupy.cuda.Event] = []

    def mark(self, stream: cupy.cuda.Stream) -> cupy.cuda.Event:
        """Mark the present end of `stream`. The event goes back with `elapsed_s`; one that is dropped is lost."""
        try:
            event = self._spare.pop()
        except IndexError:
            return recorded(stream, timed=True)
        event.record(stream)
        return event

    def elapsed_s(self, begun: cupy.cuda.Event, done: cupy.cuda.Event) -> float:
        """Return how long the GPU took from one mark to another; it has come to both. Both are spent with it."""
        passed_s = elapsed_s(begun, done)
        self._spare += (begun, done)
        return passed_s
