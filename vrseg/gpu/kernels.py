"""CUDA C++ of our own: found beside its module, compiled once for the card at hand, launched and counted."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import cupy

    from vrseg.gpu.device import Gpu

COMMON = ("vrseg.gpu", "picture.cuh")
"""In front of every source: what a picture is, and how its samples and colours are read."""
OPTIONS = ("-std=c++17",)
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


def source_of(package: str, name: str) -> str:
    """Return a kernel file of `package` with the common part in front, and in it the .cuh files that it includes.

    They are found beside it. NVRTC compiles the whole without any header, and CuPy's cache knows of every change.
    """
    return _text(*COMMON) + _INCLUDE.sub(lambda found: _text(package, found[1]), _text(package, name))


def _text(package: str, name: str) -> str:
    return f'#line 1 "{name}"\n{files(package).joinpath(name).read_text(encoding="utf-8")}\n'


class Kernels:
    """The kernels of one file on one device. Made in a stage's `open`."""

    def __init__(self, gpu: Gpu, package: str, name: str) -> None:
        """Compile, or take from CuPy's cache on disk.

        Raises:
            DeviceError: the compiler refused it.
        """
        self._gpu = gpu
        self._function = cache(_compiled(gpu.index, package, name).get_function)

    def launch(
        self,
        name: str,
        stream: cupy.cuda.Stream,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
    ) -> None:
        """Put one launch of the `extern "C"` kernel `name` on `stream`.

        Args:
            name: of the kernel.
            stream: where it runs.
            grid: blocks in x, y, z.
            block: threads in x, y, z.
            arguments: NumPy scalars of the exact type; `numpy.uint64` for device pointers; structures by value as
                NumPy arrays of one element of a structured type, laid out as C++ does. CUDA copies them before this
                returns, so the caller may let go of them, or share what it does not write.
        """
        with stream:
            self._function(name)(grid, block, tuple(map(_plain, arguments)))
        self._gpu.counts.add(launches=1)


def _plain(argument: Any) -> Any:
    """View a structure as mere bytes: CuPy passes the same, but describes each field of it to itself before."""
    return argument.view(_bytes(argument.itemsize)) if isinstance(argument, np.ndarray) else argument


@cache
def _bytes(count: int) -> np.dtype[np.void]:
    return np.dtype((np.void, count))


@cache
def _compiled(device_index: int, package: str, name: str) -> cupy.RawModule:
    import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

    try:
        with cupy.cuda.Device(device_index):
            module = cupy.RawModule(code=source_of(package, name), options=OPTIONS)
            module.compile()
    except cupy.cuda.compiler.CompileException as error:
        raise DeviceError(f"{package}/{name} does not compile for this GPU: {error}") from error
    return module
