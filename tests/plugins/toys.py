"""Small honest stages for tests of the machinery: each does what its protocol says, with settable speed and faults."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from vrseg.backoff import Backoff
from vrseg.frame import Batch, EncodedFormat, EncodedPacket, Frame, Inference, Packet, Placement, SourceInfo
from vrseg.pipeline.ingest import IngestStages
from vrseg.pipeline.model import ModelStages
from vrseg.pipeline.outputs import OutputStages
from vrseg.pipeline.stream import QueueRule, StreamStages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Never

    from vrseg.pipeline.channel import Channel, OnFull
    from vrseg.pipeline.observer import DecodeErrorReason, StageName, StreamState
    from vrseg.stage import Absence, LastingOutput

TIME_BASE = Fraction(1, 1000)
FORMAT = EncodedFormat(codec="h264", width=2, height=2, time_base=TIME_BASE, frame_rate=Fraction(30))


class StageThread:
    """Checks what every stage may rely on: one thread, `open` first, nothing after `close`."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self._thread: int | None = None

    def open(self) -> None:
        self.opened += 1
        self._thread = threading.get_ident()

    def close(self) -> None:
        self.closed += 1

    def check(self) -> None:
        assert self.opened == 1, "used before open, or opened twice"
        assert not self.closed, "used after close"
        assert self._thread == threading.get_ident(), "a stage must stay on its thread"


@dataclass
class ToySource:
    """`count` packets, one every `interval_s`; then its end, or `failure`."""

    count: int
    interval_s: float = 0.0
    live: bool = False
    failure: Exception | None = None
    open_failure: Exception | None = None
    sent: int = 0
    closed: int = 0

    def open(self) -> SourceInfo:
        if self.open_failure is not None:
            raise self.open_failure
        return SourceInfo(codec="toy", width=2, height=2, frame_rate=None, frame_count=self.count, duration_s=None)

    def read(self) -> list[Packet]:
        if self.interval_s:
            time.sleep(self.interval_s)
        if self.sent >= self.count:
            if self.failure is not None:
                raise self.failure
            return []
        self.sent += 1
        return [Packet(payload=self.sent - 1, arrived_s=time.monotonic())]  # type: ignore[arg-type]  # a toy's payload

    def close(self) -> None:
        self.closed += 1


class FillingSource(ToySource):
    """Gives all that it has in one read."""

    def read(self) -> list[Packet]:
        return [packet for _ in range(self.count - self.sent) for packet in super(FillingSource, self).read()]


class ToyDecoder(StageThread):
    """One frame a packet; `fail_at` raises there."""

    def __init__(self, stream: str, first_index: int = 0, work_s: float = 0.0, fail_at: int | None = None) -> None:
        super().__init__()
        self.errors = 0
        self._stream, self._index, self._work_s, self._fail_at = stream, first_index, work_s, fail_at

    def process(self, item: Packet, /) -> Iterable[Frame]:
        self.check()
        time.sleep(self._work_s)
        number: Any = item.payload
        if number == self._fail_at:
            raise RuntimeError("toy decoder broke")
        self._index += 1
        yield Frame(
            stream=self._stream,
            index=self._index - 1,
            pts=number * 33,
            time_base=TIME_BASE,
            picture=None,
            width=2,
            height=2,
            decoded_s=time.monotonic(),
        )

    def flush(self) -> Iterable[Frame]:
        self.check()
        return ()


class ToyPreprocess(StageThread):
    def process(self, item: tuple[Frame, ...], /) -> Iterable[Batch]:
        self.check()
        place = Placement(left=0, top=0, width=2, height=2, frame_width=2, frame_height=2)
        yield Batch(frames=item, placements=(place,) * len(item), tensor=None)

    def flush(self) -> Iterable[Batch]:
        return ()


class ToyEngine(StageThread):
    """Notes the size of each batch; `fail_at` raises at that batch."""

    def __init__(self, work_s: float = 0.0, fail_at: int | None = None) -> None:
        super().__init__()
        self.batches: list[tuple[str, ...]] = []
        self._work_s, self._fail_at = work_s, fail_at

    def process(self, item: Batch, /) -> Iterable[Inference]:
        self.check()
        time.sleep(self._work_s)
        if len(self.batches) == self._fail_at:
            raise RuntimeError("toy engine broke")
        self.batches.append(tuple(frame.stream for frame in item.frames))
        yield Inference(frames=item.frames, placements=item.placements, outputs={})

    def flush(self) -> Iterable[Inference]:
        return ()


