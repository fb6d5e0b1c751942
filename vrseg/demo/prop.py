"""Things in the room that are no people: crates, posts, plants, balls, lamps and cones, some of them on the move."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from vrseg.demo.tube import FINE, SIDES, SkinBuilder, round_section, square_section, tube_vertices

if TYPE_CHECKING:
    from vrseg.demo.mesh import Skin
    from vrseg.demo.tube import Detail
    from vrseg.frame import F32

Kind = Literal["crate", "post", "plant", "ball", "lamp", "cone"]
KINDS: tuple[Kind, ...] = ("crate", "plant", "post", "ball", "lamp", "cone")

# Height and radius of each ring, in metres, before `size`.
_PROFILES: dict[Kind, tuple[tuple[float, float], ...]] = {
    "crate": ((0.0, 0.0), (0.0, 0.3), (0.06, 0.3), (0.25, 0.3), (0.44, 0.3), (0.5, 0.3), (0.51, 0.0)),
    "post": (
        (0.0, 0.16),
        (0.05, 0.16),
        (0.06, 0.07),
        *((0.3 * i, 0.07) for i in range(1, 5)),
        (1.25, 0.09),
        (1.3, 0.0),
    ),
    "plant": ((0.0, 0.13), (0.1, 0.17), (0.36, 0.21), (0.42, 0.23), (0.425, 0.0)),
    "ball": tuple((0.25 - 0.25 * float(np.cos(a)), 0.25 * float(np.sin(a))) for a in np.linspace(0.02, np.pi, 13)),
    "lamp": ((0.0, 0.19), (0.03, 0.17), (0.04, 0.02), (1.35, 0.02), (1.35, 0.26), (1.7, 0.15), (1.71, 0.0)),
    "cone": ((0.0, 0.22), (0.04, 0.22), (0.05, 0.16), (0.22, 0.12), (0.38, 0.085), (0.55, 0.045), (0.62, 0.02)),
}
_LEAVES = 16
_LEAF_STEPS = 4


@dataclass(frozen=True)
class Prop:
    """One thing, and how it drifts to and fro."""

    kind: Kind
    seed: int
    x_m: float
    z_m: float
    drift_m: float
    """How far to each side it moves; 0 stands still."""
    period_s: float
    size: float
    detail: Detail = FINE

    def x_at(self, time_s: float) -> float:
        """Give where it is across the room."""
        return self.x_m + self.drift_m * float(np.sin(2 * np.pi * time_s / self.period_s))

    @cached_property
    def skin(self) -> Skin:
        """The facets and their colours."""
        rng = np.random.default_rng(self.seed)
        # Wider facets would miss a crate's corners.
        builder = SkinBuilder(FINE if self.kind == "crate" else self.detail)
        builder.tube(_paint(self.kind, len(_PROFILES[self.kind]) - 1, rng))
        if self.kind != "plant":
            return builder.build()
        green = np.array((74, 128, 66)) * rng.uniform(0.75, 1.2) + rng.uniform(-14, 14, 3)
        shades = rng.uniform(0.75, 1.25, (_LEAVES, 1, 1)) * np.linspace(0.8, 1.15, _LEAF_STEPS)[None, :, None]
        return builder.build((green * shades).reshape(-1, 3).astype(np.float32), decal_ring=-1)

    def vertices(self, time_s: float) -> F32:
        """Place the skin's vertices: (V, 3) world points in metres."""
        height, radius = np.array(_PROFILES[self.kind], np.float32).T * self.size
        x = self.x_at(time_s)
        # What moves turns as it goes, as far as it would roll.
        turn = self.seed % 7 + (x - self.x_m) / (0.3 * self.size)
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        centres = np.stack([np.full_like(height, x), height, np.full_like(height, self.z_m)], 1)
        across = radius[:, None] * np.array((c, 0, s), np.float32)
        along = radius[:, None] * np.array((-s, 0, c), np.float32)
        section = square_section() if self.kind == "crate" else round_section()
        leaves = self._leaves(time_s) if self.kind == "plant" else None
        return tube_vertices(centres, across, along, section, leaves)

    def _leaves(self, time_s: float) -> F32:
        """Bend the blades out of the pot, (leaves x steps, 4, 3); they sway a little."""
        rng = np.random.default_rng(self.seed)
        turn = np.arange(_LEAVES) * 2.4 + rng.uniform(-0.3, 0.3, _LEAVES)
        length = rng.uniform(0.6, 1.1, _LEAVES) * self.size
        droop = rng.uniform(0.4, 1.3, _LEAVES) + 0.06 * np.sin(time_s * 1.3 + turn)
        share = np.linspace(0, 1, _LEAF_STEPS + 1)
        angle = 0.15 + droop[:, None] * share
        step = length[:, None] / _LEAF_STEPS
        outward = np.cumsum(np.sin(angle) * step, 1)
        upward = np.cumsum(np.cos(angle) * step, 1) + 0.36 * self.size
        half = np.sin(np.pi * (0.08 + 0.9 * share)) * 0.055 * self.size
        cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
        spine = np.stack([self.x_at(time_s) + outward * cos, upward, self.z_m + outward * sin], -1)
        edge = np.stack([-sin * half, 0 * half + 0 * sin, cos * half], -1)
        one, other = spine - edge, spine + edge
        return np.stack([one[:, :-1], one[:, 1:], other[:, 1:], other[:, :-1]], 2).reshape(-1, 4, 3).astype(np.float32)


def _paint(kind: Kind, steps: int, rng: np.random.Generator) -> F32:
    """Give the colours of a thing's tube, (steps, SIDES, 3)."""
    base = rng.uniform(60, 215, 3)
    other = np.array((236, 232, 222)) if rng.random() < 0.5 else rng.uniform(40, 200, 3)
    band, side = np.arange(steps)[:, None], np.arange(SIDES)[None, :]
    accented = np.zeros((steps, SIDES), bool)
    if kind == "crate":
        base = np.array((176, 134, 88)) * rng.uniform(0.7, 1.15)
        other = base * 0.72
        accented = np.broadcast_to((band % 4 == 1) | (side % 5 == 1), (steps, SIDES))
    elif kind == "ball":
        accented = np.broadcast_to(side // 3 % 2 == 0, (steps, SIDES))
    elif kind in {"post", "cone"}:
        accented = np.broadcast_to(band % 2 == 1, (steps, SIDES))
    elif kind == "lamp":
        base = np.array((58, 56, 58))
        other = np.array((255, 232, 186))
        accented = np.broadcast_to(band >= 3, (steps, SIDES))
    colours = np.where(accented[..., None], other, base) * rng.uniform(0.96, 1.04, (steps, SIDES, 1))
    return colours.astype(np.float32)
