from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from plugins.toys import (
    AskingEngine,
    AskingPreprocess,
    Ear,
    FillingSource,
    ToyDecoder,
    ToyEncoder,
    ToyEngine,
    ToyHead,
    ToySink,
    ToySource,
    toy_model,
    toy_stream,
)
from prometheus_client import CollectorRegistry

from vrseg.backoff import Backoff
from vrseg.errors import MediaError, SourceEndedError, StreamLostError
from vrseg.pipeline.ledger import Ledger
from vrseg.pipeline.model import ModelRunner
from vrseg.pipeline.stream import run_stream
from vrseg.telemetry.bottleneck import find_bottleneck
from vrseg.telemetry.logs import make_logger
from vrseg.telemetry.metrics import Metrics
from vrseg.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from vrseg.frame import Batch, Frame, Inference, Packet
    from vrseg.pipeline.observer import Observer, StageName
    from vrseg.pipeline.stream import StreamStages


def books(ledger: Ledger) -> tuple[int, int]:
    """How many frames came in, and how many have an end."""
    return ledger.entered, ledger.delivered + ledger.failed + ledger.dropped.total()


async def run(
    stages: StreamStages, *, model: ModelRunner | None, ledger: Ledger, ear: Observer, stop: asyncio.Event | None = None
) -> None:
    await run_stream(stages, model, ledger, ear, stop or asyncio.Event())


