"""Memory for decoded pictures: a pool for the present size, a new one when the size changes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vrseg.gpu.memory import Pool
from vrseg.gpu.surface import surface_bytes

if TYPE_CHECKING:
    import cupy

    from vrseg.gpu.device import Gpu
    from vrseg.gpu.memory import Lease
    from vrseg.gpu.surface import SurfaceFormat

# Queues bound how many pictures are about; this bound only tells a leak from a busy stream. A quarter of the memory.
_LARGEST_SHARE = 4
_FEWEST = 32


class SurfacePool:
    """Lends memory for pictures of one stream. Several threads may share it."""

    def __init__(self, gpu: Gpu, stream: str) -> None:
        self._gpu = gpu
        self._stream = stream
        self._lock = threading.Lock()
        self._pool: Pool | None = None

    def lend(self, width: int, height: int, surface_format: SurfaceFormat, stream: cupy.cuda.Stream) -> Lease:
        """Lend memory for a picture, to be written by work on `stream`.

        Raises:
            DeviceError: pictures are taken and never given back.
            cupy.cuda.memory.OutOfMemoryError: the device is full.
        """
        size = surface_bytes(width, height, surface_format)
        with self._lock:
            if self._pool is None or self._pool.block_bytes != size:
                if self._pool is not None:
                    self._pool.close()
                limit = max(_FEWEST, self._gpu.memory_bytes // _LARGEST_SHARE // size)
                self._pool = Pool(self._gpu, "device", size, limit=limit, name=f"{self._stream}.surfaces")
            pool = self._pool
        return pool.lend(stream)

    def close(self) -> None:
        """Free what is not in use, and the rest as it comes back. Safe to call twice."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()
            self._pool = None
