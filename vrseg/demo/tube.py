"""Tubes: rings of points joined by facets. Limbs, trunks, heads, posts and pots are all tubes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vrseg.demo.mesh import Skin

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.frame import F32, I64

Floats: TypeAlias = "npt.NDArray[np.floating[Any]]"

Rings: TypeAlias = "tuple[Floats, Floats, Floats]"
"""Centres, first and second axes of rings, each (R, 3) in metres; see `tube_vertices`."""

SIDES = 18
"""Facets around a tube: enough that shading looks round at 720 lines."""


def round_section() -> F32:
    """Give a circle's cross-section, (SIDES, 2), for the rings' two axes; begins at the first axis."""
    angle = np.arange(SIDES) * (2 * np.pi / SIDES)
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def square_section() -> F32:
    """Give a square's cross-section, (SIDES, 2), corners on the diagonals."""
    circle = round_section()
    square: F32 = circle / np.abs(circle).max(1, keepdims=True)
    # The points nearest to the diagonals become the corners, or the edges would look chamfered.
    for corner in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        square[np.argmin(np.abs(square - corner).sum(1))] = corner
    return square


@dataclass(frozen=True, slots=True)
class Detail:
    """How much one facet spans."""

    sides: int = 1
    """Of the `SIDES` around a tube; a divisor."""
    rings: int = 1


FINE = Detail()
COARSE_LINES = 180
"""A picture of so many lines or fewer shows a limb on a handful of pixels."""


def detail_of_figures(lines: int) -> Detail:
    """Choose how people are drawn in a picture of so many lines."""
    return Detail(sides=2, rings=2) if lines <= COARSE_LINES else FINE


def detail_of_props(lines: int) -> Detail:
    """Choose how things are drawn: their rings are few, and where their outline breaks."""
    return Detail(sides=2) if lines <= COARSE_LINES else FINE


@dataclass
class SkinBuilder:
    """Collects the facets of a body part by part; the parts' vertices follow in the same order."""

    detail: Detail = FINE
    _quads: list[I64] = field(default_factory=list)
    _inner: list[I64] = field(default_factory=list)
    _albedo: list[F32] = field(default_factory=list)
    _bias: list[F32] = field(default_factory=list)
    _slices: list[I64] = field(default_factory=list)
    _rings: int = 0

    def tube(self, colours: F32, bias_m: Floats | float = 0.0) -> None:
        """Add a tube of n rings, painted with (n - 1, SIDES, 3) colours, RGB 0 to 255.

        `bias_m` is one number, or (n - 1,): see `Skin`.
        """
        steps = len(colours)
        low = np.arange(0, steps, self.detail.rings)
        high = np.append(low[1:], steps)
        sides = np.arange(0, SIDES, self.detail.sides)
        below, above = ((self._rings + ring)[:, None] * SIDES for ring in (low, high))
        one, other = sides[None, :], (sides[None, :] + self.detail.sides) % SIDES
        quads = np.stack([below + one, below + other, above + other, above + one], -1)
        self._quads.append(quads.reshape(-1, 4))
        one = np.arange(0, SIDES // 2, SIDES // 6)[None, :]
        other = one + SIDES // 2
        cuts = np.stack([below + one, below + other, above + other, above + one], -1)
        self._slices.append(cuts.reshape(-1, 4))
        self._inner.append(np.repeat(self._rings + low, len(sides)))
        self._albedo.append(np.asarray(colours, np.float32)[np.ix_(low, sides)].reshape(-1, 3))
        self._bias.append(np.repeat(np.broadcast_to(bias_m, steps)[low], len(sides)))
        self._rings += steps + 1

    def build(self, decals: F32 | None = None, *, decal_ring: int = 0, decal_bias_m: float = 0.0) -> Skin:
        """Finish; `decals` are (D, 3) colours of loose quads, whose vertices come last.

        A decal looks away from the centre of ring `decal_ring`; with -1 it is seen from both sides.
        """
        rings = self._rings
        centres = rings * SIDES
        loose = np.zeros((0, 3), np.float32) if decals is None else decals
        first = centres + rings
        looks_from = centres + decal_ring if decal_ring >= 0 else -1
        return Skin(
            quads=np.concatenate([*self._quads, first + np.arange(4 * len(loose)).reshape(-1, 4)]).astype(np.int64),
            inner=np.concatenate([centres + np.concatenate(self._inner), np.full(len(loose), looks_from)]).astype(
                np.int64
            ),
            slices=np.concatenate(self._slices).astype(np.int64),
            albedo=np.concatenate([*self._albedo, loose]).astype(np.float32),
            bias_m=np.concatenate([*self._bias, np.full(len(loose), decal_bias_m)]).astype(np.float32),
        )


def tube_vertices(centres: Floats, across: Floats, along: Floats, section: F32, decals: F32 | None = None) -> F32:
    """Place all rings of a body.

    Args:
        centres: (R, 3) world points in metres.
        across: (R, 3) first axis of each ring, as long as its radius.
        along: (R, 3) second axis.
        section: (SIDES, 2) shape of the cross-section.
        decals: (D, 4, 3) corners of loose quads.

    Returns:
        (R x SIDES + R + 4 D, 3): rims, then centres, then decals, as `SkinBuilder` numbers them.
    """
    rims = centres[:, None] + section[None, :, :1] * across[:, None] + section[None, :, 1:] * along[:, None]
    parts = [rims.reshape(-1, 3), centres]
    if decals is not None:
        parts.append(decals.reshape(-1, 3))
    return np.concatenate(parts).astype(np.float32)
