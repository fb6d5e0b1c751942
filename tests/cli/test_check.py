from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cli.conftest import Vrseg

CONFIGS = Path(__file__).parents[2] / "configs"
SECRET = "geheim-42"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "vrseg.yaml"
    path.write_text(
        "models:\n"
        "  demo: {path: demo, licence: AGPL-3.0-only, batch: {max_size: 4, max_delay: 7ms}}\n"
        "  spare: {path: demo}\n"
        "streams:\n"
        "  door:\n"
        f'    source: {{uri: "rtsp://admin:{SECRET}@10.0.0.5/main"}}\n'
        "    model: demo\n"
        "    outputs:\n"
        f'      - {{uri: "rtsp://u:{SECRET}@127.0.0.1:8554/door", bitrate: 6M}}\n'
        '      - {uri: "%H%M%S.mkv", codec: hevc, latency: normal, segment: 10m, keep: 7d}\n'
        "    results: [{uri: '-'}]\n"
        "  clip: {source: {uri: clip.mp4}}\n"
        f"server: {{listen: '0.0.0.0:9090', token: {SECRET}}}\n",
        encoding="utf-8",
    )
    return path


def test_the_plan_says_what_every_auto_became(vrseg: Vrseg, config: Path) -> None:
    done = vrseg("check", config, "--json")
    assert done.code == 0
    plan = json.loads(done.out)
    assert plan["device"] == "cpu"
    door, clip = plan["streams"]
    assert (door["live"], door["queue_policy"], door["max_age"], door["view"]) == (
        True,
        "drop_oldest",
        "500ms",
        "overlay",
    )
    assert (clip["live"], clip["queue_policy"], clip["max_age"], clip["view"]) == (False, "block", None, "none")
    assert [(one["encoder"], one["latency"], one["rate"]) for one in door["outputs"]] == [
        ("libx264", "live", "6 Mbit/s"),
        ("libx265", "normal", "usual quality"),
    ]
    model = plan["models"][0]
    assert (model["engine"], model["precision"], model["task"], model["classes"]) == (
        "onnxruntime",
        "fp32",
        "segment",
        ["person"],
    )
    assert (model["batch_size"], model["batch_delay"]) == (4, "7ms")
    assert model["threads"] >= 1


def test_the_plan_for_people_names_everything_and_shows_no_secret(vrseg: Vrseg, config: Path) -> None:
    done = vrseg("check", config)
    assert done.code == 0
    assert SECRET not in done.out + done.err
    for words in (
        "rtsp://***@10.0.0.5/main (rtsp, live)",
        "4 frames, drop_oldest when full, older than 500ms dropped",
        "h264 by libx264, 6 Mbit/s",
        "a new file every 10m, kept for 7d",
        "AGPL-3.0-only",
        "standard output",
    ):
        assert words in done.out
    assert "\x1b" not in done.out, "colours in a pipe"
    assert not [line for line in done.out.splitlines() if line != line.rstrip()]


def test_warnings_go_to_stderr_and_do_not_fail(vrseg: Vrseg, config: Path) -> None:
    done = vrseg("check", config)
    lines = done.err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("warning: ") for line in lines)
    for words in (
        "under AGPL-3.0-only",
        "spare: no stream uses it",
        "clip: has neither outputs",
        "clip.mp4 is not there",
    ):
        assert words in done.err


def test_a_setting_on_the_command_line_changes_the_plan(vrseg: Vrseg, config: Path) -> None:
    done = vrseg("check", config, "--json", "--set", "streams.clip.queue.size=9", "--set", "streams.door.view=none")
    assert [stream["queue_size"] for stream in json.loads(done.out)["streams"]] == [4, 9]


def test_mistakes_are_lines_on_stderr_and_exit_code_2(vrseg: Vrseg, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("device: gpu\nstreams:\n  a: {sauce: {uri: x}}\n", encoding="utf-8")
    done = vrseg("check", path)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"error: {path}:1: device: 'gpu' does not fit; write auto, cpu, cuda or cuda:1",
        f"error: {path}:3: streams.a.source: is needed and not there",
        f"error: {path}:3: streams.a.sauce: unknown key; did you mean source?",
    ]


def test_models_and_encoders_that_are_not_there_are_all_named(vrseg: Vrseg, config: Path) -> None:
    done = vrseg(
        "check", config, "--set", "models.demo.path=a.onnx", "--set", "models.spare.path=b.onnx",
        "--set", "streams.door.outputs.0.encoder=libnone",
    )  # fmt: skip
    assert done.code == 2
    errors = done.err.splitlines()
    assert len(errors) == 3
    assert "models.demo.path" in errors[0]
    assert "models.spare.path" in errors[1]
    assert "streams.door.outputs.0.encoder: this FFmpeg has no encoder libnone" in errors[2]


def test_a_device_that_this_version_cannot_use_is_exit_code_3(vrseg: Vrseg, config: Path) -> None:
    done = vrseg("check", config, "--set", "device=cuda")
    assert done.code == 3
    assert "device cuda" in done.err
    assert len(done.err.splitlines()) == 1


def test_the_annotated_example_passes_with_no_warning_but_those_of_its_vr_key_and_its_line(vrseg: Vrseg) -> None:
    done = vrseg("check", CONFIGS / "vrseg.yaml")
    assert done.code == 0
    assert [line for line in done.err.splitlines() if "`vr`" not in line and "cross middle" not in line] == []


def test_a_class_that_the_model_itself_does_not_have_is_a_mistake(vrseg: Vrseg) -> None:
    zone = "streams.demo.zones={hall: {points: [[0, 0], [1, 0], [1, 1]], classes: [persn]}}"
    done = vrseg("check", CONFIGS / "vrseg.yaml", "--set", zone, "--set", "models.person.classes=[]")
    assert done.code == 2
    assert "zones.hall.classes.0: the model has no class 'persn'; it has foreground" in done.err
