"""A sink slowed to 2 frames/s, behind a real scene, network and encoder."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Never

import psutil
import pytest
from plugins.toys import Ear

from vrseg.assembly import credits_for, stream_stages
from vrseg.config.schema import Config
from vrseg.encode.cpu import PyavEncoder
from vrseg.encode.settings import EncodeSettings
from vrseg.pipeline.ledger import Ledger
from vrseg.pipeline.outputs import OutputStages
from vrseg.pipeline.stream import run_stream
from vrseg.plan import make_plan
from vrseg.running import Running, models_at_work
from vrseg.telemetry.logs import make_logger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from plugins.clips import MakeClip

    from vrseg.frame import EncodedPacket, Frame

pytestmark = pytest.mark.alone

MAX_AGE_S = 0.5


class SlowSink:
    def __init__(self, work_s: float) -> None:
        self.packets = 0
        self._work_s = work_s

    def open(self) -> None: ...

    def process(self, _packet: EncodedPacket, /) -> Iterable[Never]:
        time.sleep(self._work_s)
        self.packets += 1
        return ()

    def flush(self) -> Iterable[Never]:
        return ()

    def close(self) -> None: ...


class AgeingEncoder(PyavEncoder):
    """Notes how old each frame is when it comes."""

    def __init__(self, *, live: bool) -> None:
        super().__init__(EncodeSettings(live=live))
        self.ages_s: list[float] = []

    def process(self, item: Frame, /) -> Iterable[EncodedPacket]:
        self.ages_s.append(time.monotonic() - item.decoded_s)
        return super().process(item)


class Trial:
    """Streams of one model, each with a sink of a given slowness."""

    def __init__(self, streams: dict[str, tuple[str, float]], folder: Path) -> None:
        config = Config.model_validate(
            {
                "models": {"person": {"path": "demo"}},
                "streams": {name: {"source": {"uri": uri}, "model": "person"} for name, (uri, _) in streams.items()},
            }
        )
        self._plan = make_plan(config, folder)
        self.sinks = {name: SlowSink(work_s) for name, (_, work_s) in streams.items()}
        self.encoders = {name: AgeingEncoder(live=self._plan.live[name]) for name in streams}
        self.ledgers: dict[str, Ledger] = {}

    async def run(self, seconds: float | None) -> None:
        running = Running(self._plan, make_logger("text", "error"))
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, running.stop.set)
        async with models_at_work(running), asyncio.TaskGroup() as group:
            for name in self.sinks:
                group.create_task(self._stream(running, name))

    async def _stream(self, running: Running, name: str) -> None:
        plan, model = self._plan, running.models["person"]
        stages = stream_stages(
            name, plan.config.streams[name], plan.specs["person"], plan.backend, plan.base_dir, live=plan.live[name]
        )
        stages = replace(stages, outputs=(OutputStages(encode=self.encoders[name], sinks=(self.sinks[name],)),))
        self.ledgers[name] = Ledger(name, credits_for(model.max_batch, plan.backend), Ear())
        await run_stream(stages, model, self.ledgers[name], Ear(), running.stop)


def test_a_live_stream_stays_young_drops_with_a_reason_and_does_not_grow(tmp_path: Path) -> None:
    trial = Trial({"slow": ("synthetic:320x180@30", 0.5)}, tmp_path)

    async def main() -> list[int]:
        running = asyncio.ensure_future(trial.run(10))
        sizes = []
        while not running.done():
            await asyncio.sleep(0.5)
            sizes.append(psutil.Process().memory_info().rss)
        await running
        return sizes

    sizes = asyncio.run(main())
    ledger = trial.ledgers["slow"]
    assert max(trial.encoders["slow"].ages_s) < MAX_AGE_S
    assert trial.sinks["slow"].packets <= 24
    assert set(ledger.dropped) <= {"queue_full", "max_age"}
    assert ledger.dropped.total() > 200
    assert ledger.unaccounted == 0
    assert max(sizes[10:]) - max(sizes[4:10]) < 8 * 2**20


def test_the_stream_beside_it_is_not_slowed(tmp_path: Path) -> None:
    scene = "synthetic:320x180@20"
    alone = Trial({"quick": (scene, 0.0)}, tmp_path)
    asyncio.run(alone.run(5))
    both = Trial({"quick": (scene, 0.0), "slow": (scene, 0.5)}, tmp_path)
    asyncio.run(both.run(5))
    assert both.ledgers["quick"].delivered >= 0.9 * alone.ledgers["quick"].delivered
    assert both.ledgers["slow"].delivered < 20


def test_a_file_behind_the_same_sink_loses_no_frame(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=24)
    trial = Trial({"file": (str(clip), 0.1)}, tmp_path)
    asyncio.run(trial.run(None))
    assert trial.sinks["file"].packets == trial.ledgers["file"].delivered == 24
    assert not trial.ledgers["file"].dropped
