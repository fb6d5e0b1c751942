from __future__ import annotations

import ctypes
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from vrseg.doctor import gpu_packages, graphics, video_engines
from vrseg.doctor.finding import Finding
from vrseg.doctor.gpu_packages import look_at_gpu_packages
from vrseg.doctor.graphics import look_at_graphics
from vrseg.doctor.video_engines import findings_from, look_at_video_engines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIP = f"{sys.executable} -m pip"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Finding]]:
    """Look at a machine whose nvidia-smi says so, and whose driver has these libraries."""

    def look(
        said: str, *, code: int = 0, libraries: tuple[str, ...] = (), container: bool = False, capability: str = "9.0"
    ) -> dict[str, Finding]:
        program = tmp_path / "nvidia-smi"
        program.write_text(
            f'#!/bin/sh\ncase "$1" in *compute_cap*) echo {capability};; *) echo "{said}";; esac\nexit {code}\n',
            encoding="ascii",
        )
        program.chmod(0o755)
        mark = tmp_path / "mark"
        if container:
            mark.touch()

        def load(file: str) -> None:
            if file not in libraries:
                raise OSError(file)

        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(graphics, "_CONTAINER_MARKS", (mark,))
        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr(graphics, "look_at_gpu_packages", list)
        monkeypatch.setattr(graphics, "look_at_video_engines", list)
        return {one.name: one for one in look_at_graphics()}

    return look


def test_a_machine_without_a_driver_computes_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(graphics, "_DEVICE", tmp_path / "none")
    assert look_at_graphics() == [Finding("GPU", "optional", "no NVIDIA driver; vrseg computes on the CPU")]


def test_a_gpu_with_a_good_driver_is_named(machine: Callable[..., dict[str, Finding]]) -> None:
    all_there = ("libcuda.so.1", "libnvcuvid.so.1", "libnvidia-encode.so.1")
    found = machine("NVIDIA L4, 23034 MiB, 580.95.05", libraries=all_there)
    assert found["GPU 0"] == Finding("GPU 0", "ok", "NVIDIA L4, 23034 MiB, driver 580.95.05")
    assert {found[name].state for name in ("CUDA driver", "NVDEC driver", "NVENC driver")} == {"ok"}
    assert "TensorRT" in found


def test_an_old_driver_is_named_with_the_one_to_install(machine: Callable[..., dict[str, Finding]]) -> None:
    found = machine("NVIDIA L4, 23034 MiB, 535.183.01")
    assert found["GPU driver"].detail == "driver 535.183.01 is too old for CUDA 13, which wants 580 or newer"
    assert (found["GPU driver"].remedy or "").endswith("apt-get install --yes nvidia-driver-580")
    assert "CuPy" not in found, "nothing above it can work"


@pytest.mark.parametrize(
    ("container", "remedy"),
    [
        (False, "apt-get install --yes libnvidia-decode-590"),
        (True, "docker run --gpus all --env NVIDIA_DRIVER_CAPABILITIES=compute,utility,video ..."),
    ],
)
def test_a_missing_library_of_the_driver_is_mended_where_it_comes_from(
    machine: Callable[..., dict[str, Finding]], container: bool, remedy: str
) -> None:
    found = machine("NVIDIA L4, 23034 MiB, 590.10", libraries=("libcuda.so.1",), container=container)
    assert found["CUDA driver"].state == "ok"
    assert found["NVDEC driver"].detail == "the driver's libnvcuvid.so.1 is not there"
    assert (found["NVDEC driver"].remedy or "").endswith(remedy)
    assert found["NVENC driver"].state == "optional"


def test_a_driver_that_does_not_work_says_why(machine: Callable[..., dict[str, Finding]]) -> None:
    found = machine("Failed to initialize NVML: Driver/library version mismatch", code=18)
    assert "Driver/library version mismatch" in found["GPU"].detail


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Finding]]:
    """Look at an environment with these packages; ONNX Runtime offers `providers`, CuPy sees `gpus`."""

    def look(*names: str, providers: tuple[str, ...] = (), gpus: Any = 1) -> dict[str, Finding]:
        def version(name: str) -> str:
            if name not in names:
                raise PackageNotFoundError(name)
            return "1.2"

        def count() -> Any:
            if isinstance(gpus, Exception):
                raise gpus
            return gpus

        monkeypatch.setattr(
            gpu_packages, "distributions", lambda: [SimpleNamespace(metadata={"Name": name}) for name in names]
        )
        monkeypatch.setattr(gpu_packages, "version", version)
        cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count)))
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        runtime = SimpleNamespace(get_available_providers=lambda: providers, __version__="1.31")
        monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
        return {one.name: one for one in look_at_gpu_packages()}

    return look


