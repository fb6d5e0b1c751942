"""Memory for pictures. All pictures of one size on a GPU share it, whoever made them."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrseg.gpu.memory import Pool, PoolClosedError
from vrseg.gpu.surface import surface_bytes

if TYPE_CHECKING:
    import cupy

    from vrseg.gpu.device import Gpu
    from vrseg.gpu.memory import Lease
    from vrseg.gpu.surface import SurfaceFormat


class SurfacePool:
    """Lends memory for pictures of one stream. Several threads may share it.

    What one stream has given back another may be lent: sixteen streams whose frames are inferred in turn do not need
    the most that each of them ever has about, all at once.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._lock = threading.Lock()
        self._pool: Pool | None = None

    def lend(self, width: int, height: int, surface_format: SurfaceFormat, stream: cupy.cuda.Stream) -> Lease:
        """Lend memory for a picture, to be written by work on `stream`.

        Raises:
            DeviceError: pictures are taken and never given back.
            DeviceMemoryError: the device is full.
        """
        size = surface_bytes(width, height, surface_format)
        while True:
            pool = self._pool_of(size)
            with suppress(PoolClosedError):  # another thread has pictures of another size meanwhile
                return pool.lend(stream)

    def close(self) -> None:
        """Free what nobody else needs, and what is in use as it comes back. Safe to call twice."""
        with self._lock:
            self._leave()

    def _pool_of(self, size: int) -> Pool:
        with self._lock:
            if self._pool is None or self._pool.block_bytes != size:
                self._leave()
                self._pool = self._gpu.pictures.join(self._gpu, size)
            return self._pool

    def _leave(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            self._gpu.pictures.leave(pool)


class PictureMemory:
    """The pools of a GPU, one for each size of picture that somebody uses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[int, _Shared] = {}

    def join(self, gpu: Gpu, block_bytes: int) -> Pool:
        """Return the pool of a size, to be left again."""
        with self._lock:
            shared = self._shared.get(block_bytes)
            if shared is None:
                # Queues bound how many pictures are about. That there is no memory for more, the device says itself.
                limit = gpu.memory_bytes // block_bytes + 1
                name = f"pictures of {block_bytes} bytes"
                shared = self._shared[block_bytes] = _Shared(Pool(gpu, "device", block_bytes, limit=limit, name=name))
            shared.users += 1
            return shared.pool

    def leave(self, pool: Pool) -> None:
        """Give up a pool. With its last user it goes."""
        with self._lock:
            shared = self._shared[pool.block_bytes]
            shared.users -= 1
            if shared.users:
                return
            del self._shared[pool.block_bytes]
        pool.close()

    def free_idle(self) -> None:
        """Free all memory that holds no picture just now: somebody else needs it more."""
        with self._lock:
            pools = [shared.pool for shared in self._shared.values()]
        for pool in pools:
            pool.free_idle()


@dataclass(slots=True)
class _Shared:
    pool: Pool
    users: int = 0
