"""Soft shadows on the floor: bodies cast along the lamp's direction, drawn coarsely, blurred, laid over the room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vrseg.demo.camera import Camera
    from vrseg.demo.mesh import Skin
    from vrseg.frame import F32

_COARSE = 2
_DARKNESS = 150
"""Of 255, where no lamp light falls."""


def cast(canvas: Image.Image, camera: Camera, bodies: Sequence[tuple[Skin, F32]], lamp: F32) -> None:
    """Darken the floor of `canvas`, in place, under and behind the `bodies` (skin, vertices)."""
    top = int(camera.horizon_px)
    size = (-(-camera.width // _COARSE), -(-(camera.height - top) // _COARSE))
    sheet = Image.new("L", size)
    pen = ImageDraw.Draw(sheet)
    for skin, vertices in bodies:
        fallen = vertices - lamp * (vertices[:, 1:2] / lamp[1])
        fallen[:, 2] = np.maximum(fallen[:, 2], 0.5)
        pixels = (camera.project(fallen.astype(np.float32)) - np.array((0, top), np.float32)) / _COARSE
        for polygon in pixels[skin.slices].reshape(-1, 8).tolist():
            pen.polygon(polygon, fill=_DARKNESS)
    soft = sheet.filter(ImageFilter.BoxBlur(max(camera.height / 220, 1)))
    cover = soft.resize((camera.width, camera.height - top), Image.Resampling.BILINEAR)
    canvas.paste((16, 14, 22), (0, top), cover)
