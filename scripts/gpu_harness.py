"""What the GPU benchmarks share: clips made on the spot, streams run for a while, and what was counted meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import statistics
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import uvloop
from prometheus_client import CollectorRegistry

from vrseg.assembly import credits_for
from vrseg.backoff import Backoff
from vrseg.config.schema import Reconnect, SourceSection
from vrseg.gpu.kernels import Kernels
from vrseg.gpu.memory import elapsed_s, recorded, wait_for
from vrseg.pipeline.ingest import IngestStages
from vrseg.pipeline.ledger import Ledger
from vrseg.pipeline.model import ModelRunner, ModelStages
from vrseg.pipeline.outputs import OutputStages
from vrseg.pipeline.stream import QueueRule, StreamStages, run_stream
from vrseg.source.open import make_source
from vrseg.telemetry.logs import make_logger
from vrseg.telemetry.metrics import Metrics
from vrseg.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vrseg.backend.backend import Backend, ModelWork
    from vrseg.frame import Frame
    from vrseg.gpu.device import Gpu
    from vrseg.pipeline.channel import OnFull


def write_clip(
    source: Path,
    target: Path,
    *,
    size: tuple[int, int],
    codec: str,
    frames: int,
    rate: int = 30,
    gop: int = 60,
    b_frames: bool = True,
) -> Path:
    """Scale a real clip to `size` (width, height), again and again, until `frames` are written."""
    width, height = size
    options = {"preset": "veryfast" if codec == "libx264" else "ultrafast", **({} if b_frames else {"bf": "0"})}
    with av.open(str(target), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        # Left to itself PyAV makes x264 cut each picture into as many slices as there are threads, as no file is.
        stream.codec_context.thread_type = "FRAME"
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", gop
        stream.codec_context.thread_count = 16
        written = 0
        while written < frames:
            with av.open(str(source)) as container:
                for picture in container.decode(video=0):
                    scaled = picture.reformat(width, height, "yuv420p", threads=8)
                    scaled.pts, scaled.time_base = written, Fraction(1, rate)
                    out.mux(stream.encode(scaled))
                    written += 1
                    if written == frames:
                        break
        out.mux(stream.encode(None))
    return target


def repeat_clip(source: Path, target: Path, times: int) -> Path:
    """Write a clip `times` over, without coding it anew."""
    with av.open(str(target), "w") as out, av.open(str(source)) as probe:
        stream = out.add_stream_from_template(probe.streams.video[0])
        offset = 0
        for _ in range(times):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                last = 0
                for packet in container.demux(video):
                    if packet.pts is None or packet.dts is None:
                        continue
                    last = max(last, packet.pts + (packet.duration or 0))
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = stream
                    out.mux(packet)
                offset += last
    return target


@dataclass(kw_only=True)
class Discard:
    """An encoder that only notes how old each frame is."""

    ages_s: list[float] = field(default_factory=list)

    def open(self) -> None:
        """Nothing to acquire."""

    def process(self, frame: Frame, /) -> Iterable[Any]:
        """Note and forget."""
        self.ages_s.append(time.monotonic() - frame.decoded_s)
        return ()

    def flush(self) -> Iterable[Any]:
        """Nothing is left."""
        return ()

    def close(self) -> None:
        """Nothing to release."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is run."""

    clips: tuple[Path, ...]
    """One stream each."""
    seconds: float
    batch: int
    realtime: bool = False
    file_decoder: bool = False
    max_delay_s: float = 0.005
    warm_s: float = 4.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured in the middle of a run."""

    frames_per_s: float
    cpu_ms_per_frame: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    dropped: int
    frames: int
    batches: int
    counts: dict[str, int]
    stages: dict[str, float]
    """Busy ratio by stage."""
    thread_cpu_ms: dict[str, float]
    """CPU time per frame by thread; those of one kind of all streams together."""


def run_load(load: Load, backend: Backend, work: ModelWork) -> Outcome:
    """Run streams through one model; everything between two moments is measured."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run_load(load, backend, work))


