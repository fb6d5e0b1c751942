"""Python packages that compute on an NVIDIA GPU, and which of them get into each other's way."""

from __future__ import annotations

import shlex
import sys
from importlib.metadata import PackageNotFoundError, distributions, version

from vrseg.doctor.finding import Finding, pip

_CUPY = "cupy-cuda13x"
_EXTRA = "vrseg[cuda]"
_OTHERS = {
    "CUDA bindings": "cuda-bindings",
    "NVRTC": "nvidia-cuda-nvrtc",
    "NVML": "nvidia-ml-py",
    "PyNvVideoCodec": "PyNvVideoCodec",
}


def look_at_gpu_packages() -> list[Finding]:
    """Report CuPy, ONNX Runtime for GPUs, and the rest of the extra `cuda`."""
    return [_cupy(), _onnxruntime(), *(_package(name, package) for name, package in _OTHERS.items())]


def _cupy() -> Finding:
    wheels = sorted({name for name in _installed_names() if name == "cupy" or name.startswith("cupy-cuda")})
    if not wheels:
        return Finding("CuPy", "optional", "not there; `device: cuda` needs it", pip(_EXTRA))
    if wheels != [_CUPY]:
        detail = f"{' and '.join(wheels)} {'break each other' if len(wheels) > 1 else 'is not for CUDA 13'}"
        return Finding("CuPy", "optional", detail, f"{_uninstall(*wheels)} && {pip(_CUPY)}")
    try:
        import cupy  # noqa: PLC0415 - it is what is being looked at: it may be broken

        count = cupy.cuda.runtime.getDeviceCount()
    except (ImportError, RuntimeError) as error:
        detail = f"{version(_CUPY)} does not work: {_first_line(error)}"
        return Finding("CuPy", "optional", detail, pip("--force-reinstall", _CUPY))
    return Finding("CuPy", "ok", f"{version(_CUPY)}, sees {count} GPU{'' if count == 1 else 's'}")


def _onnxruntime() -> Finding:
    name = "ONNX on CUDA"
    wheels = sorted(_installed_names() & {"onnxruntime", "onnxruntime-gpu"})
    repair = f"{_uninstall(*wheels)} && {pip('onnxruntime-gpu')}" if wheels else pip(_EXTRA)
    try:
        import onnxruntime  # noqa: PLC0415 - as above

        providers = onnxruntime.get_available_providers()
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no base class, and any of them is the finding
        return Finding(name, "optional", f"ONNX Runtime does not load: {_first_line(error)}", repair)
    if "CUDAExecutionProvider" in providers:
        return Finding(name, "ok", f"ONNX Runtime {onnxruntime.__version__} has its CUDA provider")
    hidden = len(wheels) > 1
    detail = "onnxruntime hides onnxruntime-gpu: only one may be there" if hidden else "this ONNX Runtime is for CPUs"
    return Finding(name, "optional", detail, repair)


def _package(name: str, package: str) -> Finding:
    try:
        return Finding(name, "ok", f"{package} {version(package)}")
    except PackageNotFoundError:
        return Finding(name, "optional", f"{package} is not there", pip(_EXTRA))


def _installed_names() -> set[str]:
    # A broken installation has entries without a name.
    return {(one.metadata["Name"] or "").lower().replace("_", "-") for one in distributions()}


def _uninstall(*packages: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", "uninstall", "--yes", *packages])


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