async def with_model(runner: ModelRunner, work: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(runner.run())
        await runner.ready.wait()
        try:
            await work()
        finally:
            runner.close()


def test_a_file_arrives_whole_and_in_order() -> None:
    async def main() -> None:
        ear, sink, ledger = Ear(), ToySink(), Ledger("a", 10, Ear())
        runner = ModelRunner(toy_model(), ear)
        stages = toy_stream("a", lambda: ToySource(200), sink, encoder=ToyEncoder(lookahead=7))
        await with_model(runner, lambda: run(stages, model=runner, ledger=ledger, ear=ear))
        assert sink.pts == [33 * index for index in range(200)]
        assert sink.flushed == 1
        assert ledger.delivered == 200
        assert ledger.unaccounted == 0
        assert ledger.held == 0
        assert ear.workers == 0

    asyncio.run(main())


def test_frames_pass_through_unseen_without_a_model() -> None:
    async def main() -> None:
        ear, sink = Ear(), ToySink()
        ledger = Ledger("a", 3, ear)
        await run(toy_stream("a", lambda: ToySource(50), sink), model=None, ledger=ledger, ear=ear)
        assert sink.pts == [33 * index for index in range(50)]

    asyncio.run(main())


def test_a_slow_output_makes_a_live_stream_drop_frames_and_keeps_the_rest_young() -> None:
    async def main() -> None:
        ear, sink, encoder = Ear(), ToySink(work_s=0.5), ToyEncoder()
        ledger = Ledger("a", 6, ear)
        runner = ModelRunner(toy_model(), ear)
        stages = toy_stream(
            "a",
            lambda: ToySource(120, interval_s=0.02, live=True),
            sink,
            encoder=encoder,
            policy="drop_oldest",
            max_age_s=0.3,
            live=True,
        )
        await with_model(runner, lambda: run(stages, model=runner, ledger=ledger, ear=ear))
        entered, ended = books(ledger)
        assert entered == ended == 120
        assert max(encoder.ages_s) < 0.35
        assert {reason for _, _, reason in ear.dropped} <= {"queue_full", "max_age"}
        assert len(ear.dropped) > 90

    asyncio.run(main())


def test_a_slow_output_does_not_slow_the_stream_beside_it() -> None:
    async def main() -> None:
        ear, slow, quick = Ear(), ToySink(work_s=0.5), ToySink()
        runner = ModelRunner(toy_model(), ear)
        first, second = Ledger("slow", 6, ear), Ledger("quick", 6, ear)

        def live(name: str, sink: ToySink) -> StreamStages:
            return toy_stream(
                name,
                lambda: ToySource(150, interval_s=0.01, live=True),
                sink,
                policy="drop_oldest",
                max_age_s=0.3,
                live=True,
            )

        async def both() -> None:
            await asyncio.gather(
                run(live("slow", slow), model=runner, ledger=first, ear=ear),
                run(live("quick", quick), model=runner, ledger=second, ear=ear),
            )

        await with_model(runner, both)
        assert second.delivered >= 0.9 * 150
        assert first.delivered < 20

    asyncio.run(main())


def test_a_slow_output_of_a_file_loses_no_frame() -> None:
    async def main() -> None:
        ear, sink = Ear(), ToySink(work_s=0.02)
        ledger = Ledger("a", 6, ear)
        runner = ModelRunner(toy_model(), ear)
        stages = toy_stream("a", lambda: ToySource(60), sink)
        await with_model(runner, lambda: run(stages, model=runner, ledger=ledger, ear=ear))
        assert len(sink.pts) == 60
        assert not ear.dropped

    asyncio.run(main())


def test_a_lost_source_is_tried_again_and_its_clock_goes_on() -> None:
    async def main() -> None:
        ear, sink = Ear(), ToySink()
        ledger = Ledger("a", 6, ear)
        sources = iter(
            [
                ToySource(5, interval_s=0.01, live=True, failure=SourceEndedError("gone")),
                ToySource(0, live=True, open_failure=SourceEndedError("still gone")),
                ToySource(5, interval_s=0.01, live=True),
            ]
        )
        stages = toy_stream("a", lambda: next(sources), sink, policy="drop_oldest", live=True)
        await run(stages, model=None, ledger=ledger, ear=ear)
        assert len(sink.pts) == 10
        assert sink.pts == sorted(set(sink.pts))
        assert ear.reconnects == ["ended", "ended"]
        assert sink.flushed == 1, "the output lives on while the source is away"

    asyncio.run(main())


def test_a_source_that_stays_away_is_given_up_after_the_attempts() -> None:
    async def main() -> None:
        ear, ledger = Ear(), Ledger("a", 6, Ear())
        stages = toy_stream(
            "a",
            lambda: ToySource(0, live=True, open_failure=SourceEndedError("gone")),
            ToySink(),
            live=True,
            backoff=Backoff(initial_s=0.001, attempts=3),
        )
        with pytest.raises(ExceptionGroup) as caught:
            await run(stages, model=None, ledger=ledger, ear=ear)
        assert caught.group_contains(StreamLostError, match="gave up after 3 tries: gone")
        assert len(ear.reconnects) == 3

    asyncio.run(main())


def test_a_silent_source_is_noticed_by_its_missing_frames() -> None:
    async def main() -> None:
        ear, ledger, stop = Ear(), Ledger("a", 6, Ear()), asyncio.Event()
        stages = toy_stream(
            "a", lambda: ToySource(2, interval_s=0.7, live=True), ToySink(), live=True, stall_timeout_s=0.2
        )
        asyncio.get_running_loop().call_later(1.5, stop.set)
        await asyncio.wait_for(run(stages, model=None, ledger=ledger, ear=ear, stop=stop), 3)
        assert ear.reconnects[0] == "stalled"
        assert ledger.delivered

    asyncio.run(main())


def test_stop_ends_a_live_stream_and_commits_its_outputs() -> None:
    async def main() -> None:
        ear, sink, stop = Ear(), ToySink(), asyncio.Event()
        ledger = Ledger("a", 6, ear)
        stages = toy_stream(
            "a", lambda: ToySource(10_000, interval_s=0.01, live=True), sink, policy="drop_oldest", live=True
        )
        asyncio.get_running_loop().call_later(0.3, stop.set)
        await asyncio.wait_for(run(stages, model=None, ledger=ledger, ear=ear, stop=stop), 2)
        assert sink.flushed == 1
        assert sink.closed
        assert ledger.delivered == len(sink.pts) > 5
        entered, ended = books(ledger)
        assert entered == ended

    asyncio.run(main())


def test_a_broken_decoder_is_named_and_everything_is_closed() -> None:
    async def main() -> None:
        ear, sink = Ear(), ToySink()
        ledger = Ledger("a", 6, ear)
        stages = toy_stream(
            "a", lambda: ToySource(50), sink, make_decoder=lambda first: ToyDecoder("a", first, fail_at=20)
        )
        with pytest.raises(ExceptionGroup) as caught:
            await run(stages, model=None, ledger=ledger, ear=ear)
        assert caught.group_contains(RuntimeError, match="toy decoder broke")
        assert sink.closed
        assert not sink.flushed, "what is not whole must not be committed"
        entered, ended = books(ledger)
        assert entered == ended == 20
        assert ear.workers == 0

    asyncio.run(main())


def test_a_broken_model_fails_the_frames_it_held() -> None:
    async def main() -> None:
        ear, ledger = Ear(), Ledger("a", 10, Ear())
        runner = ModelRunner(toy_model(ToyEngine(fail_at=3)), ear)
        stages = toy_stream("a", lambda: ToySource(100), ToySink())
        with pytest.raises(ExceptionGroup) as caught:
            await with_model(runner, lambda: run(stages, model=runner, ledger=ledger, ear=ear))
        assert caught.group_contains(RuntimeError, match="toy engine broke")
        assert ledger.unaccounted == 0
        assert ledger.held == 0

    asyncio.run(main())


# no shrinking: a failure here is a matter of timing, and a hang costs its whole timeout each time
@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    count=st.integers(0, 60),
    live=st.booleans(),
    speeds=st.tuples(*[st.sampled_from([0.0, 0.0, 0.001, 0.004])] * 4),
    fault=st.sampled_from(["none", "none", "source", "decoder", "engine", "sink", "cancel", "stop"]),
    at=st.integers(0, 40),
    max_batch=st.integers(1, 5),
    room=st.integers(1, 12),
    size=st.integers(1, 6),
    make_engine=st.sampled_from([ToyEngine, AskingEngine]),
)
def test_every_frame_that_came_in_has_exactly_one_end(
    count: int,
    live: bool,
    speeds: tuple[float, float, float, float],
    fault: str,
    at: int,
    max_batch: int,
    room: int,
    size: int,
    make_engine: type[ToyEngine],
) -> None:
    async def main() -> None:
        ear, stop = Ear(), asyncio.Event()
        ledger = Ledger("a", room, ear)
        sink = ToySink(work_s=speeds[3], fail_at=at if fault == "sink" else None)
        runner = ModelRunner(
            toy_model(make_engine(work_s=speeds[2], fail_at=at if fault == "engine" else None), max_batch=max_batch),
            ear,
        )
        stages = toy_stream(
            "a",
            lambda: ToySource(
                count, interval_s=speeds[0], live=live, failure=MediaError("torn") if fault == "source" else None
            ),
            sink,
            make_decoder=lambda first: ToyDecoder("a", first, speeds[1], fail_at=at if fault == "decoder" else None),
            size=size,
            policy="drop_oldest" if live else "block",
            max_age_s=0.01 if live else 0.0,
            live=live,
        )

        async def attempt() -> None:
            task = asyncio.ensure_future(run(stages, model=runner, ledger=ledger, ear=ear, stop=stop))
            loop = asyncio.get_running_loop()
            if fault == "cancel":
                loop.call_later(at / 1000, task.cancel)
            if fault == "stop":
                loop.call_later(at / 1000, stop.set)
            try:
                await task
            except asyncio.CancelledError:
                assert fault == "cancel"

        try:
            await asyncio.wait_for(with_model(runner, attempt), 10)
        except ExceptionGroup:
            assert fault in {"source", "decoder", "engine", "sink"}
        entered, ended = books(ledger)
        assert entered == ended
        assert ledger.held == 0
        assert ledger.unaccounted == 0
        assert ear.workers == 0
        assert sink.pts == sorted(set(sink.pts))
        # when a stream is torn down, the two frames that its outputs hold may be written and not yet told of
        assert 0 <= len(sink.pts) - ledger.delivered <= (0 if fault in {"none", "stop"} else 2)
        if fault == "none" and not live:
            assert ledger.delivered == count

    asyncio.run(main())


