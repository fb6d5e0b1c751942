"""Which device, and why. Decided once, at start."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vrseg.errors import DeviceError, DeviceMemoryError

if TYPE_CHECKING:
    from vrseg.backend.backend import Backend

DRIVER = Path("/dev/nvidiactl")
"""There exactly when the kernel module of NVIDIA's driver is loaded and the process may see a GPU."""
NEEDED = {"cupy": "cupy-cuda13x", "PyNvVideoCodec": "PyNvVideoCodec"}
"""Modules that the CUDA path cannot do without, and the packages that bring them."""


def choose_backend(device: str) -> Backend:
    """Choose the device.

    `auto` is the first GPU where there is one and all that it needs is installed, else the CPU.

    Raises:
        DeviceError: the device that was asked for is not there, or cannot be used.
    """
    if device == "cpu":
        return _cpu("asked for")
    if device == "auto":
        missing = what_is_missing()
        if missing:
            return _cpu(missing)
        try:
            return _cuda(0, "a GPU is there")
        except (DeviceError, DeviceMemoryError) as error:
            return _cpu(f"the GPU cannot be used: {error}")
    _, _, number = device.partition(":")
    if missing := what_is_missing():
        raise DeviceError(f"device {device}: {missing}; `vrseg doctor` says how to mend it, `device: cpu` works anyway")
    return _cuda(int(number or 0), "asked for")


def what_is_missing() -> str:
    """Say what keeps this machine from the CUDA path; empty when nothing is known to."""
    if not DRIVER.exists():
        return "no NVIDIA GPU here"
    packages = [package for module, package in NEEDED.items() if find_spec(module) is None]
    return f"{' and '.join(packages)} not installed: pip install 'vrseg[cuda]'" if packages else ""


def _cpu(reason: str) -> Backend:
    from vrseg.backend.cpu import cpu_backend  # noqa: PLC0415 -- a device's libraries load only when it is chosen

    return cpu_backend(reason)


def _cuda(index: int, reason: str) -> Backend:
    from vrseg.backend.cuda import cuda_backend  # noqa: PLC0415 -- as above

    return cuda_backend(index, reason)
