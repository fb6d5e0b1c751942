"""One stream, from its source to its outputs, as one block that cannot leak a task or a frame."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from vrseg.pipeline.batcher import Inlet
from vrseg.pipeline.channel import Ageing, Channel, ChannelClosedError
from vrseg.pipeline.ingest import Ingest
from vrseg.pipeline.outputs import Supply, run_outputs
from vrseg.pipeline.presence import Presence
from vrseg.pipeline.run import opened, pump
from vrseg.pipeline.tap import Taps

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.frame import Frame
    from vrseg.pipeline.channel import DropReason, OnFull
    from vrseg.pipeline.ingest import IngestStages
    from vrseg.pipeline.ledger import Ledger
    from vrseg.pipeline.model import ModelRunner
    from vrseg.pipeline.observer import Observer, StageName
    from vrseg.pipeline.outputs import OutputStages
    from vrseg.stage import Render, ResultSink

# Behind the last queue a frame still has to get to the encoder's thread, and must not grow too old on the way.
LAST_CALL = 0.95
# A batch of frames; more at once would save little.
MOST_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRule:
    """Decoded frames that wait for the model."""

    size: int
    policy: OnFull
    max_age_s: float
    """0: no age is too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStages:
    """What one life of a stream is made of. The stages are used once."""

    ingest: IngestStages
    queue: QueueRule
    render: Render | None
    outputs: tuple[OutputStages, ...]
    results: tuple[ResultSink, ...]
    niceness: int = 0
    """Of the threads from decoder to render. A job is done soonest when work that splits well over cores gives
    way to what does not: an encoder, which uses 1.7 of two cores at best (see ARCHITECTURE.md)."""
    taps: Taps = field(default_factory=Taps)
    """Where somebody may look at the frames as they pass."""


async def run_stream(
    stages: StreamStages, model: ModelRunner | None, ledger: Ledger, observer: Observer, stop: asyncio.Event
) -> None:
    """Run a stream until its source ends or `stop` is set, and everything under way has arrived.

    When it is cancelled or fails, whatever was under way counts as dropped, and outputs are closed without a commit.
    """
    supply = _supply(stages.queue, ledger)
    queues = _Queues(stages.queue, ledger, room=supply.at_once)
    inlet = Inlet(queues.decoded, queues.finished, ledger)
    presence = Presence()
    if model is not None:
        model.attach(inlet)
    try:
        async with asyncio.TaskGroup() as group:
            ingest = Ingest(stages.ingest, queues.decoded, ledger, observer, presence, stages.taps.input)
            group.create_task(ingest.run(stop))
            group.create_task(_infer(model, inlet, queues) if model else _pass_through(inlet, queues))
            group.create_task(_render(stages, queues, ledger, observer))
            group.create_task(
                run_outputs(
                    queues.rendered,
                    stages.outputs,
                    stages.results,
                    ledger,
                    observer,
                    presence,
                    supply,
                )
            )
    finally:
        for queue in (queues.decoded, queues.finished, queues.rendered):
            queue.abort()
        if model is not None:
            await model.detach(inlet)
        ledger.write_off("sink")


def _supply(rule: QueueRule, ledger: Ledger) -> Supply:
    """Frames that may grow too old go to the outputs one by one; others in handfuls.

    Handfuls are so small that the outputs cannot hold all the frames that may be under way: a full queue before them
    is how they are known as the bottleneck.
    """
    if rule.policy != "block":
        return Supply(ahead=0, at_once=1)
    return Supply(ahead=1, at_once=max(1, min(MOST_AT_ONCE, ledger.credits // 4)))


def _ageing(max_age_s: float) -> Ageing[Any] | None:
    return Ageing(max_age_s=max_age_s, born_s=attrgetter("decoded_s")) if max_age_s else None


class _Queues:
    """The three queues of a stream. Live frames can grow too old in any of them; only the first can overflow."""

    def __init__(self, rule: QueueRule, ledger: Ledger, *, room: int) -> None:
        self._ledger = ledger
        ageing = _ageing(rule.max_age_s)
        self.decoded: Channel[Frame] = Channel(
            f"{ledger.stream}.decoded", rule.size, rule.policy, ageing=ageing, on_drop=self._drop_queued
        )
        self.finished: Channel[Frame] = Channel(
            f"{ledger.stream}.finished", ledger.credits, ageing=ageing, on_drop=self._dropper("render")
        )
        self.rendered: Channel[Frame] = Channel(
            f"{ledger.stream}.rendered",
            room,
            ageing=_ageing(rule.max_age_s * LAST_CALL),
            on_drop=self._dropper("encode"),
        )

    def _drop_queued(self, _frame: Frame, reason: DropReason) -> None:
        self._ledger.drop_queued(reason)

    def _dropper(self, stage: StageName) -> Callable[[Frame, DropReason], None]:
        return lambda _frame, reason: self._ledger.drop(stage, reason)


async def _infer(model: ModelRunner, inlet: Inlet, queues: _Queues) -> None:
    """The model takes the frames by itself; here is only the end of it."""
    await model.drained(inlet)
    queues.finished.close()


async def _pass_through(inlet: Inlet, queues: _Queues) -> None:
    """Without a model, frames go on as they are, as their credits allow."""
    try:
        while True:
            await inlet.ledger.credit()
            frame = await inlet.decoded.take()
            inlet.ledger.depart()
            inlet.hand_back(frame)
    except ChannelClosedError:
        queues.finished.close()


async def _render(stages: StreamStages, queues: _Queues, ledger: Ledger, observer: Observer) -> None:
    async def put(frame: Frame) -> None:
        stages.taps.output.show(frame)
        await queues.rendered.put(frame)

    try:
        if stages.render is None:
            async for frame in queues.finished:
                await put(frame)
        else:
            async with opened(
                "render",
                stages.render,
                observer,
                thread=f"{ledger.stream}.render",
                niceness=stages.niceness,
                inbox=queues.finished,
                outbox=queues.rendered,
            ) as runner:
                await pump(queues.finished, runner, put)
    finally:
        queues.rendered.close()
