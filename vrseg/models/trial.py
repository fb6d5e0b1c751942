"""Pictures to try a network on, when no video is at hand: three scenes with a figure, shapes, light and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.models.spec import InputSpec

TRIAL_PICTURES = 3
_SKIN = (205, 160, 135)
_HAIR = (50, 38, 32)
_LIPS = (150, 70, 70)
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

    def ellipse(dx: float, top: float, rx: float, ry: float) -> npt.NDArray[np.bool_]:
        return np.asarray(((x - middle - dx) / rx) ** 2 + ((y - top) / ry) ** 2 < 1)

    picture[ellipse(0, 1.05, 0.3, 0.5)] = _COATS[number % len(_COATS)]
    picture[ellipse(0, 0.5, 0.05, 0.12)] = _SKIN
    picture[ellipse(0, 0.27, 0.125, 0.18)] = _HAIR
    picture[ellipse(0, 0.33, 0.1, 0.16)] = _SKIN
    for dx in (-0.04, 0.04):
        picture[ellipse(dx, 0.3, 0.018, 0.014)] = _HAIR
    picture[ellipse(0, 0.42, 0.035, 0.012)] = _LIPS
    light = 0.8 + 0.4 * x[..., None]
    lit: npt.NDArray[np.float64] = np.clip(picture * light + random.normal(0, 6, picture.shape), 0, 255)
    return lit
