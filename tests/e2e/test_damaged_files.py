"""200 damaged files through the whole of `vrseg process`: done or refused in one line, nothing left half-written."""

from __future__ import annotations

import os
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from plugins.commands import Outcome, run_commands
from plugins.encoded import decoded_count
from plugins.reference import CLIPS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from plugins.daemon import RunVrseg

pytestmark = pytest.mark.material
EXCERPT_S = "0.5"
PER_PROCESS = 25
EDGE_BYTES = 1500
"""Headers and indices lie at the two ends of a file, and are where damage does most."""


def excerpts(media_dir: Path, folder: Path) -> list[Path]:
    """Cut the clips short, without encoding them anew: the network would take most of the time."""
    cut = [(media_dir / f"{clip}.mp4", folder / f"{clip}{ending}") for clip in CLIPS for ending in (".mp4", ".mkv")]
    for source, target in cut:
        subprocess.run(["ffmpeg", "-v", "error", "-i", source, "-t", EXCERPT_S, "-c", "copy", target], check=True)
    return [target for _, target in cut]


def anywhere(dice: random.Random, size: int) -> int:
    return dice.randrange(size)


def near_the_ends(dice: random.Random, size: int) -> int:
    distance = dice.randrange(min(EDGE_BYTES, size))
    return dice.choice((distance, size - 1 - distance))


def damaged(original: bytes, dice: random.Random, place: Callable[[random.Random, int], int]) -> bytes:
    """Cut one file of four off somewhere, and overwrite 1, 10 or 100 bytes."""
    data = bytearray(original)
    if dice.randrange(4) == 0:
        del data[dice.randrange(1, len(data)) :]
    for _ in range(dice.choice((1, 10, 100))):
        data[place(dice, len(data))] = dice.randrange(256)
    return bytes(data)


def damaged_inputs(media_dir: Path, folder: Path, count: int) -> list[Path]:
    """Write so many damaged files, each into a folder of its own."""
    dice = random.Random(20241)
    originals = excerpts(media_dir, folder)
    inputs = []
    for number in range(count):
        original = originals[number % len(originals)]
        path = folder / str(number) / f"in{original.suffix}"
        path.parent.mkdir()
        place = near_the_ends if number // len(originals) % 2 else anywhere
        path.write_bytes(damaged(original.read_bytes(), dice, place))
        inputs.append(path)
    return inputs


def command_for(path: Path) -> list[str | Path]:
    folder = path.parent
    return ["process", path, folder / "out.mp4", "--model", "demo", "--results", folder / "out.jsonl"]


def assert_done_or_refused(path: Path, code: int, stderr: str) -> None:
    left = sorted(one.name for one in path.parent.iterdir() if one != path)
    assert "Traceback" not in stderr, f"{path}: {stderr}"
    if code == 0:
        assert left == ["out.jsonl", "out.mp4"], f"{path}: {left}"
        frames = decoded_count(path.parent / "out.mp4")
        assert frames == len((path.parent / "out.jsonl").read_text().splitlines()) > 0
    else:
        errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
        assert (code, len(errors), left) == (1, 1, []), f"{path}: {code} {left} {stderr}"


@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_damaged_files_are_done_or_refused_in_one_line(media_dir: Path, tmp_path: Path, count: int) -> None:
    inputs = damaged_inputs(media_dir, tmp_path, count)
    parts = [inputs[start : start + PER_PROCESS] for start in range(0, count, PER_PROCESS)]

    def run_part(part: list[Path]) -> list[Outcome]:
        return run_commands([command_for(path) for path in part], timeout_s=120)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        outcomes = [outcome for part in pool.map(run_part, parts) for outcome in part]
    for path, outcome in zip(inputs, outcomes, strict=True):
        assert_done_or_refused(path, outcome.code, outcome.stderr)
    done = sum(outcome.code == 0 for outcome in outcomes)
    assert count / 4 <= done <= 3 * count / 4, "the damage is too heavy or too light to show anything"
    assert max(outcome.seconds for outcome in outcomes) < 20


def test_the_command_line_says_the_same(vrseg: RunVrseg, media_dir: Path, tmp_path: Path) -> None:
    for path in damaged_inputs(media_dir, tmp_path, 32)[::8]:
        said = vrseg(*command_for(path), timeout_s=30)
        assert_done_or_refused(path, said.returncode, said.stderr)