class ToyBlock:
    """Memory of a device that one batch has at a time: who asks for it while it is lent waits."""

    def __init__(self) -> None:
        self._free = threading.Semaphore(1)

    def lend(self, patience_s: float) -> ToyLease:
        if not self._free.acquire(timeout=patience_s):
            raise RuntimeError("toy block did not come back")
        return ToyLease(self._free)


class ToyLease:
    """A block on loan. It comes back when it is released, or when nobody holds it any more."""

    def __init__(self, free: threading.Semaphore) -> None:
        self._free: threading.Semaphore | None = free

    def release(self) -> None:
        free, self._free = self._free, None
        if free is not None:
            free.release()

    def __del__(self) -> None:
        self.release()


class AskingPreprocess(ToyPreprocess):
    """Says that it only asks a device."""

    device_s = 0.001


class AskingEngine(ToyEngine):
    """As `AskingPreprocess`. It writes its answers into a block of which there is one."""

    device_s = 0.02
    patience_s = 5.0

    def __init__(self, work_s: float = 0.0, fail_at: int | None = None) -> None:
        super().__init__(work_s, fail_at)
        self._block = ToyBlock()

    def process(self, item: Batch, /) -> Iterable[Inference]:
        for inference in super().process(item):
            yield replace(inference, outputs={"answer": self._block.lend(self.patience_s)})


class ToyHead(StageThread):
    """Lets go of the answers, then waits as for a device: `wait_s`."""

    def __init__(self, wait_s: float = 0.0, fail_at: int | None = None) -> None:
        super().__init__()
        self._wait_s, self._fail_at = wait_s, fail_at
        self._done = 0

    def process(self, item: Inference, /) -> Iterable[Frame]:
        self.check()
        self._done += 1
        if self._done == self._fail_at:
            time.sleep(self._wait_s)
            raise RuntimeError("toy head broke")
        for lease in item.outputs.values():
            lease.release()
        time.sleep(self._wait_s)
        return item.frames

    def flush(self) -> Iterable[Frame]:
        return ()


class ToyRender(StageThread):
    def process(self, item: Frame, /) -> Iterable[Frame]:
        self.check()
        yield replace(item, truth="rendered")

    def flush(self) -> Iterable[Frame]:
        return ()


class ToyEncoder(StageThread):
    """Holds `lookahead` frames back, as real encoders do; notes how old each frame was when it came."""

    def __init__(self, lookahead: int = 0, work_s: float = 0.0) -> None:
        super().__init__()
        self.ages_s: list[float] = []
        self._lookahead, self._work_s = lookahead, work_s
        self._held: list[Frame] = []

    def process(self, item: Frame, /) -> Iterable[EncodedPacket]:
        self.check()
        self.ages_s.append(time.monotonic() - item.decoded_s)
        time.sleep(self._work_s)
        self._held.append(item)
        while len(self._held) > self._lookahead:
            yield _packet(self._held.pop(0))

    def flush(self) -> Iterable[EncodedPacket]:
        self.check()
        while self._held:
            yield _packet(self._held.pop(0))


class ToySink(StageThread):
    """Keeps the pts it got. `flushed` says that it was committed."""

    def __init__(self, work_s: float = 0.0, fail_at: int | None = None, failure: Exception | None = None) -> None:
        super().__init__()
        self.pts: list[int] = []
        self.flushed = 0
        self._work_s, self._fail_at = work_s, fail_at
        self._failure = failure or RuntimeError("toy sink broke")

    def process(self, item: EncodedPacket, /) -> Iterable[Never]:
        self.check()
        time.sleep(self._work_s)
        if len(self.pts) == self._fail_at:
            raise self._failure
        self.pts.append(item.pts)
        return ()

    def flush(self) -> Iterable[Never]:
        self.check()
        self.flushed += 1
        return ()


