"""Where a network loses its accuracy: a search for the fewest nodes that have to stay exact."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECTIONS = 8
"""A network is tried in eighths of its nodes; when half of them are not enough, it is not worth converting."""


def find_exact(
    nodes: Sequence[str], error_with: Callable[[set[str]], float], passes_with: Callable[[set[str]], bool]
) -> set[str] | None:
    """Find nodes that, kept exact, let a network pass.

    Errors mostly begin in one place, often the first layers with their large numbers. So the section that lowers the
    error most is kept, then the next, until the network passes; then each is trimmed from both ends.

    Args:
        nodes: names in the order of computation.
        error_with: how far the network is off with these nodes kept exact.
        passes_with: whether it is good enough then.

    Returns:
        None when half of all nodes are not enough.
    """
    cuts = [len(nodes) * part // SECTIONS for part in range(SECTIONS + 1)]
    left = [nodes[start:end] for start, end in pairwise(cuts) if end > start]
    chosen: list[Sequence[str]] = []
    while not passes_with(_joined(chosen)):
        if len(chosen) >= SECTIONS // 2 or not left:
            return None
        best = min(left, key=lambda section: error_with(_joined([*chosen, section])))
        left.remove(best)
        chosen.append(best)
    for index in range(len(chosen)):
        others = _joined([*chosen[:index], *chosen[index + 1 :]])
        chosen[index] = _trimmed(chosen[index], passes_with, others)
    return _joined(chosen)


def _trimmed(section: Sequence[str], passes_with: Callable[[set[str]], bool], others: set[str]) -> Sequence[str]:
    """Drop from either end what is not needed: half, then a quarter, down to single nodes."""
    step = len(section) // 2
    while step and len(section) > 1:
        shorter = next((one for one in (section[:-step], section[step:]) if passes_with({*others, *one})), None)
        if shorter is None:
            step //= 2
        else:
            section = shorter
            step = min(step, len(section) // 2)
    return section


def _joined(sections: Sequence[Sequence[str]]) -> set[str]:
    return {name for section in sections for name in section}
