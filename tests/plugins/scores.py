"""Scores that a test thinks of in 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from vrseg.frame import U16


def in_16_bits(scores: Any) -> U16:
    """Spread 0..255 over 0..65535; the upper byte of each is what it was."""
    return np.asarray(np.asarray(scores, np.uint8).astype(np.uint16) * 257, np.uint16)
