"""A walking body as bones: where its joints are at a moment of the gait."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, exp, pi, sin
from typing import TYPE_CHECKING

import numpy as np

from vrseg.demo.walk import leg_swing_rad

if TYPE_CHECKING:
    from vrseg.demo.walk import Footing
    from vrseg.frame import F32

JOINTS = (
    "head",
    "neck",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""In the order of `SceneFrame.joints`. Left is the figure's own left."""


@dataclass(frozen=True, slots=True)
class Build:
    """Measures of one body, as shares of `height_m`."""

    height_m: float
    girth: float
    """1 is average; scales what is round."""
    shoulder: float
    """Half the distance between the shoulders."""
    hip: float
    gesture: str
    """What the right arm does while standing: `none`, `phone`, `wave` or `hold`, which takes both."""

    def m(self, share: float) -> float:
        """Turn a share of the height into metres."""
        return share * self.height_m


@dataclass(frozen=True, slots=True)
class Pose:
    """Joints in world metres, and the body's axes."""

    joints: F32
    """(J, 3), as `JOINTS`."""
    toes: F32
    """(2, 3): left, right."""
    left: F32
    forward: F32
    """(3,): unit vectors of the pelvis, level."""
    chest_left: F32
    chest_forward: F32
    look_left: F32
    look_forward: F32
    """(3,): of the head."""

    def joint(self, name: str) -> F32:
        """Give one joint, (3,)."""
        point: F32 = self.joints[JOINTS.index(name)]
        return point


UP = np.array((0, 1, 0), np.float32)


def level_axes(heading_rad: float) -> tuple[F32, F32]:
    """Give the unit vectors to the left and forward of one who walks at `heading_rad`."""
    s, c = sin(heading_rad), cos(heading_rad)
    return np.array((-c, 0, s), np.float32), np.array((s, 0, c), np.float32)


def pose(build: Build, footing: Footing, time_s: float) -> Pose:
    """Put the bones where they are at one moment."""
    h, stride = build.height_m, footing.stride
    twist = 0.14 * stride * cos(footing.phase_rad)
    left, forward = level_axes(footing.heading_rad - 0.5 * twist)
    chest_left, chest_forward = level_axes(footing.heading_rad + twist)
    glance = 0.35 * (1 - min(stride, 1.0)) * sin(time_s * 0.9 + 10 * build.girth)
    look_left, look_forward = level_axes(footing.heading_rad + glance)

    legs = [_leg(h, footing.phase_rad + side, stride) for side in (0.0, pi)]
    # The lower foot carries: the pelvis is as high as that leg lets it be.
    pelvis_y = max(-leg[:, 1].min() for leg in legs)
    pelvis = np.array((footing.x_m, pelvis_y, footing.z_m), np.float32)
    pelvis += left * np.float32(0.012 * h * sin(footing.phase_rad + pi / 2) * stride)
    lean = 0.05 * stride
    neck = pelvis + UP * (0.305 * h) + forward * (lean * 0.3 * h)
    head = neck + UP * (0.097 * h) + look_forward * (0.018 * h)
    chest = neck - UP * (0.031 * h)

    points: dict[str, F32] = {"head": head, "neck": neck}
    toes = []
    for name, sign, leg, phase in (("left", 1, legs[0], 0.0), ("right", -1, legs[1], pi)):
        hip = pelvis + left * (sign * build.m(build.hip))
        world = hip + leg[:, :1] * forward + leg[:, 1:] * UP
        points[f"{name}_hip"], points[f"{name}_knee"], points[f"{name}_ankle"] = hip, world[0], world[1]
        toes.append(world[2])
        shoulder = chest + chest_left * (sign * build.m(build.shoulder))
        upper, fore, out, fore_out = _arm_angles(build, footing, phase, time_s, right=sign < 0)
        elbow = shoulder + _swing(upper, out, chest_left * sign, chest_forward) * (0.172 * h)
        points[f"{name}_shoulder"], points[f"{name}_elbow"] = shoulder, elbow
        points[f"{name}_wrist"] = elbow + _swing(fore, fore_out, chest_left * sign, chest_forward) * (0.15 * h)
    return Pose(
        joints=np.stack([points[name] for name in JOINTS]).astype(np.float32),
        toes=np.stack(toes).astype(np.float32),
        left=left,
        forward=forward,
        chest_left=chest_left,
        chest_forward=chest_forward,
        look_left=look_left,
        look_forward=look_forward,
    )


