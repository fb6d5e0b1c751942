"""Pictures to try a network on, when no video is at hand: three scenes with a figure, shapes, light and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.models.spec import InputSpec

TRIAL_PICTURES = 3
_SKIN = (205, 160, 135)
_COATS = ((60, 80, 150), (150, 50, 55), (70, 120, 70))


def trial_tensor(target: InputSpec) -> npt.NDArray[Any]:
    """Draw the pictures and normalise them as the network wants: (3, ...), the same on every run."""
    pixels = np.stack([_picture(number, target.width, target.height) for number in range(TRIAL_PICTURES)])
    if target.color == "bgr":
        pixels = pixels[..., ::-1]
    if target.dtype != "uint8":
        pixels = (pixels * target.scale - np.array(target.mean)) / np.array(target.std)
    if target.layout == "nchw":
        pixels = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels.astype(target.dtype))


def _picture(number: int, width: int, height: int) -> npt.NDArray[np.float64]:
    """Draw a person from the waist up before a wavy wall: RGB, 0 to 255."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / height, x / width
    picture = np.empty((height, width, 3))
    for channel in range(3):
        fx, fy, phase = random.uniform(2, 9, 3)
        picture[..., channel] = 120 + 45 * np.sin(fx * x + phase) * np.cos(fy * y)
    middle = 0.35 + 0.15 * number
    head = ((x - middle) / 0.11) ** 2 + ((y - 0.32) / 0.17) ** 2 < 1
    body = ((x - middle) / 0.27) ** 2 + ((y - 1.02) / 0.52) ** 2 < 1
    picture[body] = _COATS[number % len(_COATS)]
    picture[head] = _SKIN
    light = 0.8 + 0.4 * x[..., None]
    lit: npt.NDArray[np.float64] = np.clip(picture * light + random.normal(0, 6, picture.shape), 0, 255)
    return lit
