from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cli.conftest import Vrseg
    from plugins.clips import MakeClip

ROOT = Path(__file__).parents[2]


def findings(vrseg: Vrseg) -> dict[str, dict[str, str]]:
    done = vrseg("doctor", "--json")
    return {one["name"]: one for section in json.loads(done.out).values() for one in section}


def test_a_machine_that_can_run_the_tests_has_all_that_vrseg_needs(vrseg: Vrseg) -> None:
    done = vrseg("doctor")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "Everything that vrseg needs is here."
    for name in ("processor", "memory", "PyAV", "h264 encoder", "network", "ONNX Runtime", "demo model", "GPU"):
        assert name in done.out
    assert "\x1b" not in done.out, "colours in a pipe"
    assert not [line for line in done.out.splitlines() if line != line.rstrip()]


def test_encoders_are_found_by_opening_them(vrseg: Vrseg) -> None:
    found = findings(vrseg)
    assert "libx264" in found["h264 encoder"]["detail"]
    if not Path("/dev/nvidiactl").exists():
        assert "nvenc" not in found["h264 encoder"]["detail"]


def test_what_is_optional_and_missing_comes_with_the_command_that_adds_it(
    vrseg: Vrseg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = findings(vrseg)
    assert found["ffmpeg program"]["state"] == "optional"
    assert "apt-get install --yes ffmpeg" in found["ffmpeg program"]["remedy"]
    assert vrseg("doctor").code == 0


@pytest.mark.parametrize(("library", "name"), [("av", "PyAV"), ("onnxruntime", "ONNX Runtime")])
def test_a_broken_library_is_exit_code_3_and_a_command(
    vrseg: Vrseg, monkeypatch: pytest.MonkeyPatch, library: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    done = vrseg("doctor")
    assert done.code == 3
    assert f"MISSING   {name}" in done.out
    assert f"{sys.executable} -m pip install --force-reinstall {library}" in done.out.splitlines()[-2].strip()
    assert name in done.err
    assert len(done.err.splitlines()) == 1


def test_long_details_continue_under_their_own_beginning_in_a_narrow_terminal() -> None:
    code = (
        "from rich.console import Console; from rich.text import Text; from vrseg.cli.rows import print_rows\n"
        "print_rows(Console(width=40, force_terminal=True, no_color=True), [(Text('ab'), 'word ' * 12)])"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    lines = shown.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("ab  word")
    assert lines[1].startswith("    word")
    assert max(map(len, lines)) <= 40


def test_the_schema_is_json_and_describes_the_whole_file(vrseg: Vrseg) -> None:
    done = vrseg("schema")
    assert done.code == 0
    assert set(json.loads(done.out)["properties"]) == {
        "device",
        "models",
        "streams",
        "server",
        "watch",
        "drain_timeout",
    }


def test_probe_tells_what_a_clip_holds(vrseg: Vrseg, make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", width=160, height=120, frames=30, fps=30, audio=True, rotation=90)
    done = vrseg("probe", clip)
    assert done.code == 0
    for words in (str(clip), "160x120", "30 fps", "30 frames", "h264", "turned by 90 degrees", "48000 Hz"):
        assert words in done.out
    report = json.loads(vrseg("probe", clip, "--json").out)
    assert report["video"][0]["frame_count"] == 30


def test_probe_of_what_is_not_there_is_one_line(vrseg: Vrseg, tmp_path: Path) -> None:
    done = vrseg("probe", tmp_path / "no.mp4")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "no.mp4" in done.err