def test_what_decoders_pass_over_or_guess_is_told_by_reason() -> None:
    class HonestDecoder(ToyDecoder):
        concealed = skipped_until_key = 0

        def process(self, item: Packet, /) -> Iterable[Frame]:
            number: Any = item.payload
            if number < 5:
                self.skipped_until_key += 1
                return ()
            self.concealed += number == 10
            self.errors += number >= 17
            return super().process(item) if number < 17 else ()

    async def main() -> None:
        registry = CollectorRegistry()
        recorder = Recorder(Metrics(registry), make_logger("text", "error"))
        ledger = Ledger("a", 4, recorder)
        recorder.add_stream(ledger)
        stages = toy_stream("a", lambda: ToySource(20), ToySink(), make_decoder=lambda first: HonestDecoder("a", first))
        await run(stages, model=None, ledger=ledger, ear=recorder)
        told = {
            reason: registry.get_sample_value("vrseg_decode_errors_total", {"stream": "a", "reason": reason})
            for reason in ("no_key_frame", "concealed", "undecodable")
        }
        assert told == {"no_key_frame": 5, "concealed": 1, "undecodable": 3}
        assert recorder.streams["a"].damaged_units == 3
        assert ledger.delivered == 12

    asyncio.run(main())


def test_batches_follow_an_engine_that_shrinks() -> None:
    class ShrinkingEngine(ToyEngine):
        """Has room for four frames, then memory runs out."""

        largest_batch = 4

        def process(self, item: Batch, /) -> Iterable[Inference]:
            if len(self.batches) == 3:
                self.largest_batch = 2
            return super().process(item)

    async def main() -> None:
        ear, engine, ledger = Ear(), ShrinkingEngine(work_s=0.002), Ledger("a", 20, Ear())
        runner = ModelRunner(toy_model(engine, max_batch=4, max_delay_s=0.1), ear)
        stages = toy_stream("a", lambda: ToySource(60), ToySink(), size=16)
        await with_model(runner, lambda: run(stages, model=runner, ledger=ledger, ear=ear))
        sizes = [len(batch) for batch in engine.batches]
        assert max(sizes[:4]) == 4
        # One batch was on its way, and two were gathered ahead of it.
        assert max(sizes[6:]) == 2
        assert ledger.delivered == 60

    asyncio.run(main())


