"""A clothed figure: a skin once per figure, and its vertices for any pose."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vrseg.demo.face import FACE_RGB, HEAD_RINGS, face_quads, head_colours, head_rings
from vrseg.demo.mesh import cross
from vrseg.demo.skeleton import UP, Build, Pose, pose
from vrseg.demo.tube import FINE, SkinBuilder, round_section, tube_vertices
from vrseg.demo.wardrobe import Outfit, cloth

if TYPE_CHECKING:
    from vrseg.demo.mesh import Skin
    from vrseg.demo.tube import Detail, Rings
    from vrseg.demo.walk import Footing, Walk
    from vrseg.frame import F32

_SECTION = round_section()

# Each profile: how far along the bone (or up the body), and the radius there, as shares of the height.
_TRUNK_UP = np.linspace(-0.055, 0.30, 17)
_CROTCH_BANDS = 3
_TRUNK_WIDE = np.interp(
    _TRUNK_UP,
    (-0.055, -0.045, 0.0, 0.05, 0.12, 0.20, 0.255, 0.285, 0.30),
    (0.04, 0.082, 0.092, 0.088, 0.08, 0.094, 0.1, 0.066, 0.034),
)
_TRUNK_DEEP = np.interp(
    _TRUNK_UP,
    (-0.055, -0.045, 0.0, 0.05, 0.12, 0.20, 0.255, 0.285, 0.30),
    (0.035, 0.062, 0.066, 0.062, 0.06, 0.068, 0.06, 0.044, 0.034),
)
# Limbs bend once: profiles along the first bone (up to 1) and the second (1 to 2).
_ARM = np.array([
    (-0.15, 0.008), (-0.1, 0.024), (-0.02, 0.031), (0.12, 0.032), (0.3, 0.03), (0.5, 0.0285), (0.7, 0.0265),
    (0.88, 0.025), (1.0, 0.0245), (1.12, 0.0245), (1.3, 0.024), (1.55, 0.0215), (1.8, 0.0185), (2.0, 0.0165),
])  # fmt: skip
_SHORT_SLEEVE = 6
_LEG = np.array([
    (-0.1, 0.02), (-0.02, 0.05), (0.15, 0.054), (0.32, 0.051), (0.5, 0.047), (0.7, 0.042), (0.88, 0.0385),
    (1.0, 0.0375), (1.12, 0.0365), (1.3, 0.036), (1.5, 0.0325), (1.7, 0.028), (1.88, 0.0235), (2.0, 0.022),
])  # fmt: skip
_SHORT_LEG = 6
_HAND = np.array([(-0.05, 0.013), (0.2, 0.0175), (0.5, 0.02), (0.75, 0.018), (0.92, 0.013), (1.0, 0.003)])
_FOOT = np.array(
    [(-0.06, 0.001), (-0.05, 0.014), (0.02, 0.024), (0.35, 0.027), (0.75, 0.026), (0.95, 0.017), (1.0, 0.006)]
)
_SKIRT_RINGS = 8
_CUT = {"trousers": 1.12, "coat": 1.12, "shorts": 1.0, "skirt": 1.0}
"""How wide the lower leg's clothing is, against the leg."""


