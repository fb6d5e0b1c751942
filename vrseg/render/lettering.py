"""The text of all labels in pieces that a kernel puts together: names of classes, and percentages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.render.label import ink_strip, margin_px, text_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from vrseg.frame import U8

STRIP = np.dtype([("offset", np.int32), ("columns", np.int32)])
"""The structure `Strip` of label.cu: where the ink of one piece begins in `Lettering.ink`, and how wide it is."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lettering:
    """Ink of every piece of text at one size."""

    strips: npt.NDArray[Any] = field(repr=False)
    """(classes + 1 + 101,) STRIP: each class, any other class, 0 % to 100 %."""
    ink: U8 = field(repr=False)
    """Rows of each strip below each other, strip after strip; 0 to 128."""
    classes: int
    """How many have a name of their own."""
    rows: int
    """Of every strip."""
    max_columns: int
    """Of a label: the widest name and the widest percentage."""


def letter(names: Sequence[str], size: int) -> Lettering:
    """Draw the names of all classes, and all percentages, once.

    Args:
        names: in the order of class ids.
        size: of the letters in pixels, from `text_px`.
    """
    margin = margin_px(size)
    beginnings = [
        ink_strip(f"{name} ", size, left=margin, columns=margin + text_columns(f"{name} ", size))
        for name in (*names, "class ?")
    ]
    ends = [
        ink_strip(text, size, left=0, columns=text_columns(text, size) + margin + 1)
        for text in (f"{percent} %" for percent in range(101))
    ]
    inks = beginnings + ends
    offsets = np.cumsum([0, *(ink.size for ink in inks[:-1])])
    return Lettering(
        strips=np.array([(offset, ink.shape[1]) for offset, ink in zip(offsets, inks, strict=True)], STRIP),
        ink=np.concatenate([ink.ravel() for ink in inks]),
        classes=len(names),
        rows=inks[0].shape[0],
        max_columns=max(ink.shape[1] for ink in beginnings) + max(ink.shape[1] for ink in ends),
    )
