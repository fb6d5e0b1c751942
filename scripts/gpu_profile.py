"""Where the time of the GPU path goes, function by function and kernel by kernel."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpu_bare import packets_of
from gpu_harness import stream_name, timed_kernels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vrseg.backend.backend import Backend, ModelWork
    from vrseg.frame import Frame


def print_profile(backend: Backend, work: ModelWork, clip: Path, batch: int) -> None:
    """Where the host's time goes, by function, and the GPU's, by kernel: one thread, stage after stage."""
    source, packets = packets_of(clip, 900)
    decoder = backend.make_decoder("bench", live=False, first_index=0)
    decoder.open()
    frames: list[Frame] = []

    def decode_all() -> None:
        for packet in packets:
            frames.extend(decoder.process(packet))
            del frames[:-batch]

    _profiled("decode, 900 packets", decode_all)
    stages = (work.preprocess, work.infer, work.postprocess)
    for stage in stages:
        stage.open()
    held = tuple(replace(frame, stream=stream_name(0)) for frame in frames)

    def run_batches(count: int = 100) -> None:
        for _ in range(count):
            item: Any = held
            for stage in stages:
                outputs = list(stage.process(item))
                item = outputs[0]

    run_batches(10)
    with timed_kernels(backend.gpu) as spent_us:
        run_batches()
    for name, durations in sorted(spent_us.items()):
        print(f"{name}: {statistics.median(durations):.1f} us, {len(durations)} launches")
    _profiled(f"100 batches of {batch}", run_batches)
    for stage in stages:
        stage.close()
    decoder.close()
    source.close()


def _profiled(title: str, work: Callable[[], None]) -> None:
    cpu_s, wall_s = time.thread_time(), time.perf_counter()
    work()
    print(f"## {title}: {time.thread_time() - cpu_s:.3f} s CPU, {time.perf_counter() - wall_s:.3f} s in all")
    counter = cProfile.Profile(time.thread_time)
    counter.runcall(work)
    pstats.Stats(counter).sort_stats("tottime").print_stats(28)
