"""Labelled rows for a terminal of any width. In pipes nothing is broken, padded or coloured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

# Narrower than this, words would be cut: better to let the terminal wrap.
_NARROWEST = 20


def print_rows(console: Console, rows: Iterable[tuple[Text, str]]) -> None:
    """Print each label with its text beside it; long text continues under its own beginning."""
    rows = list(rows)
    indent = max((label.cell_len for label, _ in rows), default=0) + 2
    width = console.width - indent
    for label, value in rows:
        text = Text(value)
        lines = text.wrap(console, width) if console.is_terminal and width >= _NARROWEST else [text]
        head = label.copy()
        head.pad_right(indent - label.cell_len)
        for line in lines:
            line.rstrip()
            console.print(head + line, soft_wrap=True)
            head = Text(" " * indent)
