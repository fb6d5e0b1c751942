"""The preprocess kernel beside a plain copy of memory, and beside the same chain of CV-CUDA operators."""

from __future__ import annotations

import statistics
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.frame import Frame
from vrseg.gpu.kernels import Kernels
from vrseg.gpu.lane import Lane
from vrseg.gpu.memory import Pool, recorded
from vrseg.gpu.surface import Surface, surface_bytes
from vrseg.models.spec import InputSpec, ModelSpec, ResolvedClass, ThresholdSpec
from vrseg.preprocess.cuda import Jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.gpu.device import Gpu

WIDTH, HEIGHT, SIZE, BATCH = 1920, 1080, 512, 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
REPEATS, ROUNDS = 100, 5
BLOCK_CLOCKS = 200_000_000
"""A tenth of a second and more."""
BLOCKER = """
extern "C" __global__ void wait_clocks(long long clocks) {
    const long long start = clock64();
    while (clock64() - start < clocks) {}
}
"""
COPY_BYTES = 1 << 30


def measure(gpu: Gpu) -> dict[str, Any]:
    """Return milliseconds per batch, bandwidths and ratios."""
    spec = _spec()
    lane = Lane(gpu, spec, max_batch=BATCH)
    stream = lane.open()
    frames = _frames(gpu, stream)
    touched = BATCH * (surface_bytes(WIDTH, HEIGHT, "nv12") + 3 * SIZE * SIZE * 2)

    lease = lane.inputs.lend(stream)
    kernels = Kernels(gpu, "vrseg.preprocess", "preprocess.cu")
    jobs = Jobs(spec.input)
    (launch,) = jobs.launches([frame.picture for frame in frames], [jobs.fit(frame) for frame in frames], lease.address)

    def own() -> None:
        kernels.launch(launch.kernel, stream, launch.grid, launch.block, (launch.job,))

    own_s = _gpu_s(stream, own)
    copy_s = _gpu_s(stream, _copy(stream))
    chain_s = _cvcuda_s(stream)
    bandwidth, copied = touched / own_s, 2 * COPY_BYTES / copy_s
    return {
        "batch_ms": own_s * 1000,
        "bytes_touched": touched,
        "gb_per_s": bandwidth / 1e9,
        "copy_gb_per_s": copied / 1e9,
        "ratio_to_copy": bandwidth / copied,
        "cvcuda_ms": chain_s * 1000 if chain_s else None,
        "times_cvcuda": chain_s / own_s if chain_s else None,
    }


def _gpu_s(stream: Any, work: Callable[[], None]) -> float:
    """Return seconds of GPU time for one call, median of several rounds of many.

    The host takes longer to ask for such short work than the GPU to do it. So the GPU is kept busy with something else
    until all of a round has been asked for.
    """
    import cupy

    block = cupy.RawKernel(BLOCKER, "wait_clocks")
    for _ in range(20):
        work()
    stream.synchronize()
    rounds = []
    for _ in range(ROUNDS):
        with stream:
            block((1,), (1,), (np.int64(BLOCK_CLOCKS),))
        start = recorded(stream, timed=True)
        for _ in range(REPEATS):
            work()
        end = recorded(stream, timed=True)
        if start.done:
            raise RuntimeError("the GPU did not wait long enough; raise BLOCK_CLOCKS")
        end.synchronize()
        rounds.append(float(cupy.cuda.get_elapsed_time(start, end)) / 1000 / REPEATS)
    return statistics.median(rounds)


def _copy(stream: Any) -> Callable[[], None]:
    import cupy

    source, target = cupy.zeros(COPY_BYTES, np.uint8), cupy.zeros(COPY_BYTES, np.uint8)
    kind = cupy.cuda.runtime.memcpyDeviceToDevice
    return lambda: cupy.cuda.runtime.memcpyAsync(target.data.ptr, source.data.ptr, COPY_BYTES, kind, stream.ptr)


def _frames(gpu: Gpu, stream: Any) -> tuple[Frame, ...]:
    import cupy

    size = surface_bytes(WIDTH, HEIGHT, "nv12")
    # more pictures than a batch, so that the cache does not hold them from round to round
    pool = Pool(gpu, "device", size, limit=BATCH, name="bench")
    pixels = np.random.default_rng(0).integers(16, 235, size, np.uint8)
    frames = []
    for index in range(BATCH):
        lease = pool.lend(stream)
        cupy.cuda.runtime.memcpy(lease.address, pixels.ctypes.data, size, cupy.cuda.runtime.memcpyHostToDevice)
        surface = Surface(
            lease=lease, width=WIDTH, height=HEIGHT, matrix="bt709", full_range=False, ready=recorded(stream)
        )
        frames.append(
            Frame(
                stream="bench",
                index=index,
                pts=index,
                time_base=Fraction(1, 30),
                picture=surface,
                width=WIDTH,
                height=HEIGHT,
                decoded_s=0.0,
            )
        )
    return tuple(frames)


def _cvcuda_s(stream: Any) -> float | None:
    """The usual chain: colour, resize by area, to float, normalise, planes. None where CV-CUDA is not installed."""
    try:
        import cvcuda
    except ImportError:
        return None
    import cupy

    own = cvcuda.as_stream(stream.ptr)
    source = cupy.random.randint(16, 235, (BATCH, HEIGHT * 3 // 2, WIDTH, 1)).astype(cupy.uint8)
    mean = cvcuda.as_tensor(cupy.array(MEAN, cupy.float32).reshape(1, 1, 1, 3), "NHWC")
    std = cvcuda.as_tensor(cupy.array(STD, cupy.float32).reshape(1, 1, 1, 3), "NHWC")
    pictures = cvcuda.as_tensor(source, "NHWC")
    rgb = cvcuda.Tensor((BATCH, HEIGHT, WIDTH, 3), np.uint8, "NHWC")
    small = cvcuda.Tensor((BATCH, SIZE, SIZE, 3), np.uint8, "NHWC")
    real = cvcuda.Tensor((BATCH, SIZE, SIZE, 3), np.float32, "NHWC")
    normal = cvcuda.Tensor((BATCH, SIZE, SIZE, 3), np.float32, "NHWC")
    planes = cvcuda.Tensor((BATCH, 3, SIZE, SIZE), np.float32, "NCHW")

    def chain() -> None:
        cvcuda.cvtcolor_into(rgb, pictures, cvcuda.ColorConversion.YUV2RGB_NV12, stream=own)
        cvcuda.resize_into(small, rgb, cvcuda.Interp.AREA, stream=own)
        cvcuda.convertto_into(real, small, scale=1 / 255, stream=own)
        cvcuda.normalize_into(normal, real, mean, std, cvcuda.NormalizeFlags.SCALE_IS_STDDEV, stream=own)
        cvcuda.reformat_into(planes, normal, stream=own)

    return _gpu_s(stream, chain)


def _spec() -> ModelSpec:
    return ModelSpec(
        name="bench",
        path=Path("none.onnx"),
        task="segment",
        input=InputSpec(
            name="input",
            width=SIZE,
            height=SIZE,
            layout="nchw",
            color="rgb",
            dtype="float16",
            scale=1 / 255,
            mean=MEAN,
            std=STD,
            fit="stretch",
            anchor="center",
            pad=0,
        ),
        batch=None,
        outputs=("scores",),
        decode="logits",
        channels_last=False,
        classes=(ResolvedClass(name="a", color_rgb=(255, 0, 0)),),
        thresholds=ThresholdSpec(mask=0.5, score=0.3, iou=0.45, max_boxes=300),
        licence=None,
        title="bench",
    )
