"""NVIDIA GPUs and their driver. Nothing here is needed: without it vrseg computes on the CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vrseg.doctor.finding import Finding, apt
from vrseg.doctor.gpu_packages import look_at_gpu_packages
from vrseg.doctor.tensorrt import tensorrt_finding
from vrseg.doctor.video_engines import look_at_video_engines

OLDEST_DRIVER = 580
"""The first that runs CUDA 13."""

_LIBRARIES = {
    "CUDA": ("libcuda.so.1", "libnvidia-compute"),
    "NVDEC": ("libnvcuvid.so.1", "libnvidia-decode"),
    "NVENC": ("libnvidia-encode.so.1", "libnvidia-encode"),
}
"""By what they are for: the file, and Ubuntu's package of it, to whose name the driver's branch is added."""

_CONTAINER_REMEDY = "docker run --gpus all --env NVIDIA_DRIVER_CAPABILITIES=compute,utility,video ..."
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_DEVICE = Path("/dev/nvidiactl")
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU as the driver tells of it."""

    name: str
    memory: str
    driver: str

    @property
    def driver_branch(self) -> int:
        """580 of `580.95.05`; 0 when it is not told."""
        first = self.driver.partition(".")[0]
        return int(first) if first.isdigit() else 0


def look_at_graphics() -> list[Finding]:
    """Report GPUs, their driver, and what would use them where there are any."""
    cards = _cards()
    if isinstance(cards, Finding):
        return [cards]
    branch = cards[0].driver_branch
    gpus = [
        Finding(f"GPU {index}", "ok", f"{card.name}, {card.memory}, driver {card.driver}")
        for index, card in enumerate(cards)
    ]
    if branch < OLDEST_DRIVER:
        return [*gpus, _old_driver(cards[0])]
    libraries = [_library(name, branch) for name in _LIBRARIES]
    return [*gpus, *libraries, *look_at_gpu_packages(), *look_at_video_engines(), *_tensorrt()]


def _cards() -> list[Card] | Finding:
    if shutil.which("nvidia-smi") is None:
        if _DEVICE.exists():
            return Finding("GPU", "optional", "there, but nvidia-smi is not", _repair("nvidia-utils", OLDEST_DRIVER))
        return Finding("GPU", "optional", "no NVIDIA driver; vrseg computes on the CPU")
    rows = _queried("name", "memory.total", "driver_version")
    if isinstance(rows, str):
        return Finding("GPU", "optional", rows)
    if not rows:
        return Finding("GPU", "optional", "the NVIDIA driver finds none; vrseg computes on the CPU")
    return [Card(*row) for row in rows]


def _queried(*fields: str) -> list[list[str]] | str:
    """Ask the driver's program; return a row for each GPU, or why there is none."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - our own words
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi does not answer: {error}"
    if done.returncode != 0:
        said = (done.stdout or done.stderr).strip().partition("\n")[0]
        return f"the NVIDIA driver does not work: {said}"
    rows = ([cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines())
    return [row for row in rows if len(row) == len(fields)]


def _old_driver(card: Card) -> Finding:
    where = " of the host" if _in_container() else ""
    return Finding(
        "GPU driver",
        "optional",
        f"driver {card.driver}{where} is too old for CUDA 13, which wants {OLDEST_DRIVER} or newer",
        apt(f"nvidia-driver-{OLDEST_DRIVER}"),
    )


def _library(name: str, branch: int) -> Finding:
    file, package = _LIBRARIES[name]
    try:
        ctypes.CDLL(file)
    except OSError:
        return Finding(f"{name} driver", "optional", f"the driver's {file} is not there", _repair(package, branch))
    return Finding(f"{name} driver", "ok", f"{file} loads")


def _repair(package: str, branch: int) -> str:
    return _CONTAINER_REMEDY if _in_container() else apt(f"{package}-{branch}")


def _in_container() -> bool:
    return any(mark.exists() for mark in _CONTAINER_MARKS)


def _tensorrt() -> list[Finding]:
    rows = _queried("compute_cap")
    if isinstance(rows, str) or not rows:
        return []
    major, _, minor = rows[0][0].partition(".")
    return [tensorrt_finding((int(major), int(minor)))] if major.isdigit() and minor.isdigit() else []
