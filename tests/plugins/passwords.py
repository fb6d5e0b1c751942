"""Passwords that a test puts into addresses, and the promise that nobody reads them in a log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_IN_ADDRESS = re.compile(r"://[^/@\s]*?:([^/\s]+)@")
_VARIABLE = re.compile(r"\$\{(\w+)")
_SHORTEST = 4
"""Shorter ones are in every log by chance."""


def passwords_in(values: Any, environment: Mapping[str, str]) -> set[str]:
    """Find the passwords in all texts of a configuration or command line, as written and as meant."""
    found: set[str] = set()
    for text in _texts(values):
        for password in _IN_ADDRESS.findall(text):
            names = _VARIABLE.findall(password)
            found |= {environment.get(name, "") for name in names} if names else {password, unquote(password)}
    return {password for password in found if len(password) >= _SHORTEST}


def assert_untold(passwords: set[str], told: str) -> None:
    """Make sure that none of them is in what was logged or printed."""
    for password in passwords:
        place = told.find(password)
        assert place < 0, f"a password was told: ...{told[max(0, place - 120) : place + 40]}..."


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, dict):
        for value in values.values():
            yield from _texts(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _texts(value)
    else:
        yield str(values)
