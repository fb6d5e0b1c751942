"""A pool for what a network gives: how much that is, it tells with its first answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.gpu.memory import Pool

if TYPE_CHECKING:
    import cupy

    from vrseg.gpu.block import Kind
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.memory import Lease


class LatePool:
    """A `Pool` that is made when the first block is asked for, and anew only should a larger one be needed."""

    def __init__(self, gpu: Gpu, kind: Kind, *, limit: int, name: str) -> None:
        self._gpu = gpu
        self._kind: Kind = kind
        self._limit = limit
        self._name = name
        self._pool: Pool | None = None

    def lend(self, block_bytes: int, stream: cupy.cuda.Stream | None = None) -> Lease:
        """Lend a block of at least so many bytes; see `Pool.lend`. Ask for what the largest batch needs."""
        if self._pool is None or self._pool.block_bytes < block_bytes:
            self.close()
            self._pool = Pool(self._gpu, self._kind, block_bytes, limit=self._limit, name=self._name)
        return self._pool.lend(stream)

    def close(self) -> None:
        """Free the blocks, lent ones as they come back. Safe to call twice."""
        if self._pool is not None:
            self._pool.close()
        self._pool = None
