"""An engine that is there at once, until the faster one is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import structlog

from vrseg.errors import ModelError
from vrseg.infer.tensorrt import PlanRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from vrseg.frame import Batch, Inference
    from vrseg.models.engine_cache import CachedEngine
    from vrseg.stage import Infer

_log = structlog.get_logger(__name__)
_TOLD_EVERY = 0.25
"""Progress that is worth a line in the log."""


class Build(Protocol):
    """See `BackgroundBuild`."""

    @property
    def fraction(self) -> float: ...
    def cached(self) -> CachedEngine | None: ...
    def set_aside(self) -> None: ...
    def start(self) -> None: ...
    def poll(self) -> Path | None: ...
    def close(self) -> None: ...


class SwappingEngine:
    """Serves with one engine while the plan of another is built, then swaps between two batches. An `Infer` stage.

    A plan that is there already is used from the start, and the first engine is never opened. When the build fails,
    or its engine does not run, that is logged once and the first engine goes on serving. All is done on the stage's
    own thread but the build, which is a process.
    """

    def __init__(self, first: Infer, *, build: Build, load: Callable[[Path], Infer], model: str) -> None:
        """Store what is given.

        Args:
            first: serves until the swap.
            build: makes the plan.
            load: constructs the engine of a plan.
            model: its name, for the log.
        """
        self._first = first
        self._build = build
        self._load = load
        self._model = model
        self._second: Infer | None = None
        self._serving: Infer = first
        self._building = False
        self._told = 0.0

    @property
    def swapped(self) -> bool:
        """True when the built engine serves."""
        return self._serving is not self._first

    @property
    def build_fraction(self) -> float | None:
        """How far the build has come, 0 to 1; None when nothing is being built."""
        return self._build.fraction if self._building else None

    @property
    def largest_batch(self) -> int:
        """Frames that the serving engine has room for. Raises AttributeError when it does not say."""
        serving: Any = self._serving
        return int(serving.largest_batch)

    def open(self) -> None:
        """Open the engine of a plan that is there; else the first one, and begin to build.

        Raises:
            ConfigError: others can write where plans are kept.
            DeviceError: the GPU failed.
            ModelError: the first engine cannot use the model.
        """
        found = self._build.cached()
        if found is not None and (engine := self._opened(found.plan)) is not None:
            self._serving = engine
            return
        self._first.open()
        if self._build.cached() is None:
            self._begin()

    def process(self, item: Batch, /) -> Iterable[Inference]:
        """Infer a batch with the best engine that there is.

        Raises:
            DeviceError: the GPU failed.
            ModelError: the engine failed on the batch.
        """
        if self._building:
            self._look_after_build()
        if self._second is None or self.swapped:
            return self._serving.process(item)
        try:
            results = tuple(self._second.process(item))
        except ModelError as error:
            self._give_up(error)
            return self._first.process(item)
        self._serving = self._second
        self._first.close()
        _log.info("TensorRT serves from now on", model=self._model)
        return results

    def flush(self) -> Iterable[Inference]:
        return self._serving.flush()

    def close(self) -> None:
        self._building = False
        self._build.close()
        if self._second is not None:
            self._second.close()
        self._first.close()

    def _begin(self) -> None:
        try:
            self._build.start()
        except ModelError as error:
            self._give_up(error)
            return
        self._building = True
        _log.info("TensorRT builds an engine; ONNX Runtime serves meanwhile", model=self._model)

    def _look_after_build(self) -> None:
        try:
            plan = self._build.poll()
        except ModelError as error:
            self._building = False
            self._give_up(error)
            return
        if self._build.fraction >= self._told + _TOLD_EVERY:
            self._told = self._build.fraction
            _log.info("TensorRT builds an engine", model=self._model, done=f"{self._told:.0%}")
        if plan is not None:
            self._building = False
            self._opened(plan)

    def _opened(self, plan: Path) -> Infer | None:
        """Open the engine of a plan; one that is refused is put aside, so that the next start builds it again."""
        engine = self._load(plan)
        try:
            engine.open()
        except ModelError as error:
            engine.close()
            if isinstance(error, PlanRefusedError):
                self._build.set_aside()
            self._give_up(error)
            return None
        self._second = engine
        return engine

    def _give_up(self, error: ModelError) -> None:
        if self._second is not None:
            self._second.close()
        self._second = None
        _log.warning("no TensorRT engine; ONNX Runtime serves", model=self._model, reason=str(error))
