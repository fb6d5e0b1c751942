"""What was found out about one thing."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "optional", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    """`optional`: not there, and vrseg works without it. `missing`: something that vrseg needs is broken."""
    detail: str
    remedy: str | None = None
    """The command that mends it."""


def apt(package: str) -> str:
    """Spell the installation of a package of the system."""
    return f"{'' if os.geteuid() == 0 else 'sudo '}apt-get install --yes {package}"


def pip(*arguments: str) -> str:
    """Spell the installation of Python packages into the environment that vrseg runs in."""
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])
