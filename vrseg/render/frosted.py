"""A strong blur of the background that the foreground does not bleed into."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from vrseg.render.picture import drawable_copy, planes_of

if TYPE_CHECKING:
    import av

    from vrseg.frame import F32, U8
    from vrseg.render.coverage import Cover

_ROWS = 54
"""Rows of the small picture that is blurred; at this size a wide Gaussian is two small matrix products per plane."""
SIGMA_ROWS = 1.6
"""Width of the Gaussian in rows of the small picture: faces and writing are gone, shapes and light remain."""


class FrostedGlass:
    """Blurs pictures. Holds the two scalers."""

    def __init__(self) -> None:
        self._shrink, self._grow = VideoReformatter(), VideoReformatter()

    def blur(self, source: av.VideoFrame, foreground: Cover | None) -> av.VideoFrame:
        """Return a picture of the size and format of `source`, blurred; near the foreground from background alone.

        The blur is a normalised convolution (Knutsson and Westin, 1993): each pixel counts by its certainty, which is 0
        inside the foreground.
        """
        width, height = source.width, source.height
        small_width, small_height = small_size(width, height)
        small = self._shrink.reformat(source, small_width, small_height, interpolation=Interpolation.AREA, threads=1)
        if small is source:  # a scaler that has nothing to do hands back what it was given
            small = drawable_copy(source)
        certainty = _certainty(foreground, source, small)
        planes = planes_of(small)
        _convolve(planes.y, certainty, SIGMA_ROWS)
        for chroma in (planes.u, planes.v):
            _convolve(chroma, certainty[::2, ::2], SIGMA_ROWS / 2)
        return self._grow.reformat(small, width, height, interpolation=Interpolation.BICUBIC, threads=1)


def small_size(width: int, height: int) -> tuple[int, int]:
    """Give width and height of the small picture that is blurred in place of one of this size; both are even."""
    share = min(1.0, _ROWS / min(width, height))
    return max(8, round(width * share / 2) * 2), max(8, round(height * share / 2) * 2)


def _convolve(plane: U8, certainty: F32, sigma: float) -> None:
    rows, columns = _gaussian(plane.shape[0], sigma), _gaussian(plane.shape[1], sigma)
    total = rows @ (plane * certainty) @ columns
    plane[:] = np.rint(total / (rows @ certainty @ columns))


def _certainty(foreground: Cover | None, source: av.VideoFrame, small: av.VideoFrame) -> F32:
    """Give 1 where a pixel of the small picture is background, and nearly 0 where any of it may be foreground."""
    certainty = np.ones((small.height, small.width), np.float32)
    if foreground is None:
        return certainty
    left, top, right, bottom = foreground.area
    rows = _centres(small.height, source.height)
    columns = _centres(small.width, source.width)
    inside_rows = (rows >= top) & (rows < bottom)
    inside_columns = (columns >= left) & (columns < right)
    covered = np.zeros(certainty.shape, bool)
    sampled = foreground.weight[np.ix_(rows[inside_rows] - top, columns[inside_columns] - left)]
    covered[np.ix_(inside_rows, inside_columns)] = sampled > 0
    # One more pixel all around: the samples say nothing of what lies between them.
    covered[1:] |= covered[:-1].copy()
    covered[:-1] |= covered[1:].copy()
    covered[:, 1:] |= covered[:, :-1].copy()
    covered[:, :-1] |= covered[:, 1:].copy()
    certainty[covered] = 1e-4  # not 0: deep inside, where it is hidden anyway, the division must be defined
    return certainty


def _centres(count: int, full: int) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    return ((np.arange(count) + 0.5) * (full / count)).astype(np.intp)


@lru_cache(maxsize=32)
def _gaussian(size: int, sigma: float) -> F32:
    """Build the (size, size) matrix whose product is a Gaussian filter; symmetric, edges are handled by dividing."""
    distance = np.arange(size)[:, None] - np.arange(size)
    return np.exp(-0.5 * (distance / sigma) ** 2).astype(np.float32)
