"""Errors of the CUDA libraries, in words of vrseg, whatever stage they come from."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vrseg.errors import DeviceError, DeviceMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vrseg.stage import Stage, Together

In = TypeVar("In")
Out = TypeVar("Out")

# CUDA's runtime, its driver, and the libraries that pass on what these say.
_NO_MEMORY = ("cudaerrormemoryallocation", "out of memory", "out_of_memory")


class Guarded(Generic[In, Out]):
    """A stage whose CUDA errors are DeviceErrors: they end the process, which a service manager starts anew.

    But want of memory is a `DeviceMemoryError`, and ends the stage only.

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


@contextmanager
def failing_as_device(what: str) -> Iterator[None]:
    """Turn errors of the CUDA libraries into DeviceErrors, and those for want of memory into DeviceMemoryErrors.

    Almost all others are sticky: every later call of the process fails too, so it must end.
    """
    import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

    try:
        yield
    except (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError) as error:
        if is_want_of_memory(error):
            raise no_memory(what, error) from error
        raise DeviceError(f"{what}: {first_line(error)}; run `vrseg doctor` for what is missing") from error


def is_want_of_memory(error: Exception) -> bool:
    """Tell whether a library of CUDA failed for want of memory, on which everything else goes on working."""
    return any(words in str(error).lower() for words in _NO_MEMORY)


def no_memory(what: str, error: Exception) -> DeviceMemoryError:
    """Make an error of what a library said for want of memory."""
    mend = "run fewer or smaller streams, or write a smaller batch.max_size"
    return DeviceMemoryError(f"{what}: {first_line(error)}; {mend}")


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
