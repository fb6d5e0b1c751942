"""Many `vrseg` commands, one after the other, in one process: starting Python and loading libraries is paid once.

Run as a program: each line of stdin is a JSON list of arguments, each line of stdout what came of it, as `Outcome`.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from threading import Timer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one command said and did."""

    code: int
    stderr: str
    seconds: float


def run_commands(commands: Sequence[Sequence[str | Path]], *, timeout_s: float) -> list[Outcome]:
    """Run commands in a new process.

    Raises:
        AssertionError: one of them hangs, or kills the process.
    """
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = [json.dumps([str(one) for one in arguments]) for arguments in commands]
    timer = Timer(timeout_s, process.kill)
    timer.start()
    said, complaints = process.communicate("\n".join(lines))
    timer.cancel()
    outcomes = [Outcome(**json.loads(line)) for line in said.splitlines()]
    at_fault = "".join(lines[len(outcomes) :][:1])
    assert process.returncode == 0, f"ended with {process.returncode} at {at_fault}: {complaints[-3000:]}"
    return outcomes


def _run_here(arguments: list[str]) -> Outcome:
    from vrseg.cli.main import main

    sys.argv = ["vrseg", *arguments]
    words, started_s = io.StringIO(), time.monotonic()
    with redirect_stderr(words), redirect_stdout(io.StringIO()):
        try:
            code = main()
        except SystemExit as end:  # the parser's way to end a command that did well, too
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Outcome(code=code, stderr=words.getvalue(), seconds=time.monotonic() - started_s)


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(asdict(_run_here(json.loads(line)))) + "\n")
        sys.stdout.flush()
