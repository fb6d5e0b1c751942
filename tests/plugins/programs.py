"""Programs that tests hold something against: those of the virtual environment first, then the machine's."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def needed_program(name: str, remedy: str) -> str:
    """Return its path; without it the test fails where nothing may be missing, and is skipped elsewhere."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no {name}; {remedy}")
    return found
