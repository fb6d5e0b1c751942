"""What viewers see while a source is away: its last picture, dimmed, or black, and for how long that has been so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from vrseg.frame import Frame
from vrseg.render.blend import FULL, Blender, crop, fill
from vrseg.render.colours import BLACK, WHITE
from vrseg.render.label import ink_strip, margin_px, text_columns, text_px
from vrseg.render.picture import Planes, blank_like, drawable_copy, planes_of, upright, yuv_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import av

    from vrseg.stage import Absence

StandInKind: TypeAlias = Literal["hold", "black"]

_DIMMED = FULL // 2
"""How far the last picture goes towards black: nobody shall take it for the present one."""
_LARGER = 2
"""Letters, compared with those of labels."""
_SMALLEST_PX = 8


class StandInCard:
    """Stage[Absence, Frame] on the CPU. A picture is drawn when its text changes, and shown again until then."""

    def __init__(self, kind: StandInKind) -> None:
        self._kind = kind
        self._blender = Blender()
        self._source: av.VideoFrame | None = None
        self._ground: av.VideoFrame | None = None
        self._text = ""
        self._card: av.VideoFrame | None = None

    def open(self) -> None: ...

    def process(self, absence: Absence, /) -> Iterable[Frame]:
        last = absence.last
        if self._ground is None or last.picture is not self._source:
            self._source, self._ground, self._card = last.picture, self._make_ground(last.picture), None
        if self._card is None or absence.text != self._text:
            self._text, self._card = absence.text, drawable_copy(self._ground)
            self._letter(upright(planes_of(self._card), last.rotation_deg), self._card)
        return (shown_as(absence, self._card),)

    def flush(self) -> Iterable[Frame]:
        return ()

    def close(self) -> None:
        self._source = self._ground = self._card = None

    def _make_ground(self, picture: av.VideoFrame) -> av.VideoFrame:
        if self._kind == "black":
            ground = blank_like(picture)
            fill(planes_of(ground), yuv_of(BLACK, ground))
            return ground
        ground = drawable_copy(picture)
        planes = planes_of(ground)
        self._blender.mix(planes, yuv_of(BLACK, ground), np.full(planes.y.shape, _DIMMED, np.uint8))
        return ground

    def _letter(self, planes: Planes, picture: av.VideoFrame) -> None:
        """Write the text in white on a black band, in the middle of the lower half."""
        height, width = planes.y.shape
        size = _LARGER * text_px(width, height)
        while size > _SMALLEST_PX and text_columns(self._text, size) + 2 * margin_px(size) >= width:
            size -= 1
        margin = margin_px(size)
        ink = ink_strip(self._text, size, left=margin, columns=_even(text_columns(self._text, size) + 2 * margin + 1))
        ink = ink[:height, : _even(width)]
        left, top = _even((width - ink.shape[1]) // 2), _even(min(height * 3 // 4, height - ink.shape[0]))
        band = crop(planes, left, top, left + ink.shape[1], top + ink.shape[0])
        fill(band, yuv_of(BLACK, picture))
        self._blender.mix(band, yuv_of(WHITE, picture), ink)


def shown_as(absence: Absence, picture: object) -> Frame:
    """Make the frame that stands in."""
    last = absence.last
    return Frame(
        stream=last.stream,
        index=last.index,
        pts=absence.pts,
        time_base=last.time_base,
        duration=absence.duration,
        picture=picture,
        width=last.width,
        height=last.height,
        rotation_deg=last.rotation_deg,
        decoded_s=time.monotonic(),
    )


def _even(pixels: int) -> int:
    return max(0, pixels) // 2 * 2
