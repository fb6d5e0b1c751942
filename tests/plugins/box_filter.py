"""What resizing means here, by the textbook: each pixel is the mean of a box of each plane, coloured afterwards."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import av

    from vrseg.frame import F32

_LEFT = 0.25
"""How far a chroma sample stands before the middle of its two of luma, in its own width: as H.264 says by default."""
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_UNSPECIFIED, _MAX_SD_HEIGHT = 2, 576
_BT601, _BT709, _BT2020 = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)
_KR_KB = {1: _BT709, 5: _BT601, 6: _BT601, 9: _BT2020}
"""By FFmpeg's number of a colour space."""


def box_rgb(picture: av.VideoFrame, width: int, height: int, *, chroma_shift: float = _LEFT) -> F32:
    """Resize and colour a planar YUV picture without rounding anywhere.

    Args:
        picture: of any subsampling and depth, such as yuv420p. Without a tag of its colour space, BT.709 above the
            576 lines of PAL, else BT.601; without one of its range, limited.
        width: of the result, in pixels.
        height: as `width`.
        chroma_shift: along a row, if chroma is subsampled along it; 0 when it lies in the middle.

    Returns:
        (height, width, 3) RGB, 0 to 255, not rounded.

    Raises:
        ValueError: not a planar YUV picture, or its matrix is not known here.
    """
    if len(picture.planes) != 3 or picture.format.is_rgb:
        raise ValueError(f"{picture.format.name} is not planar YUV")
    if picture.colorspace not in {*_KR_KB, _UNSPECIFIED}:
        raise ValueError(f"no matrix for FFmpeg's colour space {picture.colorspace}")
    luma, cb, cr = (
        _resized(samples, width, height, chroma_shift if samples.shape[1] < picture.width else 0.0)
        for samples in _planes(picture)
    )
    sd_or_hd = _BT601 if picture.height <= _MAX_SD_HEIGHT else _BT709
    full_range = picture.color_range == _FULL_RANGE or picture.format.name.startswith("yuvj")
    return _coloured(luma, cb, cr, _KR_KB.get(picture.colorspace, sd_or_hd), full_range=full_range)


@lru_cache(maxsize=64)
def box_weights(source: int, target: int, shift: float = 0.0) -> F32:
    """Return (target, source) weights along an axis: how much of its box each pixel takes from each sample.

    A box is as wide as a pixel of the target, but never narrower than a sample, and `shift` samples further on. What
    of it lies outside is as the outermost sample.
    """
    ratio = source / target
    width = max(ratio, 1.0)
    start = np.arange(target)[:, None] * ratio + (ratio - width) / 2 + shift
    edges = np.arange(source + 1.0)
    edges[0], edges[-1] = -np.inf, np.inf
    before = np.clip((edges - start) / width, 0.0, 1.0)
    return np.asarray(np.diff(before, axis=1), np.float32)


def _planes(picture: av.VideoFrame) -> list[F32]:
    """Return luma, Cb and Cr in steps of 8 bits."""
    bits = picture.format.components[0].bits
    sample = np.uint8 if bits == 8 else np.uint16
    rows = [np.frombuffer(memoryview(plane), sample).reshape(plane.height, -1) for plane in picture.planes]
    return [
        one[:, : plane.width].astype(np.float32) * np.float32(2.0 ** (8 - bits))
        for one, plane in zip(rows, picture.planes, strict=True)
    ]


def _resized(samples: F32, width: int, height: int, shift: float) -> F32:
    rows, columns = box_weights(samples.shape[0], height), box_weights(samples.shape[1], width, shift)
    return np.asarray(rows @ samples @ columns.T)


def _coloured(luma: F32, cb: F32, cr: F32, kr_kb: tuple[float, float], *, full_range: bool) -> F32:
    kr, kb = kr_kb
    grey = luma if full_range else (luma - 16) * np.float32(255 / 219)
    steps = np.float32(1.0 if full_range else 255 / 224)
    red = grey + np.float32(2 * (1 - kr)) * steps * (cr - 128)
    blue = grey + np.float32(2 * (1 - kb)) * steps * (cb - 128)
    green = (grey - np.float32(kr) * red - np.float32(kb) * blue) / np.float32(1 - kr - kb)
    return np.asarray(np.clip(np.stack([red, green, blue], axis=-1), 0, 255), np.float32)
