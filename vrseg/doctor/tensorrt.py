"""TensorRT: which of the two libraries fits the card, and whether it is there and loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.doctor.finding import Finding, pip
from vrseg.errors import DeviceError
from vrseg.models.tensorrt_library import MODULES, installed, load_tensorrt, rtx_fits

if TYPE_CHECKING:
    from vrseg.models.tensorrt_library import LibraryName

_NAME = "TensorRT"


def tensorrt_finding(compute_capability: tuple[int, int]) -> Finding:
    """Report TensorRT for a card.

    The full library runs on every card that vrseg supports, but its package fetches itself from NVIDIA's own index.
    TensorRT-RTX comes from the ordinary index, for cards of the RTX families only.
    """
    fits = rtx_fits(compute_capability)
    usable: list[LibraryName] = ["tensorrt", "tensorrt-rtx"] if fits else ["tensorrt"]
    there = [name for name in usable if installed(name)]
    major, minor = compute_capability
    if not there:
        useless = not fits and installed("tensorrt-rtx")
        detail = (
            f"TensorRT-RTX is there, but does not run on compute capability {major}.{minor}; "
            if useless
            else "not there; "
        )
        return Finding(
            _NAME,
            "optional",
            f"{detail}ONNX Runtime computes instead, somewhat slower",
            pip("vrseg[tensorrt-rtx]" if fits else "vrseg[tensorrt]"),
        )
    try:
        trt = load_tensorrt(there[0])
    except DeviceError as error:
        reason = str(error).partition("; run: ")[0]
        return Finding(_NAME, "optional", reason, pip("--upgrade", f"vrseg[{there[0]}]"))
    return Finding(_NAME, "ok", f"{MODULES[there[0]]} {trt.__version__} fits compute capability {major}.{minor}")
