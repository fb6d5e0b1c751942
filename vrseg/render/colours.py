"""Colours that views use beside those of the classes."""

from __future__ import annotations

from typing import TypeAlias

Rgb: TypeAlias = tuple[int, int, int]
"""0 to 255 each."""

BLACK: Rgb = (0, 0, 0)
WHITE: Rgb = (255, 255, 255)
CHROMA_GREEN: Rgb = (0, 177, 64)
"""What studios paint their walls with; keyers know it."""
UNKNOWN_CLASS: Rgb = (255, 160, 0)


def contrast(rgb: Rgb) -> Rgb:
    """Choose black or white text for a label of this colour."""
    red, green, blue = rgb
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE
