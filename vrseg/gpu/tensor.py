"""Arrays in device memory, as stages hand them on: a lease, a shape and a type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import cupy

    from vrseg.gpu.memory import Lease


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceTensor:
    """A dense, row-major array in device memory. Not ready before the stream it was made on has come to it."""

    lease: Lease = field(repr=False)
    shape: tuple[int, ...]
    dtype: str
    """NumPy's name: `float16`, `float32`, `uint8`."""
    offset_bytes: int = 0
    """From the start of the lease; a multiple of 256 for what an engine takes."""

    @property
    def address(self) -> int:
        """Device pointer."""
        return self.lease.address + self.offset_bytes

    @property
    def size_bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3, without a stream: the consumer orders its work by events."""
        return {
            "shape": self.shape,
            "typestr": np.dtype(self.dtype).str,
            "data": (self.address, False),
            "version": 3,
            "strides": None,
        }

    def as_cupy(self) -> cupy.ndarray:
        """View it as a CuPy array, which keeps the lease."""
        import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

        memory = cupy.cuda.UnownedMemory(self.address, self.size_bytes, self.lease)
        return cupy.ndarray(self.shape, self.dtype, cupy.cuda.MemoryPointer(memory, 0))
