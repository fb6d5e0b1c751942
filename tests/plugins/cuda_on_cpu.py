"""Run a CUDA kernel on the CPU, thread by thread: its arithmetic is then tested on every machine."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

SHIM = Path(__file__).with_suffix(".hpp")
_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(')
_MAX_THREADS = 1024
_MAX_GRID = (2**31 - 1, 65535, 65535)
_MAX_ARGUMENT_BYTES = 4000


def launch_on_cpu(
    source: str, name: str, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
) -> None:
    """Run the kernel `name` of `source` (from `vrseg.gpu.kernels.source_of`), as `Kernels.launch` would on a GPU.

    Arguments are those of `Kernels.launch`: NumPy scalars of the exact type, `address_of(array)` for pointers,
    structures as arrays of one element. Threads run one after the other, from barrier to barrier: they may meet at
    `__syncthreads`, but not within a warp.

    Raises:
        ValueError: CUDA would refuse or misunderstand the launch: sizes, number of arguments, their bytes.
        RuntimeError: the source does not compile, or its threads meet where they cannot.
    """
    if np.prod(block) > _MAX_THREADS or min(*grid, *block) < 1 or any(np.array(grid) > _MAX_GRID):
        raise ValueError(f"{name}: no GPU takes a grid of {grid} with blocks of {block}")
    library = _compiled(source)
    if name not in kernel_names(source):
        raise ValueError(f"{name}: no such kernel; the source has {', '.join(kernel_names(source))}")
    values = [np.ascontiguousarray(argument) for argument in arguments]
    for index, (argument, value) in enumerate(zip(arguments, values, strict=True)):
        if not isinstance(argument, np.generic) and not (isinstance(argument, np.ndarray) and value.size == 1):
            raise ValueError(f"{name}: argument {index} is neither a NumPy scalar nor an array of one structure")
    if sum(value.nbytes for value in values) > _MAX_ARGUMENT_BYTES:
        raise ValueError(f"{name}: arguments exceed {_MAX_ARGUMENT_BYTES} bytes")
    count = len(values)
    function = library[f"launch_{name}"]
    function.restype = ctypes.c_char_p
    problem = function(
        (ctypes.c_uint * 6)(*grid, *block),
        (ctypes.c_void_p * count)(*(value.ctypes.data for value in values)),
        (ctypes.c_size_t * count)(*(value.nbytes for value in values)),
        ctypes.c_size_t(count),
    ).decode()
    if problem:
        kind = RuntimeError if "cannot meet" in problem else ValueError
        raise kind(f"{name}: {problem}")


def address_of(array: npt.NDArray[Any]) -> np.uint64:
    """Return what stands for a device pointer. Keep the array alive, and contiguous."""
    assert array.flags.c_contiguous
    return np.uint64(array.ctypes.data)


def kernel_names(source: str) -> list[str]:
    """List the kernels of a source, in its order."""
    return _KERNEL.findall(source)


@cache
def _compiled(source: str) -> ctypes.CDLL:
    if shutil.which("g++") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no g++, but this run may not do without", pytrace=False)
        pytest.skip("no g++")
    launchers = "\n".join(
        f'extern "C" const char* launch_{name}(const unsigned* sizes, void** arguments, const size_t* bytes, '
        f"size_t count) {{ return launch({name}, sizes, arguments, bytes, count); }}"
        for name in kernel_names(source)
    )
    with TemporaryDirectory() as folder:
        code, library = Path(folder) / "kernels.cpp", Path(folder) / "kernels.so"
        code.write_text(f'#include "{SHIM}"\n{source}\n{launchers}\n', encoding="utf-8")
        command = ["g++", "-std=c++17", "-O2", "-w", "-fPIC", "-shared", "-fno-strict-aliasing", str(code)]
        command += ["-DHAS_BARRIERS"] if "__syncthreads();" in source else []
        made = subprocess.run([*command, "-o", str(library)], capture_output=True, text=True, check=False)
        if made.returncode:
            raise RuntimeError(f"the kernels do not compile for the CPU:\n{made.stderr}")
        # A loaded library stays mapped when its file is gone.
        return ctypes.CDLL(str(library))
