"""`vrseg process`: times, sound and metadata arrive; bad input gets one line. Real clips: see the parity test."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import av
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.clips import MakeClip
    from plugins.daemon import RunVrseg


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0) if frame.time is not None]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_uneven_times_sound_rotation_and_metadata_are_carried_over(
    vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path, ending: str
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=40, vfr=True, audio=True, rotation=90, b_frames=2, start_pts=3)
    target = tmp_path / f"out.{ending}"
    said = vrseg("process", source, target, "--model", "demo")
    assert said.returncode == 0, said.stderr
    assert times(target) == pytest.approx(times(source), abs=0.0011 if ending == "mkv" else 1e-9)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        assert len(after.streams.audio) == 1
        rotations = [next(one.decode(video=0)).rotation for one in (before, after)]
        assert rotations[0] == rotations[1] != 0
    with av.open(str(source)) as before, av.open(str(target)) as after:
        packets = [sum(1 for packet in one.demux(audio=0) if packet.size) for one in (before, after)]
        assert packets[0] == packets[1] > 0


@pytest.mark.parametrize("view", ["overlay", "mask", "matte", "green", "blur", "none"])
def test_every_view_is_written(vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path, view: str) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=5), tmp_path / "out.mp4"
    said = vrseg("process", source, target, "--model", "demo", "--view", view)
    assert said.returncode == 0, said.stderr
    assert len(times(target)) == 5


def test_a_report_says_where_the_time_went(vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path) -> None:
    source, report = make_clip(tmp_path / "in.mp4", frames=30), tmp_path / "report.html"
    said = vrseg("process", source, tmp_path / "out.mp4", "--model", "demo", "--report", report, "--stats")
    assert said.returncode == 0, said.stderr
    page = report.read_text()
    for stage in ("decode", "preprocess", "infer", "postprocess", "render", "encode", "sink"):
        assert f"<td>{stage}" in page
        assert stage in said.stderr


def test_a_change_of_size_in_the_middle_is_survived(vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path) -> None:
    first = make_clip(tmp_path / "a.ts", frames=20, width=320, height=240)
    second = make_clip(tmp_path / "b.ts", frames=20, width=160, height=128, start_pts=20)
    source, target = tmp_path / "both.ts", tmp_path / "out.mp4"
    source.write_bytes(first.read_bytes() + second.read_bytes())
    said = vrseg("process", source, target, "--model", "demo")
    assert said.returncode == 0, said.stderr
    with av.open(str(target)) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert sizes == [(320, 240)] * 40


def assert_one_line(said: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    lines = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
    assert said.returncode == code, said.stderr
    assert len(lines) == 1, said.stderr
    assert "Traceback" not in said.stderr
    for word in words:
        assert word in lines[0], lines[0]


def test_a_missing_input_is_a_bad_argument(vrseg: RunVrseg, tmp_path: Path) -> None:
    said = vrseg("process", tmp_path / "nowhere.mp4", tmp_path / "out.mp4", "--model", "demo")
    assert_one_line(said, 2, "nowhere.mp4", "no such file")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 500, b"\x00\x00\x00\x18ftypmp42" + bytes(2000)])
def test_a_file_that_is_no_video_is_named(vrseg: RunVrseg, tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "notes.mp4"
    source.write_bytes(content)
    said = vrseg("process", source, tmp_path / "out.mp4", "--model", "demo")
    assert_one_line(said, 1, "notes.mp4")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_file_with_sound_only_is_named(vrseg: RunVrseg, tmp_path: Path) -> None:
    source = tmp_path / "song.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", str(source)], check=True)
    assert_one_line(vrseg("process", source, tmp_path / "out.mp4", "--model", "demo"), 1, "song.m4a", "audio")


def test_a_video_without_frames_is_named(vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "empty.mp4", frames=0)
    assert_one_line(vrseg("process", source, tmp_path / "out.mp4", "--model", "demo"), 1, "empty.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_cut_off_file_gives_what_it_holds(vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "cut.mkv", frames=60)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    said = vrseg("process", source, tmp_path / "out.mp4", "--model", "demo")
    assert said.returncode == 0, said.stderr
    assert 10 < len(times(tmp_path / "out.mp4")) < 60


def test_a_model_that_does_not_load_is_named(vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path) -> None:
    source, model = make_clip(tmp_path / "in.mp4", frames=3), tmp_path / "broken.onnx"
    model.write_bytes(b"this is no network")
    assert_one_line(vrseg("process", source, tmp_path / "out.mp4", "--model", model), 4, "broken.onnx")


@pytest.mark.material
def test_a_model_that_contradicts_its_description_names_both(
    vrseg: RunVrseg, models_dir: Path, make_clip: MakeClip, tmp_path: Path
) -> None:
    source, description = make_clip(tmp_path / "in.mp4", frames=3), tmp_path / "wrong.yaml"
    description.write_text("task: segment\ninput: {width: 512, height: 512}\n")
    model = models_dir / "mediapipe_selfie_segmentation_256x256.onnx"
    said = vrseg("process", source, tmp_path / "out.mp4", "--model", model, "--description", description)
    assert_one_line(said, 4, "mediapipe_selfie_segmentation_256x256.onnx", "256", "wrong.yaml", "512")


def test_an_output_that_cannot_be_written_is_named(vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3)
    assert_one_line(vrseg("process", source, tmp_path / "no" / "out.mp4", "--model", "demo"), 2, "out.mp4")
    assert_one_line(vrseg("process", source, tmp_path / "out.xyz", "--model", "demo"), 2, "out.xyz")
    assert_one_line(vrseg("process", source, source, "--model", "demo"), 2, "same file")


def test_an_unknown_codec_is_a_bad_argument(vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3)
    said = vrseg("process", source, tmp_path / "out.mp4", "--model", "demo", "--codec", "h277")
    assert said.returncode == 2
    assert "h277" in said.stderr


def test_a_full_disk_is_named_and_leaves_nothing(make_clip: MakeClip, tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=200, width=640, height=480), tmp_path / "out.mp4"
    said = subprocess.run(
        ["bash", "-c", f"ulimit -f 40; exec {sys.executable} -m vrseg process {source} {target} --model demo"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert_one_line(said, 1, "out.mp4")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_interrupted_leaves_nothing(make_clip: MakeClip, tmp_path: Path, number: int) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=3000, width=320, height=240), tmp_path / "out.mp4"
    job = subprocess.Popen(
        [sys.executable, "-m", "vrseg", "process", str(source), str(target), "--model", "demo"], stderr=subprocess.PIPE
    )
    deadline_s = time.monotonic() + 30
    while not list(tmp_path.glob(".out*")) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    job.send_signal(number)
    time.sleep(0.02)
    job.send_signal(number)  # as `timeout` does, or an impatient hand
    _, said = job.communicate(timeout=20)
    assert job.returncode == 1
    assert b"Traceback" not in said
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_job_that_was_started_with_a_niceness_works(make_clip: MakeClip, tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=10), tmp_path / "out.mp4"
    said = subprocess.run(
        ["nice", "-n", "5", sys.executable, "-m", "vrseg", "process", f"file://{source}", str(target), "-m", "demo"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert len(times(target)) == 10


def test_an_address_of_a_file_carries_its_sound_too(vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=30, audio=True), tmp_path / "out.mp4"
    assert vrseg("process", f"file://{source}", target, "--model", "demo").returncode == 0
    with av.open(str(target)) as container:
        assert container.streams.audio


def test_wrong_options_are_one_line_each(vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=3), tmp_path / "out.mp4"
    assert_one_line(vrseg("process", source, target, "--model", "demo", "--device", "gpu"), 2, "device", "gpu")
    assert_one_line(vrseg("process", source, target, "--model", "demo", "--report", tmp_path), 2, "folder")
    assert_one_line(vrseg("process", source, target, "--model", "demo", "--device", "cuda"), 3, "cuda")


def test_the_demo_never_deletes_its_own_input(vrseg: RunVrseg, make_clip: MakeClip, tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    folder.mkdir()
    source = make_clip(folder / "demo.mp4", frames=5)
    assert_one_line(vrseg("demo", "--input", source, "--output", folder), 2, "same file")
    assert len(times(source)) == 5
    assert vrseg("demo", "--input", source, "--output", folder, "--model", tmp_path / "none.onnx").returncode == 2
    assert len(times(source)) == 5
