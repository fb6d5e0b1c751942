"""How long the GPU works for a stage that only asks it to."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import cupy

    from vrseg.gpu.lane import Lane
    from vrseg.stage import Stage

In = TypeVar("In")
Out = TypeVar("Out")


class Timed(Generic[In, Out]):
    """A stage of a lane and how long its work takes. Implements `vrseg.stage.DeviceTimed`, a batch or two behind.

    The time counts from when the GPU came to the block of memory that the stage was lent: before, it waited for it.
    """

    def __init__(self, stage: Stage[In, Out], lane: Lane, begun: Callable[[Out], cupy.cuda.Event | None]) -> None:
        """Store what is given; `begun` finds the event in what the stage gives out."""
        self.device_s = 0.0
        self.lane = lane
        self._stage = stage
        self._begun = begun
        self._stream: cupy.cuda.Stream | None = None
        self._under_way: deque[tuple[cupy.cuda.Event, cupy.cuda.Event]] = deque()

    def open(self) -> None:
        self._stream = self.lane.open()
        self._stage.open()

    def process(self, item: In, /) -> Iterable[Out]:
        assert self._stream is not None  # noqa: S101 -- `open` comes first
        clock = self.lane.gpu.clock
        while self._under_way and self._under_way[0][1].done:
            self.device_s = clock.elapsed_s(*self._under_way.popleft())
        outputs = list(self._stage.process(item))
        begun = self._begun(outputs[0]) if outputs else None
        if begun is not None:
            self._under_way.append((begun, clock.mark(self._stream)))
        return outputs

    def flush(self) -> Iterable[Out]:
        return self._stage.flush()

    def close(self) -> None:
        self._under_way.clear()
        self._stage.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)
