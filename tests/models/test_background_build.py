"""Builds in a process of their own, by the real TensorRT-RTX."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from plugins.networks import color_network, save_network
from typer.testing import CliRunner

from vrseg.config.schema import Model
from vrseg.errors import ConfigError, DeviceError, ModelError
from vrseg.models.background_build import BackgroundBuild
from vrseg.models.build_request import BuildRequest, Card, key_of, timing_key
from vrseg.models.engine_cache import EngineCache
from vrseg.models.load import load_spec

if TYPE_CHECKING:
    from collections.abc import Callable

rtx: Any = pytest.importorskip("tensorrt_rtx")

CARD = Card(compute_capability=(8, 6), name="GeForce RTX 3090", memory_bytes=24 << 30, index=None)
PATIENCE_S = 60


def request_for(path: Path) -> BuildRequest:
    return BuildRequest(
        spec=load_spec("toy", Model(path=str(path), task="segment"), path.parent),
        precision="fp32",
        library="tensorrt-rtx",
        library_version=rtx.__version__,
        card=CARD,
        max_batch=4,
    )


@pytest.fixture
def request_(tmp_path: Path) -> BuildRequest:
    path = color_network(tmp_path / "toy.onnx", np.eye(3).tolist(), [0, 0, 0], batch=1, last="Softmax")
    return request_for(path)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def plan_of(work: BackgroundBuild) -> Path:
    work.start()
    try:
        return awaited(work)
    finally:
        work.close()


def awaited(work: BackgroundBuild) -> Path:
    deadline_s = time.monotonic() + PATIENCE_S
    while (plan := work.poll()) is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return plan


def test_an_engine_is_built_once_and_then_found(request_: BuildRequest, cache: EngineCache) -> None:
    work = BackgroundBuild(request_, cache)
    assert work.cached() is None
    plan = plan_of(work)
    assert work.fraction == 1
    found = work.cached()
    assert found is not None
    assert found.plan == plan
    assert plan.read_bytes().startswith(b"vtrt")
    assert found.about["batch"] == [1, 4], "the batch that the file fixes at 1 was freed"
    assert found.about["library"] == f"tensorrt-rtx {rtx.__version__}"
    built_at = plan.stat().st_mtime_ns
    assert plan_of(BackgroundBuild(request_, cache)) == plan
    assert plan.stat().st_mtime_ns == built_at


def test_an_engine_that_did_not_load_is_built_anew(request_: BuildRequest, cache: EngineCache) -> None:
    work = BackgroundBuild(request_, cache)
    cache.store(key_of(request_.fields()), b"of another time", {})
    work.set_aside()
    assert work.cached() is None
    assert plan_of(work).read_bytes().startswith(b"vtrt")


def test_a_failed_build_says_what_the_parser_said(tmp_path: Path, cache: EngineCache, request_: BuildRequest) -> None:
    odd = save_network(
        tmp_path / "odd.onnx",
        [onnx.helper.make_node("Frobnicate", ["picture"], ["scores"], name="odd_one")],
        takes=("N", 3, 32, 48),
        gives={"scores": ("N", 3, 32, 48)},
    )
    work = BackgroundBuild(replace(request_, spec=replace(request_.spec, path=odd, batch=None)), cache)
    with pytest.raises(ModelError, match=r"odd\.onnx: TensorRT cannot read it: node 0 'odd_one' \(Frobnicate\)"):
        plan_of(work)
    work.close()


def test_a_build_that_crashes_is_a_model_error(
    request_: BuildRequest, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ModelError, match=r"toy\.onnx: the (process that built its engine ended with 1|build does not)"):
        plan_of(BackgroundBuild(request_, cache))
    monkeypatch.setattr(sys, "executable", "/bin/no such program")
    with pytest.raises(ModelError, match="the build does not start"):
        BackgroundBuild(request_, cache).start()


def test_closing_ends_the_process_and_leaves_no_engine(request_: BuildRequest, cache: EngineCache) -> None:
    with cache.building():  # so that it cannot be done before it is closed
        work = BackgroundBuild(request_, cache)
        work.start()
        assert work._process is not None
        pid = work._process.pid
        until(lambda: work.poll() is not None or work.waiting)
        began_s = time.monotonic()
        work.close()
        work.close()
        assert time.monotonic() - began_s < 2, "there is no use in waiting for who waits himself"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert cache.engines() == []


def test_a_build_does_not_outlive_who_wanted_it(tmp_path: Path, request_: BuildRequest, cache: EngineCache) -> None:
    code = (
        "import pickle, sys, time; from vrseg.models.background_build import BackgroundBuild\n"
        "work = BackgroundBuild(*pickle.load(open(sys.argv[1], 'rb'))); work.start()\n"
        "print(work._process.pid, flush=True); time.sleep(60)\n"
    )
    import pickle

    (tmp_path / "request").write_bytes(pickle.dumps((request_, cache)))
    with cache.building():
        parent = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "request")], stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    # A process that nobody has waited for yet has no command line any more.
    until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())
    assert not list(cache.folder.glob(".*")), "and it leaves nothing half written"


def test_the_key_holds_everything_that_decides_and_nothing_else(request_: BuildRequest, tmp_path: Path) -> None:
    key = key_of(request_.fields())
    again = replace(request_, spec=replace(request_.spec, name="other"))
    assert key_of(again.fields()) == key, "what a configuration calls the model does not matter"
    other_card = replace(CARD, compute_capability=(8, 9))
    changes: list[BuildRequest] = [
        replace(request_, precision="fp16"),
        replace(request_, library_version="9.9"),
        replace(request_, library="tensorrt"),
        replace(request_, max_batch=8),
        replace(request_, workspace_bytes=1 << 20),
        replace(request_, card=other_card),
        replace(request_, spec=replace(request_.spec, input=replace(request_.spec.input, name="image"))),
    ]
    assert len({key, *(key_of(one.fields()) for one in changes)}) == len(changes) + 1
    full = replace(request_, library="tensorrt")
    for card in (replace(CARD, name="A10"), replace(CARD, memory_bytes=1)):
        assert key_of(replace(request_, card=card).fields()) == key, "TensorRT-RTX compiles on the card itself"
        assert key_of(replace(full, card=card).fields()) != key_of(full.fields())
        assert timing_key(replace(full, card=card)) != timing_key(full)
    color_network(tmp_path / "toy.onnx", (2 * np.eye(3)).tolist(), [0, 0, 0], batch=1, last="Softmax")
    assert key_of(request_.fields()) != key


def test_the_key_knows_weights_in_files_of_their_own(tmp_path: Path) -> None:
    path = color_network(tmp_path / "toy.onnx", np.eye(3).tolist(), [0, 0, 0])
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    request = request_for(path)
    key = key_of(request.fields())
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x40")
    assert key_of(request.fields()) != key
    weights.unlink()
    with pytest.raises(ModelError, match=r"toy\.onnx: cannot be read: No such file"):
        request.fields()


def test_the_command_builds_lists_and_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    from vrseg.cli import models_build

    monkeypatch.setenv("VRSEG_CACHE", str(tmp_path / "cache"))
    app = typer.Typer()
    for name in ("build", "engines", "forget"):
        app.command(name)(getattr(models_build, name))

    def said(*words: str) -> str:
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    arguments = ("build", "demo", "--compute-capability", "8.6", "--max-batch", "2")
    first = said(*arguments)
    assert first.count("\n") == 1
    assert ".plan: built in " in first
    assert first.endswith(" MB\n")
    assert "was there already" in said(*arguments)
    listed = said("engines")
    key = Path(first.partition(":")[0]).stem
    assert listed.startswith(f"{key}  person.onnx  fp32  batch 1 to 2  tensorrt-rtx {rtx.__version__}  ")
    assert f'"key": "{key}"' in said("engines", "--json")
    assert "deleted" in said("forget", key[:6])
    assert said("engines") == ""
    with pytest.raises(ConfigError, match="no engine begins with ffff"):
        said("forget", "ffff")
    with pytest.raises(ConfigError, match="only TensorRT-RTX builds for a GPU that is not here"):
        said("build", "demo", "--compute-capability", "8.6", "--library", "tensorrt")
    with pytest.raises(ConfigError, match=r"write it as 8\.6"):
        said("build", "demo", "--compute-capability", "ampere")
    with pytest.raises((DeviceError, ModelError), match=r"does not run on compute capability 9\.0"):
        said("build", "demo", "--compute-capability", "9.0")


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
