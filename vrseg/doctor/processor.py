"""Cores, vector units and memory that this process may really use."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from vrseg.doctor.finding import Finding

# What ONNX Runtime and OpenVINO pick their kernels by, the widest last.
_VECTOR_FLAGS = (
    "avx",
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
)
_CGROUP = Path("/sys/fs/cgroup")
# Holds a model and the frames of a few streams.
_LEAST_MEMORY_BYTES = 1_000_000_000


def look_at_processor() -> list[Finding]:
    """Report the processor and the memory."""
    return [_cores(), _vectors(), _memory()]


def _cores() -> Finding:
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    detail = f"{_model_name()}, {usable} of {present} cores usable"
    quota = _cpu_quota()
    if quota is not None and quota < usable:
        detail += (
            f", but its control group grants the time of {quota:g}; set `threads` of the models to {max(1, int(quota))}"
        )
    return Finding("processor", "ok", detail)


def _vectors() -> Finding:
    flags = _cpuinfo("flags", "Features").split()
    found = [flag for flag in _VECTOR_FLAGS if flag in flags]
    if platform.machine() == "x86_64" and "avx2" not in found:
        return Finding("vector units", "optional", "no AVX2: inference will be several times slower than it could be")
    return Finding("vector units", "ok", ", ".join(found) or "not known")


def _memory() -> Finding:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _number(_CGROUP / "memory.max")
    detail = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if limit is not None and limit < total:
        free = min(free, limit - (_number(_CGROUP / "memory.current") or 0))
        detail += f", limited to {limit / 1e9:.1f} GB by the control group"
    if free < _LEAST_MEMORY_BYTES:
        return Finding("memory", "optional", f"{detail}; a stream with a model wants 1 GB")
    return Finding("memory", "ok", detail)


def _model_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(*keys: str) -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


def _cpu_quota() -> float | None:
    """Cores' worth of time that the control group allows; None without a limit."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
