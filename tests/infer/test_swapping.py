"""An engine that serves while another is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from vrseg.errors import ConfigError, DeviceError, ModelError
from vrseg.frame import Batch, Inference
from vrseg.infer.swapping import SwappingEngine
from vrseg.infer.tensorrt import PlanRefusedError
from vrseg.models.engine_cache import CachedEngine

if TYPE_CHECKING:
    from collections.abc import Iterable

PLAN = Path("toy.plan")
BATCH = Batch(frames=(), placements=(), tensor=None)


class Engine:
    """Says its own name, and writes down what is done to it."""

    largest_batch = 8

    def __init__(self, name: str, events: list[str]) -> None:
        self.name = name
        self.fails_to: dict[str, Exception] = {}
        self._events = events

    def _did(self, what: str) -> None:
        if what in self.fails_to:
            raise self.fails_to[what]
        self._events.append(f"{self.name} {what}")

    def open(self) -> None:
        self._did("opened")

    def process(self, _item: Batch, /) -> Iterable[Inference]:
        self._did("served")
        return (Inference(frames=(), placements=(), outputs={"by": self.name}),)

    def flush(self) -> Iterable[Inference]:
        self._did("flushed")
        return ()

    def close(self) -> None:
        self._did("closed")


class Build:
    """A build whose end the test decides."""

    def __init__(self, events: list[str]) -> None:
        self.fraction = 0.0
        self.plan: Path | None = None
        self.failure: ModelError | None = None
        self.there = False
        self._events = events

    def cached(self) -> CachedEngine | None:
        return CachedEngine(key="k", plan=PLAN, about={}, size_bytes=1) if self.there else None

    def set_aside(self) -> None:
        self.there = False
        self._events.append("plan put aside")

    def start(self) -> None:
        self._events.append("build started")

    def poll(self) -> Path | None:
        if self.failure is not None:
            raise self.failure
        return self.plan

    def close(self) -> None:
        self._events.append("build ended")


class Scene:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.build = Build(self.events)
        self.first, self.second = Engine("first", self.events), Engine("second", self.events)
        self.engine = SwappingEngine(self.first, build=self.build, load=self._load, model="toy")

    def _load(self, plan: Path) -> Any:
        assert plan == PLAN
        return self.second

    def served_by(self) -> str:
        (inference,) = self.engine.process(BATCH)
        return str(inference.outputs["by"])


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_first_engine_serves_until_the_plan_is_there(scene: Scene) -> None:
    scene.engine.open()
    assert [scene.served_by() for _ in range(3)] == ["first"] * 3
    scene.build.plan = PLAN
    assert [scene.served_by() for _ in range(3)] == ["second"] * 3
    assert scene.engine.swapped
    assert scene.events[-5:] == ["second opened", "second served", "first closed", "second served", "second served"]


def test_progress_is_known_while_something_is_built(scene: Scene) -> None:
    assert scene.engine.build_fraction is None
    scene.engine.open()
    scene.build.fraction = 0.4
    fractions = [scene.engine.build_fraction]
    scene.build.plan = PLAN
    scene.served_by()
    assert [*fractions, scene.engine.build_fraction] == [0.4, None]


def test_a_plan_that_is_there_spares_the_first_engine(scene: Scene) -> None:
    scene.build.there = True
    scene.engine.open()
    assert scene.served_by() == "second"
    assert list(scene.engine.flush()) == []
    assert scene.events == ["second opened", "second served", "second flushed"]


def test_a_cached_plan_that_is_refused_is_put_aside_and_built_again(scene: Scene) -> None:
    scene.build.there = True
    scene.second.fails_to = {"opened": PlanRefusedError("of another version")}
    scene.engine.open()
    assert scene.served_by() == "first"
    assert scene.events == ["second closed", "plan put aside", "first opened", "build started", "first served"]


def test_a_cached_plan_that_does_not_fit_is_not_built_again(scene: Scene) -> None:
    scene.build.there = True
    scene.second.fails_to = {"opened": ModelError("not enough memory")}
    scene.engine.open()
    assert scene.served_by() == "first"
    assert "build started" not in scene.events


def test_a_build_that_fails_is_told_once_and_the_first_engine_goes_on(scene: Scene) -> None:
    scene.engine.open()
    scene.build.failure = ModelError("the parser knows no Einsum")
    with capture_logs() as logs:
        assert [scene.served_by() for _ in range(3)] == ["first"] * 3
    assert [(one["log_level"], one["reason"]) for one in logs] == [("warning", "the parser knows no Einsum")]
    assert scene.engine.build_fraction is None


@pytest.mark.parametrize("step", ["opened", "served"])
def test_an_engine_that_does_not_run_costs_no_batch(step: str, scene: Scene) -> None:
    scene.engine.open()
    scene.build.plan = PLAN
    scene.second.fails_to = {step: ModelError("refused")}
    with capture_logs() as logs:
        assert [scene.served_by() for _ in range(2)] == ["first"] * 2
    assert [one["reason"] for one in logs if one["log_level"] == "warning"] == ["refused"]
    assert scene.events.count("second closed") == 1
    assert "first closed" not in scene.events


def test_a_broken_device_is_not_hidden(scene: Scene) -> None:
    scene.engine.open()
    scene.build.plan = PLAN
    scene.second.fails_to = {"served": DeviceError("an illegal memory access")}
    with pytest.raises(DeviceError):
        scene.served_by()


def test_a_cache_that_others_can_write_to_stops_the_start(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> None:
        raise ConfigError("others can write here")

    monkeypatch.setattr(Build, "cached", refused)
    with pytest.raises(ConfigError):
        scene.engine.open()
    scene.engine.close()


def test_closing_ends_the_build_and_both_engines(scene: Scene) -> None:
    scene.engine.open()
    scene.served_by()
    scene.engine.close()
    scene.engine.close()
    assert scene.events[3:5] == ["build ended", "first closed"]


def test_the_room_for_frames_is_that_of_the_engine_that_serves(scene: Scene) -> None:
    scene.first.largest_batch = 4
    scene.engine.open()
    assert scene.engine.largest_batch == 4
    scene.build.plan = PLAN
    scene.served_by()
    assert scene.engine.largest_batch == 8


def test_progress_is_told_by_quarters(scene: Scene) -> None:
    scene.engine.open()
    with capture_logs() as logs:
        for percent in range(0, 100, 5):
            scene.build.fraction = percent / 100
            scene.served_by()
    assert [one["done"] for one in logs] == ["25%", "50%", "75%"]
