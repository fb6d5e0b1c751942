"""`vrseg bench`: its figures fit together, and stages alone work as they do in the pipeline."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest
from plugins.networks import color_network

from vrseg.bench.measure import run_bench
from vrseg.config.schema import Batching, Model, Output
from vrseg.infer.onnx import OnnxEngine
from vrseg.job import Job

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from plugins.clips import MakeClip
    from plugins.daemon import RunVrseg

    from vrseg.frame import Batch, Inference

pytestmark = pytest.mark.alone

STAGES = ["decode", "preprocess", "infer", "postprocess", "render", "encode", "sink"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network whose file fixes the batch at 1, with its description beside it."""
    path = color_network(tmp_path / "bright.onnx", [[1.0, 1.0, 1.0]], [-1.5], last="Sigmoid", batch=1)
    description = (
        "task: segment\noutput: {decode: probability}\nclasses: [bright]\ninput: {scale: 0.00392156862745098}\n"
    )
    path.with_suffix(".yaml").write_text(description)
    return path


def test_the_figures_fit_together(vrseg: RunVrseg, model: Path) -> None:
    said = vrseg("bench", "--json", "--rounds", "1", "--size", "320x180", "--model", model)
    assert said.returncode == 0, said.stderr
    (result,) = json.loads(said.stdout)
    assert (result["model"], result["input"]) == ("bright", "scene_320x180.mp4 320x180")
    assert [stage["stage"] for stage in result["stages"]] == STAGES
    assert all(stage["cpu_s_per_frame"] > 0 and stage["wall_s_per_frame"] > 0 for stage in result["stages"])
    cpu_s = sum(stage["cpu_s_per_frame"] for stage in result["stages"])
    cores = len(os.sched_getaffinity(0))
    assert result["cores"] == cores
    assert result["bound_fps"] == pytest.approx(cores / cpu_s)
    assert result["ratio"] == pytest.approx(result["pipeline_fps"] / result["bound_fps"])
    # No more than all cores can be at work; the rest is for clocks that are read one after the other.
    assert result["pipeline_fps"] * result["pipeline_cpu_s_per_frame"] <= cores * 1.1
    rows = {line.split()[0]: line.split() for line in said.stderr.splitlines() if line.strip()}
    assert rows["sum"][1] == f"{1000 * cpu_s:.2f}"
    assert rows["bound"][-1] == f"{result['bound_fps']:.1f}"
    assert rows["ratio"][1] == f"{result['ratio']:.2f}"
    for stage in result["stages"]:
        assert rows[stage["stage"]][1] == f"{1000 * stage['cpu_s_per_frame']:.2f}"


def test_stages_alone_get_batches_as_large_as_the_pipelines(
    model: Path, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network whose batch is fixed costs each stage a call for each frame if it is fed one by one."""
    alone: list[int] = []
    in_pipeline: list[int] = []
    infer = OnnxEngine.process

    def counted(engine: OnnxEngine, batch: Batch, /) -> Iterable[Inference]:
        # The stages of a pipeline have threads of their own.
        here = threading.current_thread() is threading.main_thread()
        (alone if here else in_pipeline).append(len(batch.frames))
        return infer(engine, batch)

    monkeypatch.setattr(OnnxEngine, "process", counted)
    job = Job(
        input=str(make_clip(tmp_path / "in.mp4", frames=42)),
        output=Output(uri=str(tmp_path / "ignored.mp4")),
        model=Model(path=str(model), batch=Batching(max_size=4)),
        view="overlay",
    )
    result = run_bench(job, rounds=1)
    assert [stage.stage for stage in result.stages] == STAGES
    assert alone == [*[4] * 10, 2] * 2  # a round to warm up, and the one that counts
    assert max(in_pipeline) == 4
    assert sum(in_pipeline) == 42
    assert not (tmp_path / "ignored.mp4").exists()


def test_an_input_that_cannot_be_used_is_one_line(vrseg: RunVrseg, model: Path, tmp_path: Path) -> None:
    said = vrseg("bench", "--input", tmp_path / "nowhere.mp4", "--model", model)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("error: ")
    assert "nowhere.mp4" in said.stderr