def test_preprocessing_and_inference_that_only_ask_a_device_share_a_thread() -> None:
    async def main() -> None:
        told: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
        threads: list[str] = []

        class Listening(Ear):
            def stage_done(
                self,
                stage: StageName,
                waited_s: float,
                busy_s: float,
                *,
                ended_s: float | None = None,
                thread: str = "",
            ) -> None:
                told[stage].append((busy_s, thread))

        class Preprocess(AskingPreprocess):
            def open(self) -> None:
                super().open()
                threads.append(threading.current_thread().name)

        class Engine(AskingEngine):
            def open(self) -> None:
                super().open()
                threads.append(threading.current_thread().name)

        ear = Listening()
        runner = ModelRunner(replace(toy_model(Engine(), max_batch=1), preprocess=Preprocess()), ear)
        stages = toy_stream("a", lambda: ToySource(20), sink := ToySink())
        ledger = Ledger("a", 10, ear)
        await with_model(runner, lambda: run(stages, model=runner, ledger=ledger, ear=ear))
        assert len(sink.pts) == ledger.delivered == 20
        assert threads == ["toy.enqueue"] * 2
        assert told["preprocess"] == [(0.001, "toy.preprocess")] * 20, "the device's time, not the thread's"
        assert told["infer"] == [(0.02, "toy.infer")] * 20
        assert ear.workers == 0

    asyncio.run(main())


