from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.toys import Ear, ToyDecoder, ToyEncoder, ToyRecorder, ToySink, ToySource, ToyStandIn, toy_stream

from vrseg.errors import SourceEndedError
from vrseg.frame import Frame
from vrseg.gpu.guard import Guarded
from vrseg.pipeline.ledger import Ledger
from vrseg.pipeline.outputs import OutputStages
from vrseg.pipeline.presence import AWAY_AFTER_S, Presence, spoken_age
from vrseg.pipeline.stream import run_stream
from vrseg.pipeline.timeline import Timeline
from vrseg.stage import OutputState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Never

    from vrseg.frame import EncodedPacket
    from vrseg.pipeline.stream import StreamStages

TIME_BASE = Fraction(1, 1000)


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def frame(pts: int, time_base: Fraction = TIME_BASE) -> Frame:
    return Frame(stream="a", index=0, pts=pts, time_base=time_base, picture=None, width=2, height=2, decoded_s=0.0)


class Stage:
    """A stream with one encoder, whose pictures go to a viewer and to a recording."""

    def __init__(self, *sources: ToySource) -> None:
        self.viewer, self.recording, self.results = ToySink(), ToySink(), ToyRecorder()
        self.encoder, self.stand_in = ToyEncoder(), ToyStandIn()
        self.ear = Ear()
        self.ledger = Ledger("a", 6, self.ear)
        waiting = iter(sources)
        stages = toy_stream("a", lambda: next(waiting), self.viewer, policy="drop_oldest", live=True)
        self.stages: StreamStages = replace(
            stages,
            outputs=(
                OutputStages(
                    encode=self.encoder,
                    sinks=(self.viewer, self.recording),
                    stand_in=self.stand_in,
                    steady=(self.viewer,),
                ),
            ),
            results=(self.results,),
        )

    def run(self, stop_after_s: float | None = None) -> None:
        async def main() -> None:
            stop = asyncio.Event()
            if stop_after_s is not None:
                asyncio.get_running_loop().call_later(stop_after_s, stop.set)
            await asyncio.wait_for(run_stream(self.stages, None, self.ledger, self.ear, stop), 15)

        asyncio.run(main())


class LateSource(ToySource):
    """A camera that is not there for a while."""

    def open(self) -> object:  # type: ignore[override]  # as a toy does
        time.sleep(1.6)
        return super().open()


def camera(count: int, *, ends: bool = False) -> ToySource:
    return ToySource(count, interval_s=0.02, live=True, failure=SourceEndedError("gone") if ends else None)


def test_viewers_get_pictures_while_the_source_is_away_and_nobody_counts_them() -> None:
    stage = Stage(camera(10, ends=True), LateSource(10, interval_s=0.02, live=True))
    stage.run()
    made = len(stage.stand_in.texts)
    assert 2 <= made <= 5, "five a second, from the second second on"
    assert set(stage.stand_in.texts) == {"reconnecting: no signal for 1 s"}
    assert len(stage.viewer.pts) == 20 + made
    assert stage.viewer.pts == sorted(set(stage.viewer.pts))
    assert len(stage.recording.pts) == 20, "who wants none gets none"
    assert set(stage.recording.pts) < set(stage.viewer.pts)
    assert len(stage.results.frames) == 20
    assert (stage.ledger.entered, stage.ledger.delivered, stage.ledger.unaccounted) == (20, 20, 0)
    assert len(stage.ear.latencies_s) == 20
    assert stage.stand_in.closed


def test_a_source_that_stalls_within_a_connection_is_bridged_too() -> None:
    class Stalling(ToyDecoder):
        def process(self, item: object, /) -> Iterable[Frame]:
            frames = list(super().process(item))  # type: ignore[arg-type]  # a toy's packet
            if frames[0].index == 20:
                time.sleep(1.5)
            return frames

    stage = Stage(camera(40))
    ingest = replace(stage.stages.ingest, make_decoder=lambda first: Stalling("a", first))
    stage.stages = replace(stage.stages, ingest=ingest)
    stage.run()
    assert stage.stand_in.texts
    assert set(stage.stand_in.texts) == {"stalled: no signal for 1 s"}
    assert stage.viewer.pts == sorted(set(stage.viewer.pts))
    assert stage.ledger.delivered == len(stage.recording.pts) == 40 - stage.ledger.dropped["queue_full"]
    assert stage.ledger.unaccounted == 0


