"""`scripts/install-service` into a tree: what it makes, what it leaves alone, what it refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.conftest import Installer


@pytest.fixture
def changeable(installed: Callable[..., Installer], installer: Installer) -> Installer:
    """A copy of an installed tree."""
    shutil.copytree(installed().root, installer.root, symlinks=True)
    return installer


def test_a_tree_gets_program_units_user_configuration_and_folders(installed: Callable[..., Installer]) -> None:
    tree = installed().tree()
    modes = {name: oct(mode) for name, (mode, _) in tree.items()}
    assert modes["etc/systemd/system/vrseg.service"] == "0o644"
    assert modes["etc/systemd/system/vrseg@.service"] == "0o644"
    assert modes["etc/systemd/system/vrseg-gpu.service"] == "0o644"
    assert modes["etc/sysusers.d/vrseg.conf"] == "0o644"
    assert modes["etc/vrseg/credentials"] == "0o700"
    assert modes["etc/vrseg/vrseg.yaml"] == modes["etc/vrseg/gate.yaml"] == "0o640"
    assert modes["var/lib/vrseg"] == "0o750"


def test_the_program_names_the_place_where_it_will_be(installed: Callable[..., Installer]) -> None:
    root = installed().root
    program = root / "opt/vrseg/bin/vrseg"
    assert os.access(program, os.X_OK)
    assert program.read_text().startswith("#!/opt/vrseg/bin/python")
    programs = [path.read_text(errors="replace") for path in program.parent.iterdir() if not path.is_symlink()]
    assert not any(str(root) in text for text in programs)


def test_the_installed_package_is_the_one_of_the_checkout(installed: Callable[..., Installer]) -> None:
    said = subprocess.run(
        [installed().root / "opt/vrseg/bin/python", "-c", "import vrseg; print(vrseg.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert said.stdout.startswith(str(installed().root))


@pytest.mark.parametrize("arguments", [(), ("--instance", "gate")])
def test_a_second_run_changes_nothing_and_says_so(changeable: Installer, arguments: tuple[str, ...]) -> None:
    before = changeable.tree()
    unit = "vrseg@gate.service" if arguments else "vrseg.service"
    assert changeable.install(*arguments) == f"nothing to do: {unit} is installed\n"
    assert changeable.tree() == before


def test_a_configuration_that_is_there_is_never_touched(changeable: Installer) -> None:
    mine = changeable.root / "etc/vrseg/vrseg.yaml"
    mine.write_text("mine")
    changeable.install()
    assert mine.read_text() == "mine"


def test_a_unit_that_was_changed_is_mended_and_said_so(changeable: Installer) -> None:
    before = changeable.tree()
    (changeable.root / "etc/systemd/system/vrseg.service").write_text("[Service]\n")
    (changeable.root / "etc/vrseg/credentials").chmod(0o755)
    said = changeable.install()
    assert "wrote /etc/systemd/system/vrseg.service" in said
    assert "made /etc/vrseg/credentials" in said
    assert changeable.tree() == before


def test_systemd_before_253_gets_no_drop_in_and_later_ones_do(installed: Callable[..., Installer]) -> None:
    drop_ins = {f"etc/systemd/system/{unit}.d/since-253.conf" for unit in ("vrseg.service", "vrseg@.service")}
    assert not drop_ins & set(installed(252).tree())
    assert drop_ins <= set(installed(255).tree())


def test_a_tree_is_no_running_system(installed: Callable[..., Installer]) -> None:
    assert set(installed().calls.read_text().splitlines()) == {"--version"}


def test_uninstalling_keeps_configuration_and_recordings(changeable: Installer) -> None:
    recording = changeable.root / "var/lib/vrseg/door.mp4"
    recording.write_bytes(b"film")
    said = changeable.install("--uninstall")
    assert "configuration in /etc/vrseg and recordings in /var/lib/vrseg are kept" in said
    assert recording.exists()
    assert (changeable.root / "etc/vrseg/vrseg.yaml").exists()
    assert not (changeable.root / "opt/vrseg").exists()
    assert not list((changeable.root / "etc/systemd/system").iterdir())
    assert changeable.install("--uninstall") == "nothing to do: vrseg is not installed\n"


def test_purging_leaves_nothing_of_vrseg(changeable: Installer) -> None:
    changeable.install("--uninstall", "--purge")
    assert not [name for name in changeable.tree() if "vrseg" in name]


def test_uninstalling_one_instance_leaves_the_others(changeable: Installer) -> None:
    changeable.install("--uninstall", "--purge", "--instance", "gate")
    left = changeable.tree()
    assert "etc/vrseg/gate.yaml" not in left
    assert "etc/systemd/system/vrseg@.service" in left
    assert "etc/vrseg/vrseg.yaml" in left


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--from", "nowhere"], "--from nowhere: there is no pyproject.toml"),
        (["--instance", "a b"], "--instance a b: letters, digits, - and _ only"),
        (["--instance", "../up"], "--instance ../up: letters"),
        (["--instance", "vrseg"], "--instance vrseg: "),
        (["--instance"], "--instance wants a value"),
        (["--extra", "cuda mqtt"], "--extra cuda mqtt: "),
        (["--purge"], "--purge goes with --uninstall"),
        (["--python", "no-such-python"], "--python no-such-python: not a Python"),
        (["--frm", "PyPI"], "--frm is not understood"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(
    installer: Installer, arguments: list[str], complaint: str
) -> None:
    done = installer.run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {complaint}")
    assert len(done.stderr.splitlines()) == 1
    assert not installer.tree()


def test_a_package_that_pip_cannot_build_is_told_and_no_unit_is_written(installer: Installer) -> None:
    source = installer.folder / "source"
    (source / "vrseg").mkdir(parents=True)
    for name in ("LICENSE", "README.md"):
        (source / name).touch()
    (source / "pyproject.toml").write_text("[project]\nname = 3\n")
    done = installer.run("--from", str(source))
    assert done.returncode != 0
    assert f"error: pip could not install from {source}" in done.stderr
    assert not [name for name in installer.tree() if name.endswith(".service")]
