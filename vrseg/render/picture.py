"""Pictures as the planes they are made of: private copies to draw on, and colours in their terms.

Drawing happens on 8-bit 4:2:0 planes. Turning a frame into RGB and back would cost ten times what drawing costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import av
import numpy as np

if TYPE_CHECKING:
    from av.video.plane import VideoPlane

    from vrseg.frame import U8

Yuv: TypeAlias = tuple[int, int, int]
"""8 bits each, in the range (limited or full) of the picture they are meant for."""

_DRAWABLE = frozenset({"yuv420p", "yuvj420p", "nv12"})
_FULL_RANGE = 2
_LIMITED_RANGE = 1
_BT601 = 6

# Kr and Kb of the matrix, ITU-T H.273 table 4; by FFmpeg's number of the colour space.
_MATRICES = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
_MATRICES |= dict.fromkeys((9, 10), (0.2627, 0.0593))
_SD_MATRIX, _HD_MATRIX = _MATRICES[_BT601], _MATRICES[1]


@dataclass(frozen=True, slots=True)
class Planes:
    """Writable views of the three planes of one picture; nothing else may hold the picture while they are used."""

    y: U8
    """(height, width)"""
    u: U8
    """(height, width) / 2, rounded up; every second byte where the picture is NV12."""
    v: U8


def drawable_copy(picture: av.VideoFrame) -> av.VideoFrame:
    """Copy a picture into one of its own that can be drawn on; other than 8-bit 4:2:0 becomes yuv420p."""
    same = drawable(picture)
    if same is not picture:
        return same
    copy = blank_like(picture)
    for source, target in zip(picture.planes, copy.planes, strict=True):
        # Row padding included: a plane in one go is twice as fast as row by row.
        if source.line_size == target.line_size:
            np.copyto(np.frombuffer(memoryview(target), np.uint8), np.frombuffer(memoryview(source), np.uint8))
        else:
            shared = min(source.line_size, target.line_size)
            _rows(target)[:, :shared] = _rows(source)[:, :shared]
    return copy


def drawable(picture: av.VideoFrame) -> av.VideoFrame:
    """Give the picture itself if it is 8-bit 4:2:0, else a yuv420p version of it."""
    if picture.format.name in _DRAWABLE:
        return picture
    converted = picture.reformat(format="yuv420p", threads=1)
    _correct_tags(picture, converted)
    return converted


def blank_like(picture: av.VideoFrame) -> av.VideoFrame:
    """Make a picture with the size and colour tags of `picture`, and pixels of no particular value.

    It has no time of its own: that is the Frame's.
    """
    own = picture.format.name
    blank = av.VideoFrame(picture.width, picture.height, own if own in _DRAWABLE else "yuv420p")
    blank.color_range, blank.colorspace = picture.color_range, picture.colorspace
    blank.color_primaries, blank.color_trc = picture.color_primaries, picture.color_trc
    _correct_tags(picture, blank)
    return blank


def planes_of(picture: av.VideoFrame) -> Planes:
    """View a drawable picture's planes."""
    luma = _plane(picture.planes[0])
    if picture.format.name == "nv12":
        chroma = _plane(picture.planes[1], samples=2)
        return Planes(luma, chroma[:, 0::2], chroma[:, 1::2])
    return Planes(luma, _plane(picture.planes[1]), _plane(picture.planes[2]))


def upright(planes: Planes, rotation_deg: int) -> Planes:
    """View the planes as they will be shown; what is drawn there lands in the coded picture."""
    turns = -rotation_deg // 90  # rot90 counts counter-clockwise
    return Planes(np.rot90(planes.y, turns), np.rot90(planes.u, turns), np.rot90(planes.v, turns))


def yuv_of(rgb: tuple[int, int, int], picture: av.VideoFrame) -> Yuv:
    """Convert a colour into the matrix and range of `picture`.

    A picture that does not name its matrix gets the one that players assume: BT.709 for high definition, else BT.601.
    """
    kr, kb = _MATRICES.get(picture.colorspace, _HD_MATRIX if _looks_hd(picture) else _SD_MATRIX)
    return converted(rgb, kr, kb, full_range=is_full_range(picture))


def is_full_range(picture: av.VideoFrame) -> bool:
    """Tell whether luma runs from 0 to 255 and not from 16 to 235."""
    return picture.color_range == _FULL_RANGE or picture.format.name.startswith("yuvj")


@lru_cache(maxsize=1024)
def converted(rgb: tuple[int, int, int], kr: float, kb: float, *, full_range: bool) -> Yuv:
    """Convert a colour by the weights of red and blue in luma, ITU-T H.273."""
    red, green, blue = (channel / 255 for channel in rgb)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    if full_range:
        return round(luma * 255), min(255, round(128 + cb * 255)), min(255, round(128 + cr * 255))
    return round(16 + luma * 219), round(128 + cb * 224), round(128 + cr * 224)


def _looks_hd(picture: av.VideoFrame) -> bool:
    return picture.width >= 1280 or picture.height > 576


def _correct_tags(source: av.VideoFrame, converted: av.VideoFrame) -> None:
    """An RGB picture has no YUV matrix to inherit: FFmpeg's scaler made it BT.601, limited range."""
    if source.format.is_rgb:
        converted.colorspace, converted.color_range = _BT601, _LIMITED_RANGE


def _plane(plane: VideoPlane, samples: int = 1) -> U8:
    """View a plane's pixels, of `samples` bytes each, as (height, width * samples) without the row padding."""
    return _rows(plane)[:, : plane.width * samples]


def _rows(plane: VideoPlane) -> U8:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
