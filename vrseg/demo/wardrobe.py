"""What a figure looks like: build, skin, hair and clothes, drawn from a seed; and the patterns of cloth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from vrseg.demo.skeleton import Build
from vrseg.demo.tube import SIDES

if TYPE_CHECKING:
    from vrseg.frame import F32, I64

Pattern = Literal["plain", "hoops", "stripes", "checks", "tartan", "yoke", "panel"]
Bottom = Literal["trousers", "shorts", "skirt", "coat"]
Hair = Literal["short", "long", "bald", "cap"]

_Choice = TypeVar("_Choice", bound=str)

_CLOTH = (
    (196, 62, 54), (222, 128, 48), (233, 188, 84), (94, 148, 90), (38, 112, 118), (56, 98, 168), (52, 58, 104),
    (122, 78, 142), (206, 118, 148), (232, 226, 212), (88, 92, 98), (38, 40, 46), (148, 108, 78), (130, 172, 196),
)  # fmt: skip
_LEGWEAR = (
    (48, 62, 98), (38, 40, 46), (92, 90, 86), (150, 132, 104), (70, 52, 44), (62, 84, 70), (104, 118, 142),
    (178, 170, 152), (112, 48, 52),
)  # fmt: skip
_SKIN = ((244, 206, 178), (228, 182, 148), (202, 152, 112), (168, 116, 80), (124, 82, 56), (88, 58, 42))
_HAIR = ((38, 30, 26), (68, 46, 32), (116, 76, 44), (178, 132, 74), (150, 146, 142), (142, 62, 34), (24, 22, 24))
_SHOES = ((34, 32, 34), (236, 234, 228), (122, 78, 48), (168, 48, 44), (62, 78, 120))


@dataclass(frozen=True, slots=True)
class Outfit:
    """Colours are RGB, 0 to 255."""

    skin: F32
    hair: F32
    hair_style: Hair
    top: F32
    top_accent: F32
    top_pattern: Pattern
    long_sleeves: bool
    bottom: F32
    bottom_accent: F32
    bottom_kind: Bottom
    bottom_pattern: Pattern
    shoes: F32


def choose_build(rng: np.random.Generator) -> Build:
    """Draw a body's measures."""
    return Build(
        height_m=float(rng.uniform(1.56, 1.92)),
        girth=float(rng.uniform(0.9, 1.2)),
        shoulder=float(rng.uniform(0.098, 0.116)),
        hip=float(rng.uniform(0.05, 0.058)),
        gesture=str(rng.choice(("none", "phone", "wave", "hold"))),
    )


def choose_outfit(rng: np.random.Generator) -> Outfit:
    """Draw what one wears."""

    def pick(palette: tuple[tuple[int, int, int], ...]) -> F32:
        colour = np.array(palette[rng.integers(len(palette))], np.float32)
        return np.clip(colour * rng.uniform(0.85, 1.12) + rng.uniform(-10, 10, 3), 12, 250).astype(np.float32)

    top = pick(_CLOTH)
    accent = pick(_CLOTH)
    if np.abs(top - accent).sum() < 120:
        accent = np.clip(top * 0.45 + 110 if top.mean() < 128 else top * 0.45, 12, 250).astype(np.float32)
    bottom = pick(_LEGWEAR)
    return Outfit(
        skin=pick(_SKIN),
        hair=pick(_HAIR),
        hair_style=_one_of(rng, ("short", "long", "bald", "cap"), (5, 4, 1, 2)),
        top=top,
        top_accent=accent,
        top_pattern=_one_of(
            rng, ("plain", "hoops", "stripes", "checks", "tartan", "yoke", "panel"), (3, 3, 2, 2, 2, 2, 2)
        ),
        long_sleeves=bool(rng.random() < 0.6),
        bottom=bottom,
        bottom_accent=np.clip(bottom * 0.72 + 14, 0, 255).astype(np.float32),
        bottom_kind=_one_of(rng, ("trousers", "shorts", "skirt", "coat"), (6, 2, 3, 1)),
        bottom_pattern=_one_of(rng, ("plain", "panel", "checks"), (5, 1, 1)),
        shoes=pick(_SHOES),
    )


def cloth(pattern: Pattern, base: F32, accent: F32, steps: int, rng: np.random.Generator) -> F32:
    """Paint a tube of `steps` bands: (steps, SIDES, 3). A little unevenness makes it fabric."""
    band, side = np.arange(steps)[:, None], np.arange(SIDES)[None, :]
    share = np.broadcast_to(_accent_share(pattern, band, side), (steps, SIDES))[..., None]
    colours = base + (accent - base) * share
    return np.asarray(colours * rng.uniform(0.95, 1.05, (steps, SIDES, 1)), np.float32)


def _accent_share(pattern: Pattern, band: I64, side: I64) -> F32:
    """Tell how much of a facet is the accent's colour, 0 to 1; broadcasts to (bands, SIDES)."""
    across, down = band % 4 == 0, side % 3 == 0
    # Sides 0 and SIDES / 2 lie at the figure's left and right, SIDES / 4 in front.
    shares = {
        "plain": band < 0,
        "hoops": band // 2 % 2 == 1,
        "stripes": down,
        "checks": (band // 2 + side // 2) % 2 == 1,
        "tartan": 0.5 * across + 0.5 * down,
        "yoke": band >= 0.62 * len(band),
        "panel": np.abs(side - SIDES // 4) <= 1,
    }
    return np.asarray(shares[pattern], np.float32)


def _one_of(rng: np.random.Generator, choices: tuple[_Choice, ...], weights: tuple[int, ...]) -> _Choice:
    return choices[rng.choice(len(choices), p=np.array(weights) / sum(weights))]
