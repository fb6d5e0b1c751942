"""Every generation of TensorRT must have what vrseg calls; its signatures are read, for the libraries are not here."""

from __future__ import annotations

import ast
import inspect
import itertools
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from plugins import fake_tensorrt

import vrseg.models.tensorrt_api

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.material

GENERATIONS = {
    "10.8": ("trt10_8", "tensorrt", "TensorRt"),
    "11": ("trt11", "tensorrt", "TensorRt"),
    "11 lean": ("trt11", "tensorrt_lean", "TensorRtRuntime"),
    "rtx": ("rtx1_7", "tensorrt_rtx", "TensorRtRtx"),
}
FAKES = [fake_tensorrt.ILogger, fake_tensorrt.Runtime, fake_tensorrt.ICudaEngine, fake_tensorrt.IExecutionContext]


def types_of(generation: str, shared_dir: Path, folder: Path, code: str) -> str:
    """Run mypy on some lines that find the interface as `api` and the library's signatures by its name."""
    stubs, module, _ = GENERATIONS[generation]
    shutil.copy(vrseg.models.tensorrt_api.__file__, folder / "api.py")
    (folder / "lines.py").write_text(f"import {module}\nimport api\n{code}\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=cache", "lines.py"]
    path = str(shared_dir / "reference" / "stubs" / stubs)
    environment = {**os.environ, "MYPYPATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("generation", GENERATIONS)
def test_each_generation_has_all_that_is_called(generation: str, shared_dir: Path, tmp_path: Path) -> None:
    _, module, protocol = GENERATIONS[generation]
    code = f"library: api.{protocol} = {module}"
    if generation == "rtx":
        code += (
            "\ndef rtx(engine: tensorrt_rtx.ICudaEngine) -> api.RtxEngine:\n    return engine\n"
            "def aimed(config: tensorrt_rtx.IBuilderConfig) -> api.RtxBuilderConfig:\n    return config\n"
        )
    said = types_of(generation, shared_dir, tmp_path, code)
    assert said.startswith("Success"), said


def test_what_one_generation_lacks_is_noticed(shared_dir: Path, tmp_path: Path) -> None:
    said = types_of("11", shared_dir, tmp_path, "library: api.TensorRtRtx = tensorrt")
    assert "ComputeCapability" in said
    assert "Incompatible types in assignment" in said


CASES = [
    *itertools.product(["10.8", "11", "11 lean", "rtx"], FAKES),
    ("rtx", fake_tensorrt.RtxEngine),
    ("rtx", fake_tensorrt.IRuntimeConfig),
]


@pytest.mark.parametrize(("generation", "fake"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_the_fake_has_nothing_that_the_real_library_lacks(generation: str, fake: type, shared_dir: Path) -> None:
    stubs, module, _ = GENERATIONS[generation]
    text = (shared_dir / "reference" / "stubs" / stubs / module / "__init__.pyi").read_text(encoding="utf-8")
    name_of_real = "ICudaEngine" if fake is fake_tensorrt.RtxEngine else fake.__name__
    real = next(one for one in ast.parse(text).body if isinstance(one, ast.ClassDef) and one.name == name_of_real)
    signatures: dict[str, list[ast.FunctionDef]] = {}
    settable = {
        one.target.id for one in real.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }
    for one in real.body:
        if isinstance(one, ast.FunctionDef):
            signatures.setdefault(one.name, []).append(one)
    for name, member in vars(fake).items():
        if name.startswith("_"):
            continue
        assert name in signatures or name in settable, f"{fake.__name__}.{name}"
        if name in settable:
            continue
        if inspect.isfunction(member):
            taken = list(inspect.signature(member).parameters)
            assert any(taken == names_of(one)[: len(taken)] for one in signatures[name]), f"{fake.__name__}.{name}"
        else:
            assert any(is_property(one) for one in signatures[name]), f"{fake.__name__}.{name}"


def names_of(function: ast.FunctionDef) -> list[str]:
    return [one.arg for one in [*function.args.posonlyargs, *function.args.args]]


def is_property(function: ast.FunctionDef) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "property" for one in function.decorator_list)


def test_nothing_can_be_set_on_the_fake_that_is_not_there() -> None:
    context: Any = fake_tensorrt.IExecutionContext()
    with pytest.raises(AttributeError):
        context.optimization_profile = 0
