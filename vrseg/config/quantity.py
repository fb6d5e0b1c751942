"""Durations and sizes as people write them: `500ms`, `10m`, `7d`, `6M`, `20G`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FACTOR = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_LONGEST_S = 100 * 365.25 * 86400.0
_LARGEST = 10**18
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)")
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kMGT]?)")


def parse_duration_s(text: object) -> float:
    """Turn `500ms`, `2.5s`, `10m`, `12h` or `7d` into seconds; the number 0 stands for itself.

    Raises:
        ValueError: the text has no unit, is not a duration, or one of more than a hundred years.
    """
    if text in (0, "0"):
        return 0.0
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write a number and a unit, such as 500ms, 10s, 5m, 12h or 7d")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST_S:
        raise ValueError("longer than a hundred years; write less")
    return seconds


def parse_amount(text: object) -> int:
    """Turn `6M`, `800k` or `20G` (powers of 1000) or a plain whole number into an integer.

    Raises:
        ValueError: the text is not an amount, or one of more than a million T.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        amount: float = text
    else:
        match = _AMOUNT.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"{text!r} is not an amount; write a number with k, M or G, such as 800k or 6M")
        amount = float(match[1]) * _FACTOR[match[2]]
    if amount > _LARGEST:
        raise ValueError("more than a million T; write less")
    return round(amount)


def format_duration(seconds: float) -> str:
    """Write seconds the way `parse_duration_s` reads them, in the largest unit that keeps the number whole."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        size = round(_SECONDS[unit] * 1000)
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration_s),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d)$", "examples": ["500ms"]}),
]
"""Seconds; written with a unit."""

Amount = Annotated[
    int,
    BeforeValidator(parse_amount),
    WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+(\.\d+)?\s*[kMGT]?$", "examples": ["6M"]}),
]
"""A count of bits or bytes; written with k, M or G."""
