"""Boxes with labels, drawn on planes that are seen upright."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vrseg.render.blend import FULL, Blender, crop

if TYPE_CHECKING:
    from vrseg.frame import U8
    from vrseg.render.picture import Planes, Yuv

_TEXT_SHARE = 1 / 42
"""Height of the letters as a share of the picture's shorter side: readable in a quarter of a screen."""
_MIN_TEXT_PX = 11
_LINE_SHARE = 1 / 270


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """One box to draw, in pixels of the upright picture."""

    left: int
    top: int
    right: int
    bottom: int
    text: str
    colour: Yuv
    text_colour: Yuv


def draw(planes: Planes, box: LabelledBox, blender: Blender) -> None:
    """Draw the box's outline and its label, which stays inside the picture."""
    height, width = planes.y.shape
    for area in _outline(box, line_px(width, height), width, height):
        _paint(planes, area, box.colour)
    ink = _ink(box.text, text_px(width, height))
    rows, columns = min(height, ink.shape[0]), min(width, ink.shape[1])
    left = _even(min(box.left, width - columns))
    above = box.top - rows
    top = _even(above if above >= 0 else min(box.top, height - rows))
    area = (left, top, left + columns, top + rows)
    _paint(planes, area, box.colour)
    blender.mix(crop(planes, *area), box.text_colour, ink[:rows, :columns])


def line_px(width: int, height: int) -> int:
    """Give the width of outlines in a picture of this size; even, so chroma has whole pixels of it."""
    return 2 * max(1, round(min(height, width) * _LINE_SHARE / 2))


def text_px(width: int, height: int) -> int:
    """Give the size of letters in a picture of this size."""
    return max(_MIN_TEXT_PX, round(min(height, width) * _TEXT_SHARE))


def _outline(box: LabelledBox, line: int, width: int, height: int) -> list[tuple[int, int, int, int]]:
    left, top = _even(box.left), _even(box.top)
    right, bottom = min(width, max(box.right, left + 2 * line)), min(height, max(box.bottom, top + 2 * line))
    inner_right, inner_bottom = _even(right - line), _even(bottom - line)
    return [
        (left, top, right, min(top + line, height)),
        (left, inner_bottom, right, bottom),
        (left, top, min(left + line, width), bottom),
        (inner_right, top, right, bottom),
    ]


def _paint(planes: Planes, area: tuple[int, int, int, int], colour: Yuv) -> None:
    part = crop(planes, *area)
    part.y[:], part.u[:], part.v[:] = colour


@lru_cache(maxsize=512)
def _ink(text: str, size: int) -> U8:
    """Draw `text` once. (rows, columns) uint8, 0 to 128, with a margin, both even."""
    margin = margin_px(size)
    return ink_strip(text, size, left=margin, columns=_even(text_columns(text, size) + 2 * margin + 1))


def margin_px(size: int) -> int:
    """Give the room before and after the text of a label."""
    return max(2, size // 4)


def text_columns(text: str, size: int) -> int:
    """Give the pixels from the start of `text` to where the next would start."""
    return round(_font(size).getlength(text))


def ink_strip(text: str, size: int, *, left: int, columns: int) -> U8:
    """Draw `text` from column `left`. (rows, columns) uint8, 0 to 128; rows are even, and the same for every text."""
    font = _font(size)
    ascent, descent = font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (size, size // 4)
    image = Image.new("L", (columns, _even(ascent + descent + 1)))
    ImageDraw.Draw(image).text((left, 0), text, fill=255, font=font)
    ink = np.asarray(image, np.uint16) * FULL // 255
    return ink.astype(np.uint8)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _even(pixels: int) -> int:
    return max(0, pixels) // 2 * 2
