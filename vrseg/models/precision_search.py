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
    error most is kept, then the next, until the network passes; then each is narrowed down by halves.

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
        while len(chosen[index]) > 1:
            half = len(chosen[index]) // 2
            halves = (chosen[index][:half], chosen[index][half:])
            enough = [one for one in halves if passes_with(_joined([*chosen[:index], one, *chosen[index + 1 :]]))]
            if not enough:
                break
            chosen[index] = enough[0]
    return _joined(chosen)


def _joined(sections: Sequence[Sequence[str]]) -> set[str]:
    return {name for section in sections for name in section}