def test_a_source_that_never_came_has_no_picture_to_hold() -> None:
    stage = Stage(LateSource(0, live=True), camera(3))
    stage.run(stop_after_s=1.2)
    assert not stage.stand_in.texts


def test_stopping_while_the_source_is_away_ends_at_once() -> None:
    stage = Stage(camera(5, ends=True), ToySource(0, live=True, open_failure=SourceEndedError("gone")))
    backoff = replace(stage.stages.ingest.backoff, initial_s=30.0, max_s=30.0)
    stage.stages = replace(stage.stages, ingest=replace(stage.stages.ingest, backoff=backoff))
    stage.run(stop_after_s=1.6)
    assert stage.stand_in.texts
    assert stage.viewer.flushed == stage.recording.flushed == 1


class AskedEncoder(ToyEncoder):
    """Gives key frames only when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_before: list[object] = []
        self._key = True

    def request_key_frame(self) -> None:
        self._key = True

    def process(self, item: Frame, /) -> Iterable[EncodedPacket]:
        for packet in super().process(item):
            if self._key:
                self.asked_before.append(item.truth)
            yield replace(packet, key=self._key)
            self._key = False


def test_who_left_the_pictures_out_goes_on_at_a_key_frame() -> None:
    stage = Stage(camera(10, ends=True), LateSource(10, interval_s=0.02, live=True))
    encoder = AskedEncoder()
    stage.stages = replace(stage.stages, outputs=(replace(stage.stages.outputs[0], encode=encoder),))
    stage.run()
    assert encoder.asked_before == ["rendered", "rendered"], "the first frame, and the first after the outage"
    assert len(stage.recording.pts) == 20


class AwaySink(ToySink):
    """A `LastingOutput` whose receiver is away between two packets."""

    def __init__(self, name: str, away: range) -> None:
        super().__init__()
        self.name, self.kind = name, "rtsp"
        self.state = OutputState(since_s=0.0)
        self.dropped: Counter[str] = Counter()
        self._away, self._seen = away, -1
        self.houses_kept = 0

    def process(self, item: EncodedPacket, /) -> Iterable[Never]:
        self._seen += 1
        away = self._seen in self._away
        self.state = OutputState(state="reconnecting" if away else "up", reason="lost" if away else "", since_s=1.0)
        if away:
            self.dropped["reconnecting"] += 1
            return ()
        return super().process(item)

    def take_key_wish(self) -> bool:
        return False

    def keep_house(self) -> None:
        self.houses_kept += 1


class WishingSink(AwaySink):
    """Waits for a key frame from its tenth packet on."""

    def __init__(self, name: str) -> None:
        super().__init__(name, range(0))
        self._wishes = 1

    def take_key_wish(self) -> bool:
        if self._seen < 10 or not self._wishes:
            return False
        self._wishes -= 1
        return True


@pytest.mark.usefixtures("gpu_on_cpu")  # what guards an encoder asks CuPy for its errors
def test_one_key_frame_fulfils_the_wishes_of_all() -> None:
    stage = Stage(camera(30))
    encoder = AskedEncoder()
    outputs = (OutputStages(encode=Guarded(encoder, "toy"), sinks=(WishingSink("0"), WishingSink("1"))),)
    stage.stages = replace(stage.stages, outputs=outputs)
    stage.run()
    assert len(encoder.asked_before) == 2, "the first, and the one that both have wished for"


@pytest.mark.parametrize("beside", ["nothing", "recording", "results"])
def test_a_frame_is_dropped_when_no_output_took_it_and_delivered_when_one_did(beside: str) -> None:
    stage = Stage(camera(30))
    away = AwaySink("0", range(10, 20))
    sinks = (away, ToySink()) if beside == "recording" else (away,)
    stage.stages = replace(
        stage.stages,
        outputs=(OutputStages(encode=ToyEncoder(), sinks=sinks),),
        results=(stage.results,) if beside == "results" else (),
    )
    stage.run()
    assert len(away.pts) == 20
    assert stage.ear.packets_lost == {"reconnecting": 10}, "the output's own count"
    lost = [] if beside != "nothing" else [("a", "sink", "reconnecting")] * 10
    assert stage.ear.dropped == lost
    assert stage.ledger.delivered == 30 - len(lost)
    assert stage.ledger.unaccounted == stage.ledger.held == 0
    assert stage.ear.outputs == [("0", "starting", ""), ("0", "up", ""), ("0", "reconnecting", "lost"), ("0", "up", "")]


def test_outputs_keep_house_while_there_is_no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrseg.pipeline.outputs.HOUSEKEEPING_EVERY_S", 0.1)
    stage = Stage(LateSource(1, live=True))
    recording = AwaySink("0", range(0))
    outputs = (OutputStages(encode=ToyEncoder(), sinks=(recording, ToySink())),)
    stage.stages = replace(stage.stages, outputs=outputs)
    stage.run()
    assert recording.houses_kept >= 8


class LeisurelySink(AwaySink):
    """Takes its time with its house, and with its end."""

    def keep_house(self) -> None:
        time.sleep(0.08)

    def flush(self) -> Iterable[Never]:
        time.sleep(0.5)
        return super().flush()


def test_a_house_that_is_being_kept_at_the_end_hurries_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrseg.pipeline.outputs.HOUSEKEEPING_EVERY_S", 0.0)
    monkeypatch.setattr("vrseg.pipeline.outputs.PATIENCE_S", 0.1)
    stage = Stage(camera(30))
    first, second = LeisurelySink("0", range(0)), LeisurelySink("1", range(0))
    stage.stages = replace(stage.stages, outputs=(OutputStages(encode=ToyEncoder(), sinks=(first, second)),))
    stage.run()
    assert (first.flushed, second.flushed) == (1, 1)


class TestPresence:
    def test_it_is_away_after_a_second_or_some_of_its_own_intervals(self) -> None:
        clock = Clock()
        presence = Presence(clock)
        assert presence.away_s is None
        for _ in range(200):
            presence.frame_came()
            clock.now_s += 2.0
        clock.now_s += 3.0
        assert presence.away_s is None, "a camera with a frame each two seconds"
        clock.now_s += 4.0
        assert presence.away_s == pytest.approx(9.0)
        presence.frame_came()
        assert presence.away_s is None
        clock.now_s += AWAY_AFTER_S
        presence.reconnecting = True
        assert presence.away_s == pytest.approx(AWAY_AFTER_S), "a lost connection is known at once"
        assert presence.text(125.0) == "reconnecting: no signal for 2 min"

    def test_one_outage_does_not_make_a_slow_camera_of_a_quick_one(self) -> None:
        clock = Clock()
        presence = Presence(clock)
        for gap_s in [0.04] * 50 + [3600.0] + [0.04] * 50:
            clock.now_s += gap_s
            presence.frame_came()
        clock.now_s += AWAY_AFTER_S
        assert presence.away_s is not None
        assert presence.patience_s == pytest.approx(0.2)

    @pytest.mark.parametrize(
        ("seconds", "spoken"),
        [
            (0.9, "0 s"),
            (12.3, "12 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7199, "119 min"),
            (7500, "2 h 5 min"),
            (2e5, "2 d"),
        ],
    )
    def test_ages_are_said_as_people_say_them(self, seconds: float, spoken: str) -> None:
        assert spoken_age(seconds) == spoken


class TestTimeline:
    def test_pictures_that_stand_in_have_the_time_that_passed_and_frames_come_after_them(self) -> None:
        clock = Clock()
        line = Timeline(clock)
        assert line.place(frame(7000)) == 7000
        clock.now_s += 2.0
        assert line.place_now() == 9000
        clock.now_s += 0.5
        assert line.place_now() == 9500
        clock.now_s += 0.5
        assert line.place(frame(10_000)) == 10_000, "a camera that only fell silent keeps its own time"

    def test_a_new_connection_may_count_in_other_units(self) -> None:
        clock = Clock()
        line = Timeline(clock)
        line.place(frame(7000))
        line.new_connection()
        clock.now_s += 2.0
        assert line.place(frame(3, Fraction(1, 90_000))) == 9 * 90_000

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("frame"), st.integers(-(10**6), 10**6), st.floats(0, 4)),
                st.tuples(st.sampled_from(["now", "connection"]), st.just(0), st.floats(0, 4)),
            ),
            max_size=40,
        )
    )
    def test_time_only_goes_forward(self, steps: list[tuple[str, int, float]]) -> None:
        clock = Clock()
        line = Timeline(clock)
        placed = [line.place(frame(0))]
        for what, pts, gap_s in steps:
            clock.now_s += gap_s
            if what == "frame":
                placed.append(line.place(frame(pts)))
            elif what == "now":
                placed.append(line.place_now())
            else:
                line.new_connection()
        assert all(before < after for before, after in pairwise(placed))
