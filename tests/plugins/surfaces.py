"""Pictures of noise, and any picture as a surface."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
from plugins.gpu_on_cpu import upload

from vrseg.gpu.memory import recorded
from vrseg.gpu.surface import Surface

if TYPE_CHECKING:
    import cupy
    import numpy.typing as npt

    from vrseg.frame import U8
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.surface import ChromaSiting, Matrix

COLORSPACES: dict[Matrix, int] = {"bt601": 5, "bt709": 1, "bt2020": 9}  # as FFmpeg numbers them
MATRICES = {number: name for name, number in COLORSPACES.items()}


def noise(
    width: int, height: int, *, deep: bool = False, matrix: Matrix = "bt709", full_range: bool = False, seed: int = 0
) -> av.VideoFrame:
    """Make a picture of independent samples, the hardest to resize; luma and chroma within the range."""
    chance = np.random.default_rng(seed)
    picture = av.VideoFrame(width, height, "yuv420p10le" if deep else "yuv420p")
    for number, plane in enumerate(picture.planes):
        low, high = (0, 256) if full_range else (16, 241 if number else 236)
        values = chance.integers(4 * low, 4 * high, (plane.height, plane.line_size // (2 if deep else 1)))
        plane.update((values if deep else values // 4).astype("<u2" if deep else np.uint8).tobytes())
    picture.colorspace = COLORSPACES[matrix]
    picture.color_range = 2 if full_range else 1
    return picture


def planes_of(picture: av.VideoFrame) -> U8:
    """Return the rows of an NV12 or P016 surface, (height * 3 / 2, bytes), without help from FFmpeg's scaler."""
    deep = "10" in picture.format.name
    sample: npt.DTypeLike = "<u2" if deep else np.uint8
    luma, cb, cr = (
        np.frombuffer(memoryview(plane), sample).reshape(plane.height, -1)[:, : plane.width] << (6 if deep else 0)
        for plane in picture.planes
    )
    rows = np.concatenate([luma, np.stack([cb, cr], -1).reshape(len(cb), -1)])
    return np.ascontiguousarray(rows).view(np.uint8)


def surface_of(gpu: Gpu, stream: cupy.cuda.Stream, picture: av.VideoFrame, siting: ChromaSiting = "center") -> Surface:
    """FFmpeg takes what PyAV makes for centred, and what its decoder of H.264 makes for left."""
    return Surface(
        lease=upload(gpu, planes_of(picture)).lease,
        width=picture.width,
        height=picture.height,
        format="p016" if "10" in picture.format.name else "nv12",
        matrix=MATRICES.get(picture.colorspace, "bt601"),
        full_range=picture.color_range == 2,
        siting=siting,
        ready=recorded(stream),
    )
