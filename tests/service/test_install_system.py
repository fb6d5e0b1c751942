"""`scripts/install-service` on a whole system: a private view of this one, in which all changes are forgotten."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# /etc, /opt and /var can be written to, and nobody else sees it; /run says that systemd runs.
PRIVATE = """
mount --make-rprivate /
mount -t tmpfs tmpfs "$0"
for folder in etc opt var; do
    mkdir "$0/$folder" "$0/$folder.work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$0/$folder,workdir=$0/$folder.work" "/$folder"
done
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
exec bash -ec "$1"
"""
# Strict: what is not foreseen is an error, and ends the installer.
SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$CALLS"
case "$*" in
    --version) echo "systemd 252 (252.39-1)" ;;
    daemon-reload | "--quiet disable --now vrseg"*.service | "--quiet stop vrseg@*.service") ;;
    "--quiet is-active "*) exit 3 ;;
    *) exit 1 ;;
esac
"""


def can_be_private() -> bool:
    """Is this root, with the right to mount?"""
    return os.geteuid() == 0 and not subprocess.run(["unshare", "--mount", "true"], check=False).returncode


@pytest.mark.skipif(not can_be_private(), reason="needs root, and mount namespaces")
def test_a_system_gets_its_service_twice_is_once_and_all_of_it_goes_again(tmp_path: Path, checkout: Path) -> None:
    programs, private, calls = tmp_path / "bin", tmp_path / "private", tmp_path / "calls"
    programs.mkdir()
    private.mkdir()
    systemctl = programs / "systemctl"
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    story = """
        mark() { echo "== $1"; echo "== $1" >>"$CALLS"; }
        mark install; scripts/install-service --from "$SOURCE"
        mark again; scripts/install-service --from "$SOURCE"
        mark look; id -nG vrseg; stat -c '%U:%G %a %n' /etc/vrseg /etc/vrseg/* /var/lib/vrseg
        mark remove; scripts/install-service --uninstall; test -e /etc/vrseg/vrseg.yaml; test ! -e /opt/vrseg
        mark nothing; scripts/install-service --uninstall
        mark purge; scripts/install-service --uninstall --purge
        mark gone; test ! -e /etc/vrseg; test ! -e /var/lib/vrseg; ! id vrseg 2>/dev/null
    """
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-ec", PRIVATE, private, story],
        cwd=REPOSITORY,
        env=os.environ
        | {
            "PATH": f"{programs}:/usr/sbin:{os.environ['PATH']}",
            "CALLS": str(calls),
            "SOURCE": str(checkout),
            "PIP_NO_DEPS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    assert "then: systemctl enable --now vrseg.service" in said["install"]
    assert {"vrseg", "video", "render"} == set(said["look"].splitlines()[0].split())
    assert said["look"].splitlines()[1:] == [
        "root:root 755 /etc/vrseg",
        "root:root 700 /etc/vrseg/credentials",
        "root:vrseg 640 /etc/vrseg/vrseg.yaml",
        "vrseg:vrseg 750 /var/lib/vrseg",
    ]
    assert said["again"] == "nothing to do: vrseg.service is installed\n"
    assert said["nothing"] == "nothing to do: vrseg is not installed\n"
    assert "removed the user vrseg" in said["purge"]
    asked = dict(part.split("\n", 1) for part in calls.read_text().split("== ")[1:])
    assert asked["install"].splitlines() == ["--version", "daemon-reload", "--quiet is-active vrseg.service"]
    assert asked["again"].splitlines() == ["--version"]
    assert "--quiet disable --now vrseg.service" in asked["remove"]
    assert asked["remove"].splitlines()[-1] == "daemon-reload"
