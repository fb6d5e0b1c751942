"""Noise: smooth for surfaces, fine for the camera's sensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from vrseg.frame import F32


def octave_noise(rng: np.random.Generator, width: int, height: int, cells: tuple[int, ...]) -> F32:
    """Give smooth noise, (height, width), about -1 to 1: random grids of `cells` across, finer ones weaker."""
    total = np.zeros((height, width), np.float32)
    weights = 0.6 ** np.arange(len(cells))
    for across, weight in zip(cells, weights, strict=True):
        down = max(2, round(across * height / width))
        grid = Image.fromarray(rng.uniform(-1, 1, (down, across)).astype(np.float32))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) * np.float32(weight)
    return np.asarray(total / weights.sum() * 1.6, np.float32)


def sensor_sheets(rng: np.random.Generator, width: int, height: int, count: int) -> list[Image.Image]:
    """Give sheets to add to a picture, RGB around 128: the sensor's grain, and less light in the lens's corners.

    Both in one sheet cost one pass over the picture instead of two.
    """
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    level = (128 - 30 * np.clip(0.55 * x**2 + 0.45 * y**2, 0, 1) ** 1.5)[..., None].astype(np.float32)
    grain = rng.normal(0, 2.2, (height, width, 1)) + rng.normal(0, 1.2, (height, width, 3))
    sheets = []
    for _ in range(count):
        moved = np.roll(grain, rng.integers(0, min(width, height), 2), (0, 1))
        sheets.append(Image.fromarray((level + moved).astype(np.uint8)))
    return sheets
