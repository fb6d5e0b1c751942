"""Where a figure is at any time: a closed path over the floor, with stops, and the steps that fit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vrseg.frame import F32

LAP_S = 24.0
"""All figures walk their rounds in this time, so that one lap tells whether two ever collide."""
_SAMPLES = 720
_LAP_ANGLE = np.linspace(0, 2 * np.pi, _SAMPLES + 1)


@dataclass(frozen=True, slots=True)
class Footing:
    """One moment of a walk."""

    x_m: float
    z_m: float
    heading_rad: float
    """0 walks away from the camera, pi/2 to the right."""
    phase_rad: float
    """Of the gait cycle; 0 is the left foot's heel strike."""
    stride: float
    """0 stands, 1 takes full steps."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk as tables over one lap."""

    x_m: F32
    z_m: F32
    heading_rad: F32
    """Unwrapped: the last entry is the first plus whole turns."""
    phase_rad: F32
    stride: F32

    def at(self, time_s: float) -> Footing:
        """Look up the moment; laps repeat for ever, the gait runs on."""
        laps, rest = divmod(time_s / LAP_S, 1.0)
        low = int(rest * _SAMPLES)
        share = rest * _SAMPLES - low

        def between(table: F32) -> float:
            return float(table[low] * (1 - share) + table[low + 1] * share)

        return Footing(
            x_m=between(self.x_m),
            z_m=between(self.z_m),
            heading_rad=between(self.heading_rad),
            phase_rad=laps * float(self.phase_rad[-1]) + between(self.phase_rad),
            stride=between(self.stride),
        )


def leg_swing_rad(stride: float) -> float:
    """Give the largest angle of the thigh from the vertical for a stride."""
    return 0.46 * stride


def plan_walk(rng: np.random.Generator, centre_xz: tuple[float, float], radii_xz: tuple[float, float]) -> Walk:
    """Draw a rounded path and fit the steps to its speed, so that feet do not slide.

    The legs cover four times `leg x sin(swing)` in one cycle of the gait.
    """
    start, turn = rng.uniform(0, 2 * np.pi), rng.choice((-1.0, 1.0))
    pauses = int(rng.integers(1, 3))
    # Time runs unevenly around the path: just short of 1 the figure all but stops, `pauses` times per lap.
    angle = start + turn * (_LAP_ANGLE + rng.uniform(0.55, 0.97) / pauses * np.sin(pauses * _LAP_ANGLE))
    wobble = rng.uniform(-0.25, 0.25)
    x = centre_xz[0] + radii_xz[0] * (np.cos(angle) + wobble * np.cos(2 * angle))
    z = centre_xz[1] + radii_xz[1] * (np.sin(angle) + wobble * np.sin(2 * angle + 1))
    step_x, step_z = np.diff(x), np.diff(z)
    speed = np.hypot(step_x, step_z) * (_SAMPLES / LAP_S)
    heading = np.unwrap(np.arctan2(step_x, step_z))
    stride = np.clip(np.sqrt(speed / 1.1), 0, 1.15)
    reach = 4 * 0.85 * np.sin(0.46 * np.maximum(stride, 0.15))
    phase = np.cumsum(speed * (LAP_S / _SAMPLES) / reach) * 2 * np.pi
    turns = round((heading[-1] - heading[0]) / (2 * np.pi)) * 2 * np.pi
    return Walk(
        x_m=x.astype(np.float32),
        z_m=z.astype(np.float32),
        heading_rad=np.append(heading, heading[0] + turns).astype(np.float32),
        phase_rad=np.insert(phase, 0, 0).astype(np.float32),
        stride=np.append(stride, stride[0]).astype(np.float32),
    )


def closest_m(one: Walk, other: Walk) -> float:
    """Give the least distance between two walks at the same time."""
    return float(np.hypot(one.x_m - other.x_m, one.z_m - other.z_m).min())
