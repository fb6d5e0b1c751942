"""Heads: skull, hair and face."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vrseg.demo.skeleton import UP, Pose
from vrseg.demo.tube import SIDES

if TYPE_CHECKING:
    from vrseg.demo.tube import Rings
    from vrseg.demo.wardrobe import Outfit
    from vrseg.frame import F32

HEAD_RINGS = 15
_UP = -np.cos(np.linspace(0.0, np.pi, HEAD_RINGS))
"""From chin (-1) to crown (1)."""
_ROUND = np.interp(
    _UP,
    (-1.0, -0.97, -0.85, -0.6, -0.2, 0.2, 0.5, 0.75, 0.93, 1.0),
    (0.05, 0.3, 0.55, 0.76, 0.93, 1.0, 0.95, 0.76, 0.42, 0.03),
)
_HALF_HEIGHT, _HALF_WIDTH, _HALF_DEPTH = 0.071, 0.05, 0.058
"""Shares of the body's height."""

# A face as quads on the skull: middle (turn from the front, height), half size (turn, height), colour; a negative
# colour is a darker skin.
_DARK, _WHITE, _SKIN = (34, 28, 28), (240, 238, 234), (-1, -1, -1)
_FEATURES = (
    (0.42, 0.1, 0.17, 0.065, _WHITE),
    (-0.42, 0.1, 0.17, 0.065, _WHITE),
    (0.42, 0.1, 0.08, 0.065, _DARK),
    (-0.42, 0.1, 0.08, 0.065, _DARK),
    (0.44, 0.29, 0.21, 0.03, _DARK),
    (-0.44, 0.29, 0.21, 0.03, _DARK),
    (0.0, -0.06, 0.09, 0.13, _SKIN),
    (0.0, -0.44, 0.3, 0.05, (168, 74, 70)),
    (1.6, -0.02, 0.12, 0.13, _SKIN),
    (-1.6, -0.02, 0.12, 0.13, _SKIN),
)
FACE_RGB: F32 = np.array([feature[4] for feature in _FEATURES], np.float32)
"""(D, 3): colours of `face_quads`; negative where the figure's own darker skin belongs."""


def head_rings(height_m: float, pose: Pose, wear: Outfit) -> Rings:
    """Give the rings of the head; thick hair makes it larger, long hair reaches the shoulders."""
    centre = pose.joint("head")
    up = _UP[:, None] * _HALF_HEIGHT * height_m
    thick = {"short": 1.05, "long": 1.16, "bald": 0.98, "cap": 1.07}[wear.hair_style]
    swell = np.interp(_UP, (-0.2, 0.35), (1.0, thick))[:, None]
    back = np.zeros((HEAD_RINGS, 1))
    if wear.hair_style == "long":
        # The lower rings move back and widen: hair behind the neck.
        back = np.interp(_UP, (-1, -0.6, 0.4), (0.03, 0.022, 0.0))[:, None] * height_m
        swell = np.interp(_UP, (-1, -0.6, 0.35), (1.7, 1.35, thick))[:, None]
    centres = centre + UP * up * (1.35 if wear.hair_style == "long" else 1.0) ** (up < 0) - pose.look_forward * back
    radius = _ROUND[:, None] * height_m * swell
    return centres, pose.look_left * (radius * _HALF_WIDTH), pose.look_forward * (radius * _HALF_DEPTH)


def head_colours(wear: Outfit) -> F32:
    """Paint the head, (HEAD_RINGS - 1, SIDES, 3): a hairline that is high in front and low behind."""
    height = 0.5 * (_UP[1:] + _UP[:-1])[:, None]
    turn = (np.arange(SIDES)[None, :] + 0.5) * (2 * np.pi / SIDES) - np.pi / 2
    front = np.cos(turn)
    line = {
        "short": np.interp(front, (-1, -0.2, 0.35, 1), (-0.75, -0.25, 0.4, 0.52)),
        "long": np.interp(front, (-1, 0.3, 0.55, 1), (-2, -2, 0.3, 0.56)),
        "bald": np.full_like(front, 2),
        "cap": np.interp(front, (-1, 0, 1), (0.05, 0.2, 0.38)),
    }[wear.hair_style]
    hair = np.broadcast_to((height > line)[..., None], (HEAD_RINGS - 1, SIDES, 3))
    strands = wear.hair * (0.88 + 0.18 * np.cos(turn * 9) ** 2)[..., None]
    crown = wear.top_accent * np.ones((1, SIDES, 1)) if wear.hair_style == "cap" else strands
    return np.where(hair, crown, wear.skin).astype(np.float32)


def face_quads(height_m: float, pose: Pose) -> F32:
    """Place the features on the skull, (D, 4, 3) world points."""
    turn, up, half_turn, half_up = np.array([feature[:4] for feature in _FEATURES], np.float32).T
    turns = turn[:, None] + half_turn[:, None] * np.array((-1, 1, 1, -1))
    ups = up[:, None] + half_up[:, None] * np.array((-1, -1, 1, 1))
    radius = np.interp(ups, _UP, _ROUND) * height_m * 1.03
    across = (np.sin(turns) * radius * _HALF_WIDTH)[..., None] * pose.look_left
    ahead = (np.cos(turns) * radius * _HALF_DEPTH)[..., None] * pose.look_forward
    height = (ups * _HALF_HEIGHT * height_m)[..., None]
    return np.asarray(pose.joint("head") + across + ahead + UP * height, np.float32)
