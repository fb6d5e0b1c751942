"""How far a build has come, from the phases that TensorRT reports."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.models.tensorrt_api import TensorRt


@dataclass(slots=True, eq=False)
class _Phase:
    name: str
    steps: int
    done: int = 0
    running: list[_Phase] = field(default_factory=list)

    @property
    def fraction(self) -> float:
        inner = max((one.fraction for one in self.running), default=0.0)
        return min(1.0, (self.done + inner) / self.steps)


class BuildProgress:
    """Makes one number of nested phases.

    Names of phases come again and differ between versions, so only their nesting counts. A phase within another is
    part of one step of it. Called from threads of the library.
    """

    def __init__(self, report: Callable[[float], None], cancelled: Callable[[], bool]) -> None:
        self.fraction = 0.0
        """0 to 1, never less than before."""
        self._report = report
        self._cancelled = cancelled
        self._root = _Phase("", 1)
        self._open: list[_Phase] = []
        self._lock = threading.Lock()

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """Open a phase within the last one of the name `parent` that is open."""
        with self._lock:
            phase = _Phase(name, max(1, steps))
            self._last(parent).running.append(phase)
            self._open.append(phase)

    def step_complete(self, name: str, step: int) -> bool:
        """Count a step, from 0; returns False to end the build."""
        with self._lock:
            phase = self._last(name)
            phase.done = max(phase.done, step + 1)
            phase.running.clear()
            self._advance()
        return not self._cancelled()

    def phase_finish(self, name: str) -> None:
        """Close a phase. Steps that it did not report were not needed."""
        with self._lock:
            phase = self._last(name)
            phase.done = phase.steps
            phase.running.clear()
            self._advance()
            if phase in self._open:
                self._open.remove(phase)

    def finish(self) -> None:
        """Say that all is done."""
        self._root.done = 1
        self._advance()

    def monitor(self, trt: TensorRt) -> Any:
        """Return what the builder is given."""
        # The class to derive from is only known now; staticmethod, for the methods are bound to this object already.
        methods = {name: staticmethod(getattr(self, name)) for name in ("phase_start", "step_complete", "phase_finish")}
        return type("Monitor", (trt.IProgressMonitor,), methods)()

    def _last(self, name: str | None) -> _Phase:
        return next((phase for phase in reversed(self._open) if phase.name == name), self._root)

    def _advance(self) -> None:
        fraction = self._root.fraction
        if fraction > self.fraction:
            self.fraction = fraction
            self._report(fraction)
