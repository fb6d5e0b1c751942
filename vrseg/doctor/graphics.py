"""NVIDIA GPUs: the driver, its video engines, and the packages that would use them. This version needs none of it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

from vrseg.doctor.finding import Finding, pip

_LIBRARIES = {"NVDEC": "libnvcuvid.so.1", "NVENC": "libnvidia-encode.so.1"}
_PACKAGES = {
    "CUDA packages": (("cupy-cuda13x", "cuda-python", "PyNvVideoCodec"), "vrseg[cuda]"),
    "TensorRT": (("tensorrt",), "vrseg[tensorrt]"),
}
_QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
_TIMEOUT_S = 10


def look_at_graphics() -> list[Finding]:
    """Report GPUs, and what would use them where there are any."""
    gpus = _gpus()
    if isinstance(gpus, Finding):
        return [gpus]
    return [*gpus, *(_library(name, file) for name, file in _LIBRARIES.items()), *_packages()]


def _gpus() -> list[Finding] | Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("GPU", "optional", "no NVIDIA driver; this version computes on the CPU")
    try:
        done = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - our own words
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("GPU", "optional", f"nvidia-smi does not answer: {error}")
    if done.returncode != 0:
        said = (done.stdout or done.stderr).strip().partition("\n")[0]
        return Finding("GPU", "optional", f"the NVIDIA driver does not work: {said}")
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    return [
        Finding(f"GPU {index}", "ok", f"{name}, {memory}, driver {driver}; not used by this version")
        for index, (name, memory, driver) in enumerate(rows)
    ]


def _library(name: str, file: str) -> Finding:
    try:
        ctypes.CDLL(file)
    except OSError:
        return Finding(name, "optional", f"the driver's {file} is not there; in containers ask for `video` too")
    return Finding(name, "ok", f"{file} of the driver loads")


def _packages() -> list[Finding]:
    findings = []
    for name, (packages, extra) in _PACKAGES.items():
        found = {package: _version(package) for package in packages}
        missing = [package for package, number in found.items() if number is None]
        if missing:
            findings.append(Finding(name, "optional", f"not there: {', '.join(missing)}", pip(extra)))
        else:
            findings.append(Finding(name, "ok", ", ".join(f"{package} {number}" for package, number in found.items())))
    return findings


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
