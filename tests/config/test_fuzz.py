"""A minute of damaged configurations: whatever the file holds, the answer is a configuration or a list of mistakes."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vrseg.config.load import load
from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[2] / "configs" / "vrseg.yaml"
MINUTE_S = 60.0
PIECES: list[str] = [
    *"{}[]:,#*&!|>'\"%@`\t\n-x0~?=",
    *(
        "null",
        "true",
        "1e999",
        "-1",
        ".nan",
        "0x1F",
        "2026-11-21",
        "9" * 400,
        "&a [*a]",
        "*a",
        "<<: {}",
        "!!python/name:os",
    ),
    *(
        "${HOME}",
        "${",
        "${A:-}",
        "$$",
        "\x00",
        "\x85",
        "\u2028",
        "\ufeff",
        "\U0001f441",
        "rtsp://u:p@[::1",
        "///",
        "%zz",
        "- " * 80,
    ),
]


@pytest.mark.slow
@pytest.mark.timeout(3 * MINUTE_S)
def test_a_minute_of_damage_finds_no_traceback(tmp_path: Path) -> None:
    body = "\n".join(line.partition(" #")[0] for line in EXAMPLE.read_text("utf-8").splitlines() if line[:1] != "#")
    seed = time.time_ns()
    print(f"seed {seed}")  # noqa: T201 -- with -s, or when it fails
    chance = random.Random(seed)
    path = tmp_path / "damaged.yaml"
    tried = loaded = 0
    end_s = time.monotonic() + MINUTE_S
    while time.monotonic() < end_s:
        data = body.encode()
        for _ in range(chance.choice((1, 1, 2, 5, 20))):
            damage = chance.choice(DAMAGES)
            data = damage(data, chance)
        path.write_bytes(data)
        tried += 1
        problems = _problems_of(path)
        assert all(problem and "\n" not in problem for problem in problems)
        loaded += not problems
    print(f"{tried} files, of which {loaded} were right all the same")  # noqa: T201 -- as above
    assert 0 < loaded < tried


def _problems_of(path: Path) -> tuple[str, ...]:
    try:
        load(path, environment={})
    except ConfigError as error:
        return error.problems or ("refused without a word\n",)
    return ()


def _another_byte(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]


def _a_piece_more(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.choice(PIECES).encode() + data[at:]


def _a_value_replaced(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    key, colon, _ = lines[at].partition(b": ")
    lines[at] = key + colon + chance.choice(PIECES).encode()
    return b"\n".join(lines)


def _a_line_elsewhere(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    line = lines.pop(chance.randrange(len(lines)))
    lines.insert(chance.randrange(len(lines) + 1), chance.choice((b"", b"  ", b"- ")) + line)
    return b"\n".join(lines)


def _a_part_less(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    rest = data[:at] + data[at + chance.randrange(1, 60) :]
    return rest or b"\n"


DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [
    _another_byte,
    _a_piece_more,
    _a_value_replaced,
    _a_line_elsewhere,
    _a_part_less,
]