def test_a_complete_environment_is_ok(installed: Callable[..., dict[str, Finding]]) -> None:
    found = installed(
        "cupy-cuda13x",
        "onnxruntime-gpu",
        "PyNvVideoCodec",
        "cuda-bindings",
        "nvidia-ml-py",
        "nvidia-cuda-nvrtc",
        providers=("CUDAExecutionProvider",),
    )
    assert {one.state for one in found.values()} == {"ok"}
    assert found["CuPy"].detail == "1.2, sees 1 GPU"


def test_packages_that_are_missing_come_with_the_extra(installed: Callable[..., dict[str, Finding]]) -> None:
    found = installed()
    for name in ("CuPy", "CUDA bindings", "PyNvVideoCodec", "NVML", "NVRTC"):
        assert (found[name].state, found[name].remedy) == ("optional", f"{PIP} install 'vrseg[cuda]'")


def test_two_cupys_are_both_taken_out(installed: Callable[..., dict[str, Finding]]) -> None:
    found = installed("cupy_cuda12x", "cupy-cuda13x")["CuPy"]
    assert found.detail == "cupy-cuda12x and cupy-cuda13x break each other"
    assert found.remedy == f"{PIP} uninstall --yes cupy-cuda12x cupy-cuda13x && {PIP} install cupy-cuda13x"
    assert installed("cupy-cuda12x")["CuPy"].detail == "cupy-cuda12x is not for CUDA 13"


def test_a_cupy_that_does_not_reach_the_driver_says_why(installed: Callable[..., dict[str, Finding]]) -> None:
    found = installed("cupy-cuda13x", gpus=RuntimeError("cudaErrorInsufficientDriver: too old"))["CuPy"]
    assert (found.state, found.detail) == ("optional", "1.2 does not work: cudaErrorInsufficientDriver: too old")


@pytest.mark.parametrize(
    ("packages", "detail"),
    [
        (("onnxruntime",), "this ONNX Runtime is for CPUs"),
        (("onnxruntime", "onnxruntime-gpu"), "onnxruntime hides onnxruntime-gpu: only one may be there"),
    ],
)
def test_an_onnx_runtime_for_cpus_is_replaced(
    installed: Callable[..., dict[str, Finding]], packages: tuple[str, ...], detail: str
) -> None:
    found = installed(*packages, providers=("CPUExecutionProvider",))["ONNX on CUDA"]
    assert found.detail == detail
    assert found.remedy == f"{PIP} uninstall --yes {' '.join(packages)} && {PIP} install onnxruntime-gpu"


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"library": None}, []),
        ({"library": "no libcuda"}, [("NVDEC", "optional", "PyNvVideoCodec does not load: no libcuda")]),
        (
            {"decodes": ["h264", "hevc"], "encodes": [], "refusal": "GetEncoderCaps Error code : 2"},
            [
                ("NVDEC", "ok", "h264, hevc; the rest is decoded in software"),
                ("NVENC", "optional", "this GPU has none; video is encoded in software"),
            ],
        ),
        (
            {"decodes": [], "encodes": ["h264"], "refusal": "Error code : 12"},
            [
                ("NVDEC", "optional", "decodes nothing here; video is decoded in software"),
                ("NVENC", "ok", "h264"),
            ],
        ),
        (
            {"decodes": ["h264"], "encodes": [], "refusal": "nvEncOpenEncodeSessionEx Error code : 21"},
            [
                ("NVDEC", "ok", "h264; the rest is decoded in software"),
                (
                    "NVENC",
                    "optional",
                    "does not start: nvEncOpenEncodeSessionEx Error code : 21; video is encoded in software",
                ),
            ],
        ),
    ],
)
def test_the_video_engines_are_put_into_words(answers: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    assert [(one.name, one.state, one.detail) for one in findings_from(answers)] == expected


def test_a_child_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'Segmentation fault' >&2\nexit 139\n", encoding="ascii")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    assert [one.detail for one in look_at_video_engines()] == ["cannot be asked: Segmentation fault"]


def test_the_child_answers_also_without_a_driver() -> None:
    found = look_at_video_engines()
    assert [one for one in found if one.name not in {"NVDEC", "NVENC"} or one.state == "missing"] == []
    assert not [one for one in found if "cannot be asked" in one.detail], video_engines.__doc__


@pytest.mark.gpu
def test_on_a_real_gpu_the_driver_the_packages_and_the_decoder_are_found() -> None:
    found = {one.name: one for one in look_at_graphics()}
    assert {found[name].state for name in ("GPU 0", "CUDA driver", "NVDEC driver", "CuPy", "NVML")} == {"ok"}, found
    assert found["NVDEC"].state == "ok", found
    assert "h264" in found["NVDEC"].detail
    assert "NVENC" in found