@dataclass(frozen=True)
class Figure:
    """One person of the scene."""

    number: int
    """From 1."""
    build: Build
    outfit: Outfit
    walk: Walk
    detail: Detail = FINE

    def pose(self, footing: Footing, time_s: float) -> Pose:
        """Pose the bones."""
        return pose(self.build, footing, time_s)

    @cached_property
    def skin(self) -> Skin:
        """The facets and their colours, in the order of `vertices`."""
        rng = np.random.default_rng(self.number)
        wear, builder = self.outfit, SkinBuilder(self.detail)
        builder.tube(head_colours(wear))
        trunk = cloth(wear.top_pattern, wear.top, wear.top_accent, len(_TRUNK_UP) - 1, rng)
        trunk[:4] = cloth(wear.bottom_pattern, wear.bottom, wear.bottom_accent, 4, rng)
        trunk[4] = 0.5 * wear.bottom  # a belt
        # At the waist the trunk covers the thighs' ends; below, the thighs cover the trunk's.
        builder.tube(trunk, bias_m=np.where(np.arange(len(trunk)) < _CROTCH_BANDS, -0.06, 0.03))
        builder.tube(_bare(wear.skin * 0.94, 2))
        for _ in ("left", "right"):
            sleeve = cloth(wear.top_pattern, wear.top, wear.top_accent, len(_ARM) - 1, rng)
            if not wear.long_sleeves:
                sleeve[_SHORT_SLEEVE:] = wear.skin
            builder.tube(sleeve)
            builder.tube(_bare(wear.skin, len(_HAND) - 1))
            leg = cloth(wear.bottom_pattern, wear.bottom, wear.bottom_accent, len(_LEG) - 1, rng)
            if wear.bottom_kind in {"shorts", "skirt"}:
                leg[_SHORT_LEG:] = wear.skin
            builder.tube(leg)
            builder.tube(_bare(wear.shoes, len(_FOOT) - 1))
        if self._skirted:
            coat = wear.bottom_kind == "coat"
            base, accent = (wear.top, wear.top_accent) if coat else (wear.bottom, wear.bottom_accent)
            pattern = wear.top_pattern if coat else "stripes"
            builder.tube(cloth(pattern, base, accent, _SKIRT_RINGS - 1, rng), bias_m=0.05)
        eyes = np.where(FACE_RGB < 0, wear.skin * np.array((0.88, 0.78, 0.76)), FACE_RGB).astype(np.float32)
        return builder.build(eyes, decal_ring=HEAD_RINGS // 2, decal_bias_m=0.05)

    def vertices(self, pose: Pose) -> F32:
        """Place the skin's vertices: (V, 3) world points in metres."""
        h, girth = self.build.height_m, self.build.girth
        rings = [head_rings(h, pose, self.outfit), _trunk(self.build, pose), _neck(h, pose)]
        for side in (0, 1):
            name = ("left", "right")[side]
            rings += self._limbs(pose, name, pose.toes[side])
        if self._skirted:
            rings.append(_skirt(h, girth, pose, length=0.36 if self.outfit.bottom_kind == "coat" else 0.3))
        centres, across, along = (np.concatenate(parts) for parts in zip(*rings, strict=True))
        return tube_vertices(centres, across, along, _SECTION, face_quads(h, pose))

    @property
    def _skirted(self) -> bool:
        return self.outfit.bottom_kind in {"skirt", "coat"}

    def _limbs(self, pose: Pose, side: str, toe: F32) -> list[Rings]:
        h, girth = self.build.height_m, self.build.girth
        shoulder, elbow, wrist, hip, knee, ankle = (
            pose.joint(f"{side}_{name}") for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        )
        hand = wrist + (wrist - elbow) * (0.092 / 0.15)
        heel = ankle - UP * (0.012 * h) - (toe - ankle) * 0.28
        leg = _LEG * np.where(_LEG[:, :1] > 1, _CUT[self.outfit.bottom_kind], 1.0) ** np.array((0, 1))
        return [
            _limb((shoulder, elbow, wrist), _ARM, h * girth, pose.chest_left),
            _limb((wrist, hand), _HAND, h, pose.chest_left, flat=0.6),
            _limb((hip, knee, ankle), leg, h * girth, pose.left),
            _limb((heel, toe + UP * (0.016 * h)), _FOOT, h, pose.left, flat=0.85),
        ]


def _bare(colour: F32, steps: int) -> F32:
    return np.broadcast_to(colour, (steps, len(_SECTION), 3)).astype(np.float32)


def _limb(bones: tuple[F32, ...], profile: F32, scale_m: float, left: F32, flat: float = 1.0) -> Rings:
    """Give the rings of a tube along one bone or two, given by their ends; `flat` squeezes its second axis."""
    ends = np.stack(bones)
    steps = np.diff(ends, axis=0)
    directions = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    place = profile[:, 0]
    bone = np.clip(place.astype(int), 0, len(steps) - 1)
    centres = ends[bone] + (place - bone)[:, None] * steps[bone]
    # Near a bend the rings turn from one bone's direction to the other's, so that cloth does not break.
    share = np.clip((place - 0.8) / 0.4, 0, 1)[:, None] if len(steps) > 1 else np.zeros((len(place), 1))
    along = directions[0] * (1 - share) + directions[-1] * share
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-6
    across = left - along * (along @ left)[:, None]
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-6
    radius = profile[:, 1:] * scale_m
    return centres, across * radius, cross(along, across) * (radius * flat)


def _trunk(build: Build, pose: Pose) -> Rings:
    """Give the rings from crotch to collar: the shoulders may be turned against the hips."""
    h, girth = build.height_m, build.girth
    pelvis = 0.5 * (pose.joint("left_hip") + pose.joint("right_hip"))
    spine = pose.joint("neck") - pelvis
    share = np.clip((_TRUNK_UP / 0.305), 0, 1)[:, None]
    centres = pelvis + np.where(
        _TRUNK_UP[:, None] < 0, UP * (_TRUNK_UP[:, None] * h), spine * (_TRUNK_UP[:, None] / 0.305)
    )
    left = pose.left * (1 - share) + pose.chest_left * share
    forward = pose.forward * (1 - share) + pose.chest_forward * share
    wide = _TRUNK_WIDE * np.interp(_TRUNK_UP, (0.12, 0.25), (1, build.shoulder / 0.105))
    return centres, left * (wide * h * girth)[:, None], forward * (_TRUNK_DEEP * h * girth)[:, None]


def _neck(height_m: float, pose: Pose) -> Rings:
    neck, head = pose.joint("neck"), pose.joint("head")
    share = np.array((-0.25, 0.2, 0.7))[:, None]
    radius = np.array((0.036, 0.03, 0.028))[:, None] * height_m
    return neck + (head - neck) * share, pose.chest_left * radius, pose.chest_forward * radius


def _skirt(height_m: float, girth: float, pose: Pose, length: float) -> Rings:
    """Give the rings of a skirt: from the waist it widens, below it follows the knees."""
    share = np.linspace(0, 1, _SKIRT_RINGS)[:, None]
    hips = 0.5 * (pose.joint("left_hip") + pose.joint("right_hip"))
    left_knee, right_knee = pose.joint("left_knee"), pose.joint("right_knee")
    knees = 0.5 * (left_knee + right_knee)
    top = hips + UP * (0.055 * height_m)
    sway = (knees - hips) * np.array((1, 0, 1), np.float32)
    centres = top - UP * (share * length * height_m) + sway * share**1.5
    spread = abs(float((left_knee - right_knee) @ pose.forward)) * 0.5
    wide = np.interp(share, (0, 0.25, 1), (0.088, 0.103, 0.135)) * height_m * girth
    deep = np.interp(share, (0, 0.25, 1), (0.066, 0.08, 0.105)) * height_m * girth + share**1.5 * spread
    return centres, pose.left * wide, pose.forward * deep
