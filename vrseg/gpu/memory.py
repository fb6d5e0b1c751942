"""Memory that is taken once and lent out again and again, ordered by events instead of waits."""

from __future__ import annotations

import ctypes
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.errors import DeviceError, DeviceMemoryError
from vrseg.gpu.block import Block, Kind, allocate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import cupy
    import numpy.typing as npt

    from vrseg.gpu.device import Gpu

PATIENCE_S = 30.0
"""A pool that gives nothing back for so long is stuck, not busy."""
# Where the device is full, a block that comes back soon will do. The one who waits may hold up what it waits for.
_PATIENCE_WHEN_FULL_S = 1.0
# Who waits looks so often by itself: a finaliser that interrupts it on the way to its wait would not be heard.
_LOOK_S = 0.1
# One block more is made for so many that there are.
_SPARE_OF = 8
# All blocks on loan, so that none is ever unreachable. Python's collector finalises what it finds in any order, and
# CuPy's events destroy themselves then: a lease among garbage would give back a block whose events are gone.
_LENT: set[Block] = set()


class PoolClosedError(DeviceError):
    """A pool lends nothing any more."""


class Pool:
    """Blocks of one size. Made on demand up to `limit`; who asks for more waits until one comes back.

    Of many blocks an eighth more is made than was asked for: how many are lent at once varies a little, and the most
    comes seldom. So after the first few batches it allocates no more. Safe to use from several threads.

    Leases give back in finalisers too, which run in any thread at any moment, also in one that holds the lock of this
    pool: so that can be taken again, and no other is asked for while it is held.
    """

    def __init__(self, gpu: Gpu, kind: Kind, block_bytes: int, *, limit: int, name: str, timed: bool = False) -> None:
        """Store what is given. With `timed`, each lease tells when the GPU came to it: see `Lease.begun`."""
        self.name = name
        self.block_bytes = block_bytes
        self.made = 0
        """Blocks that exist."""
        self._gpu = gpu
        self._kind: Kind = kind
        self._limit = limit
        self._timed = timed
        self._free: list[Block] = []
        self._returned = threading.Condition(threading.RLock())
        self._closed = False

    def lend(self, stream: cupy.cuda.Stream | None = None) -> Lease:
        """Lend a block. Work that is put on `stream` from now on comes after all that its last borrowers did with it.

        Without a stream (host code will touch it) the caller waits for that.

        Raises:
            DeviceError: no block came back for `PATIENCE_S`, or the pool was closed.
            DeviceMemoryError: no memory for another block, and none came back soon.
        """
        block = self._take()
        # As a rule they are done: to ask is cheap, to wait is one more order for the GPU. The others stay noted: who
        # gives the block back unused did not wait for them on behalf of the next borrower, who may have another stream.
        block.uses = [event for event in block.uses if not event.done]
        for event in block.uses:
            if stream is None:
                event.synchronize()
                self._gpu.counts.add(host_waits=1)
            else:
                stream.wait_event(event)
        begun = self._gpu.clock.mark(stream) if self._timed and stream is not None else None
        return Lease(block, self._give_back, begun)

    def free_idle(self) -> None:
        """Free what is not lent out."""
        with self._returned:
            idle, self._free = self._free, []
            self.made -= len(idle)
        for block in idle:
            self._free_block(block)

    def close(self) -> None:
        """Free what is not lent out, and the rest as it comes back. Safe to call twice."""
        with self._returned:
            self._closed = True
            self._returned.notify_all()
        self.free_idle()

    def _take(self) -> Block:
        try:
            return self._free_or_new()
        except DeviceMemoryError:
            if self._kind == "device":
                self._gpu.pictures.free_idle()  # not under the lock of this pool: it takes those of others
        try:
            return self._free_or_new()
        except DeviceMemoryError:
            if not self.made:
                raise
            with suppress(DeviceError), self._returned:
                return self._awaited(_PATIENCE_WHEN_FULL_S)
            raise

    def _free_or_new(self) -> Block:
        with self._returned:
            if self._closed:
                raise PoolClosedError(f"memory pool {self.name} was closed")
            if self._free:
                return self._free.pop()
            if self.made >= self._limit:
                return self._awaited(PATIENCE_S)
            return self._grown()  # under the lock: the next who finds nothing finds what this one makes beside its own

    def _grown(self) -> Block:
        """Make a block, and spare ones beside it as far as there is memory."""
        block = self._new()
        with suppress(DeviceMemoryError):  # nobody needs these yet
            for _ in range(min(self.made // _SPARE_OF, self._limit - self.made)):
                self._free.append(self._new())
        return block

    def _new(self) -> Block:
        block = allocate(self._gpu, self._kind, self.block_bytes, self.name)
        self.made += 1
        self._count(1)
        return block

    def _awaited(self, patience_s: float) -> Block:
        until_s = time.monotonic() + patience_s
        while not self._free:
            left_s = until_s - time.monotonic()
            if self._closed:
                raise PoolClosedError(f"memory pool {self.name} was closed")
            if left_s <= 0:
                raise DeviceError(
                    f"memory pool {self.name} ({self._limit} blocks) got nothing back for {patience_s:g} s"
                )
            self._returned.wait(min(left_s, _LOOK_S))
        return self._free.pop()

    def _give_back(self, block: Block) -> None:
        with self._returned:
            if not self._closed:
                self._free.append(block)
                self._returned.notify()
                return
            self.made -= 1
        self._free_block(block)

    def _free_block(self, block: Block) -> None:
        block.free()
        self._count(-1)

    def _count(self, blocks: int) -> None:
        size = blocks * self.block_bytes
        made = max(0, blocks)
        if self._kind == "device":
            self._gpu.counts.add_later(device_allocations=made, device_bytes=size)
        else:
            self._gpu.counts.add_later(pinned_allocations=made, pinned_bytes=size)


class Lease:
    """A block on loan. It goes back with `release`, or when nobody holds the lease any more."""

    __slots__ = ("_block", "_give_back", "address", "begun")

    def __init__(self, block: Block, give_back: Callable[[Block], None], begun: cupy.cuda.Event | None = None) -> None:
        self.address = block.address
        """Device pointer, or host pointer of pinned memory."""
        self.begun = begun
        """From pools that are timed: reached when the work of the borrower began. A mark of the GPU's clock."""
        self._block: Block | None = block
        self._give_back = give_back
        _LENT.add(block)

    def used_on(self, stream: cupy.cuda.Stream) -> None:
        """Promise that work already put on `stream` is the last of that stream to touch the block in this loan.

        The next borrower comes after it, without anybody waiting. To be called after the work was enqueued.
        """
        self.used_until(recorded(stream))

    def used_until(self, event: cupy.cuda.Event) -> None:
        """Like `used_on`, with an event that was recorded for several leases at once. Noted once, whoever says it."""
        if self._block is not None and event not in self._block.uses:
            self._block.uses.append(event)

    def release(self) -> None:
        """Give the block back; nobody may use it any more but work announced by `used_on`. Safe to call twice."""
        block, self._block = self._block, None
        if block is not None:
            _LENT.discard(block)
            self._give_back(block)

    def __del__(self) -> None:
        self.release()


@contextmanager
def lent(pool: Pool, stream: cupy.cuda.Stream) -> Iterator[Lease]:
    """Lend a block for a `with` block. Unfinished work on it at the end is on `stream`, as is its next borrower's."""
    lease = pool.lend(stream)
    try:
        yield lease
    finally:
        lease.release()


def recorded(stream: cupy.cuda.Stream, *, timed: bool = False) -> cupy.cuda.Event:
    """Mark the present end of `stream`. Threads that wait for the event sleep instead of spinning."""
    import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

    event = cupy.cuda.Event(block=True, disable_timing=not timed)
    event.record(stream)
    return event


def wait_for(gpu: Gpu, event: cupy.cuda.Event) -> None:
    """Let the calling thread sleep until the GPU has come to `event`. The GIL is free meanwhile."""
    event.synchronize()
    gpu.counts.add(host_waits=1)


def elapsed_s(begun: cupy.cuda.Event, done: cupy.cuda.Event) -> float:
    """Return how long the GPU took from one timed event to another; it has come to both."""
    import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

    return float(cupy.cuda.get_elapsed_time(begun, done)) / 1000


def host_view(lease: Lease, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """View a pinned block as an array. It holds no reference: keep the lease as long as the array."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = (ctypes.c_uint8 * count).from_address(lease.address)
    view: npt.NDArray[Any] = np.ctypeslib.as_array(raw).view(dtype).reshape(shape)
    return view
