"""Frames to model input on the CPU: one swscale pass from the decoder's own pixel format, one pass into the tensor."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import av.error
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from vrseg.errors import MediaError
from vrseg.frame import Batch
from vrseg.preprocess.normalise import LEVEL, normaliser, pixel_type
from vrseg.preprocess.placement import place

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from vrseg.frame import Frame, Placement
    from vrseg.models.spec import InputSpec, ModelSpec
    from vrseg.preprocess.normalise import Pixels

# One batch in inference, one waiting, one just made, one in the making: see Batch.tensor.
_BUFFERS = 4
# Setting up swscale for a size costs as much as a sixth of a frame; a daemon sees few sizes, but for months.
_MAX_SCALERS = 64
# Averages when it shrinks and is bilinear when it enlarges; of swscale's methods it is both the fastest and, with
# planes of 14 bits, the mean of a box to 0.01 of 255. The flag keeps FFmpeg from its tables,
# by which 8-bit pictures that keep their size would get each chroma sample twice (1.3 of 255).
_INTERPOLATION = Interpolation.AREA | Interpolation.ACCURATE_RND
# Untagged video above the size of PAL is BT.709, below it BT.601, as players take it.
_MAX_SD_HEIGHT = 576
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
# Planar output needs no packing in swscale: half the time of rgb24, even when the planes are interleaved afterwards.
# 14 bits cost no more than 8, and networks tell them apart where people are small: an edge of a mask moves by a pixel
# for half a level. (16 bits are not better: swscale then rounds down.)
_FORMATS = {np.dtype(np.uint8): "gbrp", np.dtype(np.uint16): "gbrp14le"}
_PLANES = {"rgb": (2, 0, 1), "bgr": (1, 0, 2)}
"""Which of the planes G, B, R is the first, second and third channel."""


class SwscalePreprocess:
    """Frames of any size and pixel format become one tensor. A `Preprocess` stage.

    Four buffers are used in turn, so a batch's tensor stays valid until the fourth batch after it is asked for.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._input = spec.input
        self._pixel = pixel_type(spec.input)
        self._buffers: list[_Buffer] = []
        self._scalers: OrderedDict[tuple[object, ...], VideoReformatter] = OrderedDict()
        self._turn = 0

    def open(self) -> None:
        self._buffers = [_Buffer(self._input) for _ in range(_BUFFERS)]

    def process(self, item: tuple[Frame, ...], /) -> Iterable[Batch]:
        """Scale, colour and normalise a batch.

        Raises:
            MediaError: FFmpeg cannot scale a frame's pixel format.
        """
        buffer = self._buffers[self._turn]
        self._turn = (self._turn + 1) % _BUFFERS
        buffer.grow(len(item))
        placements = tuple(place(one.width, one.height, one.rotation_deg, self._input) for one in item)
        for slot, (frame, placement) in enumerate(zip(item, placements, strict=True)):
            buffer.write(slot, placement, self._scaled(frame, placement))
        return (Batch(frames=item, placements=placements, tensor=buffer.tensor[: len(item)]),)

    def flush(self) -> Iterable[Batch]:
        return ()

    def close(self) -> None:
        self._buffers.clear()
        self._scalers.clear()

    def _scaled(self, frame: Frame, placement: Placement) -> list[Pixels]:
        """Scale in the coded orientation: turning the small picture afterwards is cheaper."""
        width, height = placement.width, placement.height
        if placement.rotation_deg in (90, 270):
            width, height = height, width
        picture = frame.picture
        space = None
        if picture.colorspace == _UNSPECIFIED:
            space = Colorspace.ITU601 if picture.height <= _MAX_SD_HEIGHT else Colorspace.ITU709
        key = (
            picture.format.name,
            picture.width,
            picture.height,
            picture.colorspace,
            picture.color_range,
            width,
            height,
        )
        try:
            scaled = self._scaler(key).reformat(
                picture,
                width,
                height,
                _FORMATS[self._pixel],
                src_colorspace=space,
                interpolation=_INTERPOLATION,
                threads=1,
            )
        except (av.error.FFmpegError, ValueError) as error:
            size = f"{picture.width}x{picture.height}"
            raise MediaError(
                f"{frame.stream}: FFmpeg cannot scale {picture.format.name} {size} to {width}x{height}; "
                "convert the video to yuv420p"
            ) from error
        planes = [_rows(plane, width, self._pixel) for plane in scaled.planes]
        turns = -(placement.rotation_deg // 90)
        return [np.rot90(planes[index], turns) if turns else planes[index] for index in _PLANES[self._input.color]]

    def _scaler(self, key: tuple[object, ...]) -> VideoReformatter:
        scaler = self._scalers.pop(key, None) or VideoReformatter()
        self._scalers[key] = scaler
        if len(self._scalers) > _MAX_SCALERS:
            self._scalers.popitem(last=False)
        return scaler


class _Buffer:
    """The tensor of one batch, and where in it pictures lie: padding is written only when that changes."""

    def __init__(self, target: InputSpec) -> None:
        self._target = target
        self._normalise = normaliser(target)
        self.tensor: npt.NDArray[Any] = np.empty((0, *target.shape), target.dtype)
        self._placed: list[tuple[int, int, int, int] | None] = []

    def grow(self, frames: int) -> None:
        if frames > len(self.tensor):
            self.tensor = np.empty((frames, *self._target.shape), self._target.dtype)
            self._placed = [None] * frames

    def write(self, slot: int, placement: Placement, channels: list[Pixels]) -> None:
        planes = self.tensor[slot]
        if self._target.layout == "nhwc":
            planes = planes.transpose(2, 0, 1)
        box = (placement.left, placement.top, placement.width, placement.height)
        if box != self._placed[slot]:
            pixel = pixel_type(self._target)
            grey = np.full((1, 1), self._target.pad * LEVEL[pixel], pixel)
            for index, plane in enumerate(planes):
                value = np.empty((1, 1), self._target.dtype)
                self._normalise(index, grey, value)
                plane[...] = value
            self._placed[slot] = box
        left, top, width, height = box
        for index, (plane, channel) in enumerate(zip(planes, channels, strict=True)):
            self._normalise(index, channel, plane[top : top + height, left : left + width])


def _rows(plane: av.video.plane.VideoPlane, width: int, pixel: np.dtype[Any]) -> Pixels:
    return np.frombuffer(memoryview(plane), pixel).reshape(plane.height, -1)[:, :width]
