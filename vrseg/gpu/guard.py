"""Errors of the CUDA libraries, in words of vrseg, whatever stage they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vrseg.gpu.device import failing_as_device

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vrseg.stage import Stage, Together

In = TypeVar("In")
Out = TypeVar("Out")


class Guarded(Generic[In, Out]):
    """A stage whose CUDA errors are DeviceErrors: they end the process, which a service manager starts anew.

    What else the stage has (`errors`, `batch`) is there as if this were not between.
    """

    def __init__(self, stage: Stage[In, Out], what: str) -> None:
        self._stage = stage
        self._what = what

    def open(self) -> None:
        with failing_as_device(self._what):
            self._stage.open()

    def process(self, item: In, /) -> Iterable[Out]:
        with failing_as_device(self._what):
            return list(self._stage.process(item))

    def flush(self) -> Iterable[Out]:
        with failing_as_device(self._what):
            return list(self._stage.flush())

    def close(self) -> None:
        with failing_as_device(self._what):
            self._stage.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)


class GuardedTogether(Guarded[In, Out]):
    """As `Guarded`, around a stage that is `Together`."""

    def process_together(self, items: Sequence[In], outputs: list[Out], /) -> None:
        stage: Together[In, Out] = self._stage  # type: ignore[assignment] # said above
        with failing_as_device(self._what):
            stage.process_together(items, outputs)
