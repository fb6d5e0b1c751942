"""`vrseg run` where hardly anything can be written: a read-only root, a home that is not its own, no privileges."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

# Everything becomes read-only, the folder excepted; then the privileges go that let root write anywhere.
READ_ONLY = """
mount --make-rprivate /
mount --bind "$0" "$0"
mount -o remount,ro,bind /
for mounted in /tmp /var /home /opt; do ! mountpoint -q "$mounted" || mount -o remount,ro,bind "$mounted"; done
exec setpriv --bounding-set=-all --inh-caps=-all "$@"
"""


def locked_in(writable: Path) -> list[str]:
    """Return what to put before a command, so that it can write to one folder only."""
    if os.geteuid() != 0:
        return []  # who is nobody special cannot write to much anyway
    can_mount = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0
    if not can_mount:
        return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    return ["unshare", "--mount", "sh", "-ec", READ_ONLY, str(writable)]


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o555)
    return folder


def test_a_daemon_runs_with_one_folder_that_it_can_write_to(tmp_path: Path, unwritable: Path) -> None:
    state = tmp_path / "state"
    (state / "tmp").mkdir(parents=True)
    config = tmp_path / "vrseg.yaml"
    config.write_text(f"""
models: {{person: {{path: demo}}}}
streams:
  door:
    source: {{uri: "synthetic:320x180@15"}}
    model: person
    outputs: [{{uri: "{state}/door.mp4", gop: 500ms}}]
    results: [{{uri: "{state}/door.jsonl"}}]
server: {{listen: "127.0.0.1:0"}}
""")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(unwritable),
        "TMPDIR": str(state / "tmp"),
        "VRSEG_CACHE": str(state / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    process = subprocess.Popen(
        [*locked_in(state), sys.executable, "-m", "vrseg", "run", config],
        cwd=unwritable,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        results = state / "door.jsonl"
        deadline_s = time.monotonic() + 30
        while not (results.exists() and len(results.read_text().splitlines()) > 20):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline_s, "no results"
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert "warning" not in said
    assert not list(unwritable.iterdir())
    assert {path.name for path in state.iterdir()} <= {"door.mp4", "door.jsonl", "tmp", "cache"}
    with av.open(str(state / "door.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 20