def test_a_device_that_is_busy_is_named_as_the_bottleneck_though_a_batch_always_waits_for_the_head() -> None:
    class Head(ToyHead):
        device_s = 0.001

    async def main() -> None:
        recorder = Recorder(Metrics(CollectorRegistry()), make_logger("text", "error"))
        ledger = Ledger("a", 6, recorder)
        recorder.add_stream(ledger)
        runner = ModelRunner(toy_model(AskingEngine(), head=Head(wait_s=0.022), max_batch=1), recorder)
        stages = toy_stream("a", lambda: ToySource(60), ToySink())
        await with_model(runner, lambda: run(stages, model=runner, ledger=ledger, ear=recorder))
        assert find_bottleneck(recorder.overall()).stage == "infer"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("engine", "head", "message"),
    [
        (ToyEngine(work_s=0.02, fail_at=6), ToyHead(), "toy engine broke"),
        (ToyEngine(), ToyHead(wait_s=0.02, fail_at=6), "toy head broke"),
        (AskingEngine(work_s=0.02, fail_at=6), ToyHead(), "toy engine broke"),
        (AskingEngine(), ToyHead(wait_s=0.02, fail_at=6), "toy head broke"),
    ],
)
def test_what_a_model_fails_of_is_the_only_error_though_batches_wait_behind_it(
    engine: ToyEngine, head: ToyHead, message: str
) -> None:
    async def main() -> None:
        ear, ledger = Ear(), Ledger("a", 50, Ear())
        runner = ModelRunner(toy_model(engine, head=head, max_batch=1), ear)
        stages = toy_stream("a", lambda: ToySource(60), ToySink(), size=30)
        serving = asyncio.create_task(runner.run())
        await runner.ready.wait()
        streaming = asyncio.create_task(run(stages, model=runner, ledger=ledger, ear=ear))
        await asyncio.wait([serving])
        assert [str(error) for error in leaves(serving.exception())] == [message]
        streaming.cancel()
        await asyncio.wait([streaming])
        assert ledger.unaccounted == ledger.held == 0
        assert ear.workers == 0

    asyncio.run(main())


def leaves(error: BaseException | None) -> list[BaseException]:
    """Return what a group of errors holds, also in groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [error] if error is not None else []


def test_a_model_that_is_cancelled_does_not_wait_for_memory_that_it_holds_itself() -> None:
    async def main() -> None:
        ear, ledger = Ear(), Ledger("a", 50, Ear())
        runner = ModelRunner(toy_model(AskingEngine(), head=ToyHead(wait_s=0.3), max_batch=1), ear)
        stages = toy_stream("a", lambda: ToySource(30), ToySink(), size=30)
        serving = asyncio.create_task(runner.run())
        await runner.ready.wait()
        streaming = asyncio.create_task(run(stages, model=runner, ledger=ledger, ear=ear))
        await asyncio.sleep(0.45)
        started_s = time.monotonic()
        serving.cancel()
        await asyncio.wait([serving])
        assert time.monotonic() - started_s < AskingEngine.patience_s / 2
        streaming.cancel()
        await asyncio.wait([streaming])
        assert ledger.unaccounted == ledger.held == 0

    asyncio.run(main())


@pytest.mark.parametrize(("live", "size", "handful"), [(True, 4, 4), (True, 2, 2), (True, 9, 4), (False, 4, 8)])
def test_live_packets_are_decoded_in_handfuls_that_the_queue_has_room_for(live: bool, size: int, handful: int) -> None:
    class Counting(ToyDecoder):
        done = 0

        def open(self) -> None:
            time.sleep(0.2)  # meanwhile all packets come
            super().open()

        def process(self, item: Packet, /) -> Iterable[Frame]:
            self.done += 1
            return super().process(item)

    async def main() -> None:
        ear, ledger, decoder = Ear(), Ledger("a", 50, Ear()), Counting("a")
        runner = ModelRunner(toy_model(), ear)
        stages = toy_stream(
            "a", lambda: FillingSource(64), ToySink(), make_decoder=lambda _: decoder, size=size, live=live
        )
        handfuls: Counter[int] = Counter()
        stages.taps.input.watch = lambda _frame: handfuls.update([decoder.done])  # the same for all of one visit
        await with_model(runner, lambda: run(stages, model=runner, ledger=ledger, ear=ear))
        assert max(handfuls.values()) == handful, "a busy machine may end some of them before, and none after that"

    asyncio.run(main())


@pytest.mark.parametrize(("room", "frames", "work_s"), [(4, 60, 0.02), (34, 80, 0.02), (34, 600, 0.002)])
def test_a_slow_output_is_named_as_the_bottleneck(room: int, frames: int, work_s: float) -> None:
    async def main() -> None:
        recorder = Recorder(Metrics(CollectorRegistry()), make_logger("text", "error"))
        ledger = Ledger("a", room, recorder)
        recorder.add_stream(ledger)
        stages = toy_stream("a", lambda: ToySource(frames), ToySink(work_s=work_s))
        await run(stages, model=None, ledger=ledger, ear=recorder)
        assert find_bottleneck(recorder.overall()).kind == "sink"

    asyncio.run(main())