async def _run_load(load: Load, backend: Backend, work: ModelWork) -> Outcome:
    recorder = Recorder(Metrics(CollectorRegistry()), make_logger("text", "error"))
    model = ModelRunner(
        ModelStages(
            name="bench",
            preprocess=work.preprocess,
            infer=work.infer,
            postprocess=work.postprocess,
            max_batch=load.batch,
            max_delay_s=load.max_delay_s,
        ),
        recorder,
    )
    stop = asyncio.Event()
    discards = [Discard() for _ in load.clips]
    ledgers = [
        Ledger(stream_name(number), credits_for(load.batch, backend), recorder) for number in range(len(load.clips))
    ]
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(model.run())
        await model.ready.wait()
        gc.collect()
        gc.freeze()  # as the daemon does
        async with asyncio.TaskGroup() as streams:
            for number, clip in enumerate(load.clips):
                recorder.add_stream(ledgers[number])
                stages = _stages(load, backend, clip, number, discards[number])
                streams.create_task(run_stream(stages, model, ledgers[number], recorder, stop))
            await asyncio.sleep(load.warm_s)
            before = _moment(ledgers, recorder, backend)
            for discard in discards:
                discard.ages_s.clear()
            await asyncio.sleep(load.seconds)
            after = _moment(ledgers, recorder, backend)
            ages_s = [age_s for discard in discards for age_s in discard.ages_s]
            stop.set()
        model.close()
        await serving
    frames, passed_s = after["frames"] - before["frames"], after["at_s"] - before["at_s"]
    if not frames:
        raise RuntimeError("no frame arrived: is the clip long enough?")
    p50, p95, p99 = np.quantile(ages_s, (0.5, 0.95, 0.99)) * 1000
    readings = recorder.meter.since(before["mark"], after["mark"])
    return Outcome(
        frames_per_s=frames / passed_s,
        cpu_ms_per_frame=1000 * (after["cpu_s"] - before["cpu_s"]) / frames,
        latency_p50_ms=float(p50),
        latency_p95_ms=float(p95),
        latency_p99_ms=float(p99),
        dropped=after["dropped"] - before["dropped"],
        frames=frames,
        batches=after["batches"] - before["batches"],
        counts={name: after["counts"][name] - before["counts"][name] for name in after["counts"]},
        thread_cpu_ms=_per_frame(before["threads"], after["threads"], frames),
        stages={one.stage: round(one.busy_ratio, 3) for one in readings.stages},
    )


def stream_name(number: int) -> str:
    """Name of the stream that is fed by the clip of this number."""
    return f"s{number}"


def _stages(load: Load, backend: Backend, clip: Path, number: int, discard: Discard) -> StreamStages:
    name = stream_name(number)
    section = SourceSection(uri=str(clip), realtime=load.realtime, reconnect=Reconnect())
    make = backend.make_file_decoder if load.file_decoder else backend.make_decoder
    policy: OnFull = "drop_oldest" if load.realtime else "block"
    return StreamStages(
        ingest=IngestStages(
            make_source=lambda: make_source(section),
            make_decoder=lambda first_index: make(name, live=load.realtime, first_index=first_index),
            live=load.realtime,
            open_timeout_s=30,
            stall_timeout_s=30,
            backoff=Backoff(initial_s=1, max_s=1, jitter=0, attempts=1),
        ),
        queue=QueueRule(size=max(4, load.batch), policy=policy, max_age_s=0.5 if load.realtime else 0.0),
        render=None,
        outputs=(OutputStages(encode=discard, sinks=()),),
        results=(),
    )


def _moment(ledgers: list[Ledger], recorder: Recorder, backend: Backend) -> dict[str, Any]:
    counts = backend.gpu.counts.snapshot() if backend.gpu else None
    return {
        "at_s": time.monotonic(),
        "cpu_s": time.process_time(),
        "frames": sum(ledger.delivered for ledger in ledgers),
        "dropped": sum(ledger.dropped.total() - ledger.dropped["stopped"] for ledger in ledgers),
        "mark": recorder.meter.mark(),
        "threads": _thread_cpu_s(),
        "batches": recorder.meter.items("infer"),
        "counts": {name: getattr(counts, name) for name in counts.__slots__} if counts else {},
    }


def _thread_cpu_s() -> dict[str, float]:
    """CPU seconds of all threads so far, by name without the stream's; those that Python did not start as `native`."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    spent: defaultdict[str, float] = defaultdict(float)
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            name = names.get(int(task.name), "native").rpartition(".")[2]
            spent[name] += (int(fields[11]) + int(fields[12])) * tick_s
    return spent


def _per_frame(before: dict[str, float], after: dict[str, float], frames: int) -> dict[str, float]:
    return {name: round(1000 * (after[name] - before.get(name, 0.0)) / frames, 4) for name in sorted(after)}


@contextlib.contextmanager
def timed_kernels(gpu: Gpu) -> Iterator[dict[str, list[float]]]:
    """Time each launch of a kernel of ours within the block, in microseconds of the GPU, by name."""
    spent_us: dict[str, list[float]] = defaultdict(list)
    launch = Kernels.launch

    def timed(self: Kernels, name: str, stream: Any, *arguments: Any) -> None:
        begun = recorded(stream, timed=True)
        launch(self, name, stream, *arguments)
        done = recorded(stream, timed=True)
        wait_for(gpu, done)
        spent_us[name].append(elapsed_s(begun, done) * 1e6)

    Kernels.launch = timed  # type: ignore[method-assign, assignment] # for this block only
    try:
        yield spent_us
    finally:
        Kernels.launch = launch  # type: ignore[method-assign] # as it was


def median_of(rounds: int, measure: Callable[[], float]) -> float:
    """Return the median of several measurements."""
    return statistics.median(measure() for _ in range(rounds))


def with_names(outcome: Outcome) -> dict[str, Any]:
    """Return plain data."""
    return replace(outcome).__dict__
