"""The pinhole camera that looks into the room, and the room's fixed measures.

World axes in metres: x to the right, y up (0 is the floor), z away from the camera. The camera never tilts, so
verticals stay vertical and a sideways move shears the floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vrseg.frame import F32

EYE_HEIGHT_M = 1.55
WALL_M = 8.6
NEAREST_M = 3.4
"""Closest that feet may come; nearer ones would leave the picture at its lower edge."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the camera is, and its picture size in pixels."""

    width: int
    height: int
    x_m: float = 0.0

    @property
    def focal_px(self) -> float:
        """Focal length."""
        return 1.5 * self.height

    @property
    def horizon_px(self) -> float:
        """Row of the horizon."""
        return 0.27 * self.height

    @property
    def position(self) -> F32:
        """(3,): world point in metres."""
        return np.array((self.x_m, EYE_HEIGHT_M, 0), np.float32)

    def half_width_m(self, depth_m: float) -> float:
        """Half of what the picture shows across, at a depth."""
        return 0.5 * self.width / self.focal_px * depth_m

    def project(self, points: F32) -> F32:
        """Map (..., 3) world points to (..., 2) pixels."""
        scale = self.focal_px / points[..., 2]
        pixels = np.empty((*points.shape[:-1], 2), np.float32)
        pixels[..., 0] = (points[..., 0] - self.x_m) * scale + 0.5 * self.width
        pixels[..., 1] = (EYE_HEIGHT_M - points[..., 1]) * scale + self.horizon_px
        return pixels
