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
    line = 2 * max(1, round(min(height, width) * _LINE_SHARE / 2))  # even, so chroma has whole pixels of it
    for area in _outline(box, line, width, height):
        _paint(planes, area, box.colour)
    ink = _ink(box.text, max(_MIN_TEXT_PX, round(min(height, width) * _TEXT_SHARE)))
    rows, columns = min(height, ink.shape[0]), min(width, ink.shape[1])
    left = _even(min(box.left, width - columns))
    above = box.top - rows
    top = _even(above if above >= 0 else min(box.top, height - rows))
    area = (left, top, left + columns, top + rows)
    _paint(planes, area, box.colour)
    blender.mix(crop(planes, *area), box.text_colour, ink[:rows, :columns])


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
    font = ImageFont.load_default(size)
    ascent, descent = font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (size, size // 4)
    margin = max(2, size // 4)
    columns, rows = _even(round(font.getlength(text)) + 2 * margin + 1), _even(ascent + descent + 1)
    image = Image.new("L", (columns, rows))
    ImageDraw.Draw(image).text((margin, 0), text, fill=255, font=font)
    ink = np.asarray(image, np.uint16) * FULL // 255
    return ink.astype(np.uint8)


def _even(pixels: int) -> int:
    return max(0, pixels) // 2 * 2
