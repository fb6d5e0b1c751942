"""The installer and the trees that it makes."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]

OLDEST_SYSTEMD = 252

# Programs of systemd's that the installer may call in a tree; whatever else it asks for is a mistake.
FAKE_SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$CALLS"
[ "$*" = --version ] || exit 1
echo "systemd {version} ({version}-1)"
"""


@dataclass
class Installer:
    """`scripts/install-service --root` with a systemctl that writes down what it is asked."""

    folder: Path
    source: Path
    systemd: int = OLDEST_SYSTEMD
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "tree"

    @property
    def calls(self) -> Path:
        return self.folder / "calls"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        programs = self.folder / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        systemctl = programs / "systemctl"
        systemctl.write_text(FAKE_SYSTEMCTL.format(version=self.systemd), encoding="utf-8")
        systemctl.chmod(0o755)
        return subprocess.run(
            [REPOSITORY / "scripts" / "install-service", "--root", self.root, "--from", self.source, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ
            | {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(self.calls), "PIP_NO_DEPS": "1"}
            | self.environment,
        )

    def install(self, *arguments: str) -> str:
        """Return what it said."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tree(self) -> dict[str, tuple[int, bytes]]:
        """Every file and folder outside of the virtual environment: its mode and content."""
        return {
            str(path.relative_to(self.root)): (
                stat.S_IMODE(path.lstat().st_mode),
                b"" if path.is_dir() else path.read_bytes(),
            )
            for path in sorted(self.root.rglob("*"))
            if not path.is_relative_to(self.root / "opt/vrseg")
        }


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package is made of, of one moment."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(REPOSITORY / "vrseg", folder / "vrseg", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


@pytest.fixture
def installer(tmp_path: Path, checkout: Path) -> Installer:
    return Installer(tmp_path, checkout)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Callable[..., Installer]:
    """A tree with both units, as installed for one version of systemd; not to be changed."""
    made: dict[int, Installer] = {}

    def get(systemd: int = OLDEST_SYSTEMD) -> Installer:
        if systemd not in made:
            one = made[systemd] = Installer(tmp_path_factory.mktemp("installed"), checkout, systemd)
            if systemd != OLDEST_SYSTEMD:  # the program is the same: it need not be built again
                shutil.copytree(get(OLDEST_SYSTEMD).root, one.root, symlinks=True)
            one.install()
            one.install("--instance", "gate")
        return made[systemd]

    return get
