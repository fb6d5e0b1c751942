"""How boxes move: a Kalman filter of constant velocity, for many boxes at once and any time between frames.

The state and its noises are those of Wojke, Bewley and Paulus, "Simple Online and Realtime Tracking with a Deep
Association Metric" (2017): centre and size with their velocities, noise in shares of the box's height. Two things
differ. The noise grows with the time that passes, not with each frame, as white noise of the acceleration (Bar-Shalom,
Li and Kirubarajan, "Estimation with Applications to Tracking and Navigation", 2001, section 6.2.2), so that it holds at
any frame rate. And the four coordinates are filtered apart, which with these noises is exact: no matrix is inverted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.frame import F32

    F64: TypeAlias = npt.NDArray[np.float64]

# In heights of the box, for centre x, centre y, width, height. A detector's edges tremble by a twentieth.
_MEASURED = np.array((0.05, 0.05, 0.05, 0.05))
# Per second: a person, 1.7 m high, strolls at 0.9 m/s. Sizes change more slowly than places.
_FIRST_VELOCITY = np.array((0.5, 0.25, 0.1, 0.1))
# Per second and root second: one who sets out or stops does so within a second.
_ACCELERATION = np.array((1.0, 0.7, 0.1, 0.1))
_SMALLEST_PX = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """N boxes: where they are, how fast they move, and how sure that is. Columns: centre x, centre y, width, height."""

    position: F64 = field(repr=False)
    """(N, 4): pixels."""
    velocity: F64 = field(repr=False)
    """(N, 4): pixels per second."""
    position_variance: F64 = field(repr=False)
    covariance: F64 = field(repr=False)
    velocity_variance: F64 = field(repr=False)
    """(N, 4) each."""

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Motion:
        return Motion(
            position=self.position[chosen],
            velocity=self.velocity[chosen],
            position_variance=self.position_variance[chosen],
            covariance=self.covariance[chosen],
            velocity_variance=self.velocity_variance[chosen],
        )


def at_rest(boxes: F64) -> Motion:
    """Begin with boxes (N, 4) as `Motion.position` has them, seen once."""
    height = boxes[:, 3:]
    return Motion(
        position=boxes,
        velocity=np.zeros_like(boxes),
        position_variance=(_MEASURED * height) ** 2,
        covariance=np.zeros_like(boxes),
        velocity_variance=(_FIRST_VELOCITY * height) ** 2,
    )


def joined(first: Motion, second: Motion) -> Motion:
    """Put the boxes of the second behind those of the first."""
    return Motion(
        position=np.concatenate((first.position, second.position)),
        velocity=np.concatenate((first.velocity, second.velocity)),
        position_variance=np.concatenate((first.position_variance, second.position_variance)),
        covariance=np.concatenate((first.covariance, second.covariance)),
        velocity_variance=np.concatenate((first.velocity_variance, second.velocity_variance)),
    )


def predicted(motion: Motion, passed_s: float) -> Motion:
    """Let time pass."""
    density = (_ACCELERATION * motion.position[:, 3:]) ** 2
    position = motion.position + motion.velocity * passed_s
    position[:, 2:] = np.maximum(position[:, 2:], _SMALLEST_PX)
    return Motion(
        position=position,
        velocity=motion.velocity,
        position_variance=motion.position_variance
        + 2 * passed_s * motion.covariance
        + passed_s**2 * motion.velocity_variance
        + density * passed_s**3 / 3,
        covariance=motion.covariance + passed_s * motion.velocity_variance + density * passed_s**2 / 2,
        velocity_variance=motion.velocity_variance + density * passed_s,
    )


def corrected(motion: Motion, rows: npt.NDArray[np.int64], boxes: F64) -> Motion:
    """Learn where the boxes of `rows` (M,) were seen: `boxes` (M, 4)."""
    old = motion[rows]
    noise = (_MEASURED * boxes[:, 3:]) ** 2
    gain = old.position_variance / (old.position_variance + noise)
    velocity_gain = old.covariance / (old.position_variance + noise)
    surprise = boxes - old.position
    new = (
        (motion.position, old.position + gain * surprise),
        (motion.velocity, old.velocity + velocity_gain * surprise),
        (motion.position_variance, (1 - gain) * old.position_variance),
        (motion.covariance, (1 - gain) * old.covariance),
        (motion.velocity_variance, old.velocity_variance - velocity_gain * old.covariance),
    )
    position, velocity, position_variance, covariance, velocity_variance = (
        _written(column, rows, values) for column, values in new
    )
    return Motion(
        position=position,
        velocity=velocity,
        position_variance=position_variance,
        covariance=covariance,
        velocity_variance=velocity_variance,
    )


def centres_and_sizes(boxes_xyxy: F32) -> F64:
    """Turn corners (N, 4) into centre x, centre y, width, height."""
    corners = boxes_xyxy.astype(np.float64)
    size = np.maximum(corners[:, 2:] - corners[:, :2], _SMALLEST_PX)
    return np.concatenate(((corners[:, :2] + corners[:, 2:]) / 2, size), axis=1)


def _written(column: F64, rows: npt.NDArray[np.int64], values: F64) -> F64:
    changed = column.copy()
    changed[rows] = values
    return changed
