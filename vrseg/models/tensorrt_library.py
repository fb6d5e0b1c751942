"""Which TensorRT there is for a card, and how to load it."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from vrseg.errors import DeviceError

if TYPE_CHECKING:
    from vrseg.models.tensorrt_api import TensorRt

LibraryName: TypeAlias = Literal["tensorrt", "tensorrt-rtx"]

MODULES: dict[LibraryName, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
OLDEST = (10, 8)
"""Of `tensorrt`: strongly typed networks cover all usual layers since then."""
_RTX_AMPERE_AND_ADA = ((7, 5), (8, 0), (8, 6), (8, 9))
_RTX_BLACKWELL = 12
"""GeForce and workstation Blackwell; the data centre's, 10.x, is not among them."""


def rtx_fits(compute_capability: tuple[int, int]) -> bool:
    """Tell whether TensorRT-RTX runs on a card. The full TensorRT runs on all that vrseg supports."""
    return compute_capability in _RTX_AMPERE_AND_ADA or compute_capability[0] == _RTX_BLACKWELL


def installed(name: LibraryName) -> bool:
    """Tell whether a library is there, without loading it."""
    return find_spec(MODULES[name]) is not None


def library_for(compute_capability: tuple[int, int]) -> LibraryName:
    """Choose for a card: what is installed and fits, the full TensorRT first.

    Raises:
        DeviceError: neither is there.
    """
    if installed("tensorrt"):
        return "tensorrt"
    fits = rtx_fits(compute_capability)
    if fits and installed("tensorrt-rtx"):
        return "tensorrt-rtx"
    extra = "tensorrt-rtx" if fits else "tensorrt"
    raise DeviceError(f"TensorRT for this GPU is not installed; run: pip install 'vrseg[{extra}]'")


def load_tensorrt(name: LibraryName) -> TensorRt:
    """Import a library.

    Raises:
        DeviceError: it is missing, does not load, or is too old.
    """
    remedy = f"run: pip install --upgrade 'vrseg[{name}]'"
    try:
        module = import_module(MODULES[name])
    except (ImportError, OSError, RuntimeError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise DeviceError(f"{name} does not load: {said}; {remedy}") from error
    trt = cast("TensorRt", module)
    if not is_rtx(trt) and version_of(trt) < OLDEST:
        raise DeviceError(f"tensorrt {trt.__version__} is too old, 10.8 or newer is needed; {remedy}")
    return trt


def version_of(trt: TensorRt) -> tuple[int, int]:
    """Return the major and minor version."""
    major, minor = trt.__version__.split(".")[:2]
    return int(major), int(minor)


def is_rtx(trt: object) -> bool:
    """Tell TensorRT-RTX from the full one."""
    return getattr(trt, "__name__", "") == MODULES["tensorrt-rtx"]
