"""The same frame drawn on the CPU and by the GPU path, to be compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from plugins.gpu_on_cpu import download, upload

from vrseg.frame import Segmentation
from vrseg.gpu.found import DeviceDetections, DeviceSegmentation
from vrseg.gpu.memory import recorded
from vrseg.gpu.surface import Surface
from vrseg.gpu.tensor import DeviceTensor
from vrseg.postprocess.class_map import in_bytes
from vrseg.render.cpu import make_render
from vrseg.render.cuda import Paint, PaintStyle
from vrseg.render.picture import planes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import av
    import numpy.typing as npt

    from vrseg.config.schema import View
    from vrseg.frame import Detections, Frame, Result
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.found import DeviceResult
    from vrseg.gpu.surface import Matrix
    from vrseg.models.spec import ResolvedClass

COLOURSPACES: dict[Matrix, int] = {"bt601": 6, "bt709": 1, "bt2020": 9}
"""FFmpeg's numbers."""
ROWS_LEFT = 9
"""More rows of boxes than hold one: only `count` may tell."""


@dataclass(frozen=True, slots=True)
class Yuv420:
    """Planes as integers, so that differences have signs."""

    y: npt.NDArray[np.int16]
    u: npt.NDArray[np.int16]
    v: npt.NDArray[np.int16]

    def off(self, other: Yuv420) -> float:
        """Mean absolute difference, of the plane where it is largest."""
        return max(float(difference.mean()) for difference in self._differences(other))

    def most(self, other: Yuv420) -> int:
        """Largest difference of any sample."""
        return max(int(difference.max()) for difference in self._differences(other))

    def _differences(self, other: Yuv420) -> list[npt.NDArray[np.int16]]:
        return [np.abs(a - b) for a, b in ((self.y, other.y), (self.u, other.u), (self.v, other.v))]


def tagged(picture: av.VideoFrame, pixel_format: str, matrix: Matrix, *, full_range: bool) -> av.VideoFrame:
    """Give a picture another format, and say how its samples are meant; they stay as they are."""
    made = picture.reformat(format=pixel_format)
    made.colorspace, made.color_range = COLOURSPACES[matrix], 2 if full_range else 1
    return made


def surface_of(gpu: Gpu, picture: av.VideoFrame) -> Surface:
    """Upload an nv12 or p010le picture."""
    import cupy

    sample_bytes = 1 if picture.format.name == "nv12" else 2
    rows = [np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1) for plane in picture.planes]
    tensor = upload(gpu, np.concatenate([plane[:, : picture.width * sample_bytes] for plane in rows]))
    matrices = {number: matrix for matrix, number in COLOURSPACES.items()}
    return Surface(
        lease=tensor.lease,
        width=picture.width,
        height=picture.height,
        format="nv12" if picture.format.name == "nv12" else "p016",
        matrix=matrices[picture.colorspace],
        full_range=picture.color_range == 2,
        ready=recorded(cupy.cuda.Stream(non_blocking=True)),
    )


def device_result(gpu: Gpu, result: Result) -> DeviceResult:
    """Upload a result, beside other data in one block, as heads do."""
    if isinstance(result, Segmentation):
        before = 512
        tensor = upload(gpu, np.concatenate([np.zeros(before, np.uint8), in_bytes(result.scores).ravel()]))
        scores = DeviceTensor(lease=tensor.lease, shape=result.scores.shape, dtype="uint8", offset_bytes=before)
        return DeviceSegmentation(scores=scores, class_ids=result.class_ids, threshold=result.threshold >> 8)
    return _device_boxes(gpu, result)


def _device_boxes(gpu: Gpu, result: Detections) -> DeviceDetections:
    def padded(array: npt.NDArray[Any], dtype: str, rubbish: float) -> DeviceTensor:
        rows = np.full((len(result) + ROWS_LEFT, *array.shape[1:]), rubbish, dtype)
        rows[: len(result)] = array
        return upload(gpu, rows)

    return DeviceDetections(
        boxes_xyxy=padded(result.boxes_xyxy, "float32", 20.0),
        scores=padded(result.scores, "float32", 0.5),
        class_ids=padded(result.class_ids, "int32", 0),
        count=upload(gpu, np.array([len(result)], np.int32)),
    )


def on_gpu(gpu: Gpu, frames: Sequence[Frame], paint: Paint, stream: Any) -> list[Frame]:
    """Draw frames whose pictures and results are on the host; those come back whose picture is new."""
    carried = [replace(frame, picture=surface_of(gpu, frame.picture)) for frame in frames]
    found = [None if frame.result is None else device_result(gpu, frame.result) for frame in frames]
    pictures = paint.enqueue(carried, found, stream)
    return [
        replace(frame, picture=picture) for frame, picture in zip(carried, pictures, strict=True) if picture is not None
    ]


def drawn_on_gpu(gpu: Gpu, frames: Sequence[Frame], styles: Mapping[str, PaintStyle]) -> list[Yuv420]:
    """Draw and download."""
    stream, paint = gpu.new_stream(), Paint(gpu, styles)
    paint.open(stream)
    drawn = [planes(frame.picture) for frame in on_gpu(gpu, frames, paint, stream)]
    paint.close()
    paint.close()
    return drawn


def planes(surface: Surface) -> Yuv420:
    """Download an nv12 surface."""
    surface.ready.synchronize()
    assert surface.format == "nv12"
    shape = (surface.height * 3 // 2, surface.width)
    packed = download(DeviceTensor(lease=surface.lease, shape=shape, dtype="uint8")).astype(np.int16)
    luma, chroma = packed[: surface.height], packed[surface.height :]
    return Yuv420(luma, chroma[:, 0::2], chroma[:, 1::2])


def drawn_on_cpu(frame: Frame, view: View, opacity: float, classes: Sequence[ResolvedClass]) -> Yuv420:
    """Draw one frame as the CPU path does."""
    render = make_render(view, opacity=opacity, classes=classes)
    render.open()
    (drawn,) = render.process(frame)
    render.close()
    picture = drawn.picture
    if picture.format.name == "p010le":  # nothing was drawn
        picture = picture.reformat(format="nv12")
    shown = planes_of(picture)
    return Yuv420(shown.y.astype(np.int16), shown.u.astype(np.int16), shown.v.astype(np.int16))