class ToyStandIn(StageThread):
    """Notes what was written on the pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def process(self, item: Absence, /) -> Iterable[Frame]:
        self.check()
        self.texts.append(item.text)
        yield replace(item.last, pts=item.pts, duration=item.duration, truth="stand-in")

    def flush(self) -> Iterable[Frame]:
        return ()


class ToyRecorder(StageThread):
    """Keeps the frames whose results it got."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []

    def process(self, item: Frame, /) -> Iterable[Never]:
        self.check()
        self.frames.append(item)
        return ()

    def flush(self) -> Iterable[Never]:
        return ()


def _packet(frame: Frame) -> EncodedPacket:
    return EncodedPacket(format=FORMAT, data=b"", pts=frame.pts, dts=frame.pts, duration=33, key=True)


@dataclass
class Ear:
    """An observer that remembers."""

    states: list[tuple[str, StreamState, str]] = field(default_factory=list)
    dropped: list[tuple[str, StageName, str]] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    late: int = 0
    reconnects: list[str] = field(default_factory=list)
    workers: int = 0
    outputs: list[tuple[str, str, str]] = field(default_factory=list)
    """Of each change: name, state, reason."""
    packets_lost: Counter[str] = field(default_factory=Counter)

    def worker_started(self, stage: StageName, inbox: Channel[Any] | None, outbox: Channel[Any] | None) -> None:
        self.workers += 1

    def worker_ended(self, stage: StageName, inbox: Channel[Any] | None, outbox: Channel[Any] | None) -> None:
        self.workers -= 1

    def stage_done(
        self, stage: StageName, waited_s: float, busy_s: float, *, ended_s: float | None = None, thread: str = ""
    ) -> None: ...

    def batch_done(self, model: str, size: int, *, ok: bool) -> None: ...

    def frame_passed(self, stream: str, stage: StageName) -> None: ...

    def frame_dropped(self, stream: str, stage: StageName, reason: str) -> None:
        self.dropped.append((stream, stage, reason))

    def frame_failed(self, stream: str, stage: StageName) -> None: ...

    def frame_delivered(self, stream: str, latency_s: float, *, handed_s: float, late: bool) -> None:
        self.latencies_s.append(latency_s)
        self.late += late

    def stream_info(self, stream: str, info: SourceInfo) -> None: ...

    def stream_state(self, stream: str, state: StreamState, detail: str = "") -> None:
        self.states.append((stream, state, detail))

    def stream_reconnecting(self, stream: str, reason: str) -> None:
        self.reconnects.append(reason)

    def decode_errors(self, stream: str, reason: DecodeErrorReason, count: int) -> None: ...

    def output_added(self, stream: str, output: LastingOutput) -> None: ...

    def output_removed(self, stream: str, output: LastingOutput) -> None: ...

    def output_changed(self, stream: str, output: LastingOutput) -> None:
        self.outputs.append((output.name, output.state.state, output.state.reason))

    def packets_dropped(self, stream: str, output: str, reason: str, count: int) -> None:
        self.packets_lost[reason] += count


def toy_model(
    engine: ToyEngine | None = None,
    *,
    head: ToyHead | None = None,
    max_batch: int = 4,
    max_delay_s: float = 0.002,
) -> ModelStages:
    return ModelStages(
        name="toy",
        preprocess=AskingPreprocess() if isinstance(engine, AskingEngine) else ToyPreprocess(),
        infer=engine or ToyEngine(),
        postprocess=head or ToyHead(),
        max_batch=max_batch,
        max_delay_s=max_delay_s,
    )


def toy_stream(
    name: str,
    make_source: Callable[[], ToySource],
    sink: ToySink,
    *,
    encoder: ToyEncoder | None = None,
    make_decoder: Callable[[int], ToyDecoder] | None = None,
    size: int = 4,
    policy: OnFull = "block",
    max_age_s: float = 0.0,
    live: bool = False,
    stall_timeout_s: float = 5.0,
    backoff: Backoff | None = None,
) -> StreamStages:
    return StreamStages(
        ingest=IngestStages(
            make_source=make_source,
            make_decoder=make_decoder or (lambda first: ToyDecoder(name, first)),
            live=live,
            open_timeout_s=1.0,
            stall_timeout_s=stall_timeout_s,
            backoff=backoff or Backoff(initial_s=0.01, max_s=0.02),
        ),
        queue=QueueRule(size=size, policy=policy, max_age_s=max_age_s),
        render=ToyRender(),
        outputs=(OutputStages(encode=encoder or ToyEncoder(), sinks=(sink,)),),
        results=(),
    )