def _swing(angle: float, out: float, outward: F32, forward: F32) -> F32:
    """Give the direction of a bone that hangs, swung forward by `angle` and away from the body by `out`."""
    direction = forward * (sin(angle) * cos(out)) - UP * (cos(angle) * cos(out)) + outward * sin(out)
    return np.asarray(direction, np.float32)


def _leg(height_m: float, phase: float, stride: float) -> F32:
    """Give knee, ankle, toe and heel of one leg, (4, 2): metres forward and up from the hip.

    At phase 0 the heel strikes; the leg carries up to pi and swings from there. The knee bends a little after the
    strike and much in the early swing, as in the textbook curve of human gait.
    """
    phase %= 2 * pi
    thigh = leg_swing_rad(stride) * cos(phase) + 0.04
    bend = 0.06 + stride * (1.0 * _bump(phase, 1.36 * pi, 0.62) + 0.2 * _bump(phase, 0.28 * pi, 0.5))
    shin = thigh - bend
    knee = np.array((sin(thigh), -cos(thigh))) * (0.245 * height_m)
    ankle = knee + np.array((sin(shin), -cos(shin))) * (0.243 * height_m)
    # The sole stays flat while the shin is near upright, and follows it beyond: toes up at the strike, down at the end.
    tilt = 0.9 * max(shin - 0.15, 0.0) + 0.95 * min(shin + 0.2, 0.0)
    ahead, down = np.array((cos(tilt), sin(tilt))), np.array((sin(tilt), -cos(tilt)))
    sole = 0.042 * height_m
    toe = ankle + ahead * (0.105 * height_m) + down * sole
    heel = ankle - ahead * (0.03 * height_m) + down * sole
    return np.stack([knee, ankle, toe, heel]).astype(np.float32)


def _bump(phase: float, middle: float, width: float) -> float:
    distance = (phase - middle + pi) % (2 * pi) - pi
    return exp(-((distance / width) ** 2))


def _arm_angles(
    build: Build, footing: Footing, phase: float, time_s: float, *, right: bool
) -> tuple[float, float, float, float]:
    """Give the angles of upper arm and forearm forward, and of both outward, in radians."""
    swing = -0.5 * footing.stride * cos(footing.phase_rad + phase) - 0.02
    fore = swing + 0.22 + 0.18 * footing.stride * (1 - cos(footing.phase_rad + phase))
    walking = (swing, fore, 0.13, -0.02)
    if not right and build.gesture != "hold":
        return walking
    # A gesture fades in while the figure slows down.
    share = min(max((0.75 - footing.stride) / 0.35, 0.0), 1.0)
    share = share * share * (3 - 2 * share)
    standing = _gesture(build.gesture, time_s)
    a, b, c, d = (walk + (stand - walk) * share for walk, stand in zip(walking, standing, strict=True))
    return a, b, c, d


def _gesture(name: str, time_s: float) -> tuple[float, float, float, float]:
    if name == "wave":
        return 0.8, 2.9, 0.8, 0.2 + 0.45 * sin(time_s * 5)
    if name == "phone":
        return 0.5, 2.65 + 0.05 * sin(time_s), 0.25, -0.3
    if name == "hold":
        return 0.12, 1.3 + 0.08 * sin(time_s * 1.7), 0.16, -0.75
    return -0.02 + 0.03 * sin(time_s), 0.2, 0.12, 0.0
