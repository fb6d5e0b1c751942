"""Small arrays that never change, in device memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.gpu.memory import Pool
from vrseg.gpu.transfer import copy_to_device

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Hashable

    import cupy
    import numpy.typing as npt

    from vrseg.gpu.device import Gpu
    from vrseg.gpu.memory import Lease


class Tables:
    """Uploads each table when it is first asked for, and keeps it."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._held: dict[tuple[Hashable, Hashable], tuple[Pool, Lease]] = {}

    def address(
        self, owner: Hashable, name: Hashable, make: Callable[[], npt.NDArray[Any]], stream: cupy.cuda.Stream
    ) -> int:
        """Return the device pointer of a table, for work on `stream`; always the same stream.

        Args:
            owner: who needs it; see `keep_for`.
            name: of the table, among its owner's.
            make: makes it when it is not there yet.
            stream: where its readers run.
        """
        held = self._held.get((owner, name))
        if held is None:
            held = self._held[owner, name] = self._uploaded(np.ascontiguousarray(make()), stream)
        return held[1].address

    def keep_for(self, owners: Container[Hashable], stream: cupy.cuda.Stream) -> None:
        """Free the tables of all other owners; what is on `stream` may still read them."""
        for key in [key for key in self._held if key[0] not in owners]:
            pool, lease = self._held.pop(key)
            lease.used_on(stream)
            lease.release()
            pool.close()

    def close(self) -> None:
        """Free all tables. Safe to call twice."""
        for pool, lease in self._held.values():
            lease.release()
            pool.close()
        self._held.clear()

    def _uploaded(self, table: npt.NDArray[Any], stream: cupy.cuda.Stream) -> tuple[Pool, Lease]:
        pool = Pool(self._gpu, "device", table.nbytes, limit=1, name="paint.tables")
        lease = pool.lend(stream)
        copy_to_device(self._gpu, lease.address, table.ctypes.data, table.nbytes, stream)
        return pool, lease
