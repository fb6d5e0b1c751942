"""Colours for classes that were given none: told apart at a glance, and the same on every run."""

from __future__ import annotations

import colorsys

# Turning the hue by the golden ratio keeps any number of colours apart; 0.45 makes the first one a clear teal, which
# is seen on skin, cloth and grass alike.
_GOLDEN_RATIO = 0.618033988749895
_FIRST_HUE = 0.45
# After a full round of similar hues the lightness changes, so that neighbours in hue still differ.
_LIGHTNESS = (0.5, 0.62, 0.38)
_PER_LIGHTNESS = 12


def class_color(index: int) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of the class with this number."""
    hue = (_FIRST_HUE + index * _GOLDEN_RATIO) % 1.0
    lightness = _LIGHTNESS[index // _PER_LIGHTNESS % len(_LIGHTNESS)]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def parse_color(text: str) -> tuple[int, int, int]:
    """Read `#rrggbb`, as the schema has checked it."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
