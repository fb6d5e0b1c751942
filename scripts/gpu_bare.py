"""The same libraries in the barest loops that they allow: what the GPU path is held against."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, cast

import av

from vrseg.source.file import FileSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vrseg.frame import Packet


def packets_of(path: Path, frames: int) -> tuple[FileSource, list[Packet]]:
    """Read packets into memory; they live as long as the source."""
    source = FileSource(str(path))
    source.open()
    packets: list[Packet] = []
    while len(packets) < frames and (batch := source.read()):
        packets += batch
    return source, packets[:frames]


def annex_b(packets: list[Packet]) -> list[bytearray]:
    """Return the packets as NVDEC takes them."""
    from vrseg.decode.bitstream import ByteStream

    payloads = [packet.payload for packet in packets if isinstance(packet.payload, av.Packet)]
    context = payloads[0].stream.codec_context
    convert = ByteStream(context.name, context.extradata or b"").convert
    return [convert(payload, entry=payload.is_keyframe) for payload in payloads]


def bare_decode(units: list[bytearray], codec: str, repeats: int) -> tuple[int, float]:
    """Decode in the barest loop that PyNvVideoCodec allows; return the number of frames, and the seconds it took."""
    import cupy
    import numpy as np
    import PyNvVideoCodec as nvc  # noqa: N813 -- as its own documentation calls it

    cupy.cuda.Device(0).use()
    stream = cupy.cuda.Stream(non_blocking=True)
    kind = {"h264": nvc.cudaVideoCodec.H264, "hevc": nvc.cudaVideoCodec.HEVC}[codec]
    decoder = nvc.CreateDecoder(gpuid=0, codec=kind, cudastream=stream.ptr, usedevicememory=True)
    frames = 0
    start_s = time.perf_counter()
    for _ in range(repeats):
        for unit in units:
            packet = nvc.PacketData()
            packet.bsl_data = np.frombuffer(unit, np.uint8).ctypes.data
            packet.bsl = len(unit)
            frames += len(decoder.Decode(packet))
    frames += len(decoder.Decode(nvc.PacketData()))
    stream.synchronize()
    passed_s = time.perf_counter() - start_s
    del decoder
    return frames, passed_s


def bare_engine(infer: Any, batch: int, batches: int = 300) -> float:
    """Return frames per second of the engine alone: the session of the stage, enqueued over and over, with one wait."""
    from vrseg.frame import Batch
    from vrseg.gpu.tensor import DeviceTensor

    infer.open()
    lane = infer.lane
    stream = lane.open()
    shape = (batch, *lane.spec.input.shape)

    def run(times: int) -> None:
        for _ in range(times):
            tensor = DeviceTensor(lease=lane.inputs.lend(stream), shape=shape, dtype=lane.spec.input.dtype)
            # The stage counts the frames and never looks at them.
            for inference in infer.process(Batch(frames=cast("Any", (None,) * batch), placements=(), tensor=tensor)):
                next(iter(inference.outputs.values())).lease.release()
        stream.synchronize()

    run(20)
    start_s = time.perf_counter()
    run(batches)
    fps = batch * batches / (time.perf_counter() - start_s)
    infer.close()
    return fps


def on_threads(count: int, work: Callable[[], tuple[int, float]]) -> float:
    """Run `work` on so many threads at once; return the sum of their frames per second."""
    done: list[tuple[int, float]] = []
    threads = [threading.Thread(target=lambda: done.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(done) < count:
        raise RuntimeError("a decoder failed; see above")
    return sum(frames / passed_s for frames, passed_s in done)
