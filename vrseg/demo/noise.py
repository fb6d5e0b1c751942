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
    return (total / weights.sum() * 1.6).astype(np.float32)


def sensor_noise(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Give a sheet of fine grain around 128, RGB; mostly brightness, a little colour."""
    grain = rng.normal(0, 2.2, (height, width, 1)) + rng.normal(0, 1.2, (height, width, 3))
    return Image.fromarray(np.clip(128 + grain, 0, 255).astype(np.uint8))
