"""The far wall: plaster, wallpaper, bricks or panels, with pictures, windows, shelves and a door on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from vrseg.demo.noise import octave_noise

if TYPE_CHECKING:
    from vrseg.demo.tube import Floats
    from vrseg.frame import F32

_PAINTS = (
    (196, 188, 172), (150, 172, 176), (178, 160, 140), (128, 142, 128), (204, 180, 164), (112, 124, 146),
    (216, 208, 198), (168, 120, 104),
)  # fmt: skip
_SUPERSAMPLING = 2
_FINEST = 640
"""Lines that a picture must have, or the furniture's boards would be thinner than a pixel; fewer are reduced more."""


def paint_wall(rng: np.random.Generator, width: int, height: int, picture_height: int) -> Image.Image:
    """Paint a wall, RGB, `width` x `height` pixels; furniture is measured in the picture's height."""
    scale = max(_SUPERSAMPLING, -(-_FINEST // picture_height))
    size = (width * scale, height * scale)
    unit = picture_height * scale
    paint = np.array(_PAINTS[rng.integers(len(_PAINTS))], np.float32) * rng.uniform(0.8, 1.08)
    wall = Image.new("RGB", size, _ink(paint))
    pen = ImageDraw.Draw(wall)
    _cover(pen, rng, size, unit, paint)
    x = float(rng.uniform(-0.1, 0.1)) * unit
    while x < size[0]:
        x = _FURNITURE[rng.integers(len(_FURNITURE))](pen, rng, x, size[1], unit) + rng.uniform(0.04, 0.2) * unit
    skirting = round(0.022 * unit)
    pen.rectangle((0, size[1] - skirting, size[0], size[1]), fill=_ink(paint * 0.62))
    pen.rectangle((0, size[1] - skirting, size[0], size[1] - skirting + 2), fill=_ink(paint * 1.1))
    pixels = np.asarray(wall.reduce(scale)).astype(np.float32)
    grain = octave_noise(rng, width, height, (5, 12, 40, max(width // 4, 41)))
    corner = np.interp(np.arange(height), (0, 0.5 * height, height), (0.78, 1.0, 0.9))[:, None]
    return Image.fromarray(np.clip(pixels * ((1 + 0.13 * grain) * corner)[..., None], 0, 255).astype(np.uint8))


def _ink(colour: Floats) -> tuple[int, int, int]:
    red, green, blue = np.clip(colour, 0, 255).astype(int).tolist()
    return red, green, blue


def _muted(rng: np.random.Generator) -> F32:
    """Draw a colour that does not shout."""
    colour = rng.uniform(40, 225, 3)
    return np.asarray(0.6 * colour + 0.4 * colour.mean(), np.float32)


def _cover(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], unit: int, paint: F32) -> None:
    """Put bricks, stripes, panels or nothing on the bare wall."""
    kind = rng.choice(("plain", "bricks", "stripes", "panels"))
    if kind == "bricks":
        tall, wide = round(0.026 * unit) + 1, round(0.075 * unit) + 2
        for row, y in enumerate(range(0, size[1], tall)):
            for x in range(-(row % 2) * wide // 2, size[0], wide):
                pen.rectangle((x + 1, y + 1, x + wide - 2, y + tall - 2), fill=_ink(paint * rng.uniform(0.8, 1.0)))
    elif kind == "stripes":
        wide = max(round(rng.uniform(0.02, 0.06) * unit), 2)
        for x in range(0, size[0], 2 * wide):
            pen.rectangle((x, 0, x + wide - 1, size[1]), fill=_ink(paint * 0.9))
    elif kind == "panels":
        wide, rail = round(0.22 * unit), round(0.62 * size[1])
        pen.rectangle((0, rail, size[0], size[1]), fill=_ink(paint * 0.84))
        for x in range(0, size[0], wide):
            pen.rectangle(
                (x + wide // 8, rail + wide // 8, x + wide * 7 // 8, size[1] - wide // 6),
                outline=_ink(paint * 0.68),
                width=max(unit // 240, 1),
            )


def _picture(pen: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, floor: int, unit: int) -> float:
    """Hang an abstract painting."""
    wide, tall = rng.uniform(0.12, 0.26) * unit, rng.uniform(0.1, 0.2) * unit
    top = floor - rng.uniform(0.30, 0.36) * unit - tall * 0.4
    edge = 0.012 * unit
    pen.rectangle((x + edge, top + edge, x + wide + edge, top + tall + edge), fill=(70, 64, 60))
    pen.rectangle((x, top, x + wide, top + tall), fill=_ink(rng.uniform(30, 90, 3)))
    inner = (x + edge, top + edge, x + wide - edge, top + tall - edge)
    pen.rectangle(inner, fill=_ink(rng.uniform(150, 245, 3)))
    for _ in range(rng.integers(3, 7)):
        cx, cy = rng.uniform(inner[0], inner[2]), rng.uniform(inner[1], inner[3])
        rx, ry = rng.uniform(0.05, 0.4, 2) * (wide - 2 * edge, tall - 2 * edge)
        box = (max(cx - rx, inner[0]), max(cy - ry, inner[1]), min(cx + rx, inner[2]), min(cy + ry, inner[3]))
        (pen.ellipse if rng.random() < 0.5 else pen.rectangle)(box, fill=_ink(_muted(rng)))
    return x + wide


def _window(pen: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, floor: int, unit: int) -> float:
    """Open a window on a sky and hills."""
    wide, tall = rng.uniform(0.2, 0.34) * unit, 0.26 * unit
    top, frame = floor - 0.44 * unit, 0.012 * unit
    pen.rectangle((x, top, x + wide, top + tall), fill=(238, 234, 226))
    left, right, low = x + frame, x + wide - frame, top + tall - frame
    sky = np.array((150, 190, 226)) * rng.uniform(0.8, 1.08)
    bands = 24
    for band in range(bands):
        y = top + frame + (low - top - frame) * band / bands
        pen.rectangle((left, y, right, low), fill=_ink(sky + (235 - sky) * band / bands))
    for shade in (1.0, 0.75):
        crest = low - rng.uniform(0.15, 0.4) * tall * shade
        hill = np.linspace(left, right, 16)
        rise = np.sin(hill / unit * rng.uniform(8, 20) + rng.uniform(0, 6)) * 0.02 * unit
        outline = [(float(a), float(crest + b)) for a, b in zip(hill, rise, strict=True)]
        pen.polygon([*outline, (right, low), (left, low)], fill=_ink(np.array((116, 150, 108)) * shade))
    pen.rectangle((x + wide / 2 - frame / 2, top, x + wide / 2 + frame / 2, top + tall), fill=(238, 234, 226))
    pen.rectangle((x - frame, top + tall, x + wide + frame, top + tall + frame), fill=(214, 208, 198))
    return x + wide


def _shelf(pen: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, floor: int, unit: int) -> float:
    """Stand a bookcase."""
    wide, tall = rng.uniform(0.16, 0.3) * unit, rng.uniform(0.24, 0.4) * unit
    wood = np.array((122, 88, 60)) * rng.uniform(0.6, 1.4)
    top, board = floor - tall, 0.008 * unit
    pen.rectangle((x, top, x + wide, floor), fill=_ink(wood))
    shelves = 4
    step = (tall - board) / shelves
    for shelf in range(shelves):
        low = top + (shelf + 1) * step
        pen.rectangle((x + board, low - step + board, x + wide - board, low), fill=_ink(wood * 0.45))
        book = x + board * 1.5
        while book < x + wide - board * 4:
            thick = rng.uniform(0.006, 0.016) * unit
            if rng.random() < 0.85:
                high = low - rng.uniform(0.55, 0.88) * (step - board)
                pen.rectangle((book, high, book + thick - 1, low), fill=_ink(_muted(rng)))
            book += thick
    return x + wide


def _door(pen: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, floor: int, unit: int) -> float:
    """Hang a panelled door."""
    wide, tall, frame = 0.165 * unit, 0.37 * unit, 0.012 * unit
    colour = rng.uniform(70, 210) * np.array((1.0, 0.94, 0.88))
    pen.rectangle((x, floor - tall, x + wide, floor), fill=_ink(colour * 1.15))
    pen.rectangle((x + frame, floor - tall + frame, x + wide - frame, floor), fill=_ink(colour))
    for low, high in ((0.06, 0.4), (0.48, 0.92)):
        box = (x + 3 * frame, floor - high * tall, x + wide - 3 * frame, floor - low * tall)
        pen.rectangle(box, fill=_ink(colour * 0.93), outline=_ink(colour * 0.74), width=max(unit // 360, 1))
    knob = (x + wide - 2.6 * frame, floor - 0.46 * tall)
    pen.ellipse((knob[0], knob[1], knob[0] + frame, knob[1] + frame), fill=(216, 186, 112))
    return x + wide


_FURNITURE = (_picture, _picture, _window, _shelf, _door)
