"""Memory that is taken once and lent out again and again, ordered by events instead of waits."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from vrseg.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import cupy
    import numpy.typing as npt

    from vrseg.gpu.device import Gpu

Kind: TypeAlias = Literal["device", "pinned"]

PATIENCE_S = 30.0
"""A pool that gives nothing back for so long is stuck, not busy."""


class Pool:
    """Blocks of one size. Made on demand up to `limit`; who asks for more waits until one comes back.

    After the first few batches it never allocates. Safe to use from several threads.
    """

    def __init__(self, gpu: Gpu, kind: Kind, block_bytes: int, *, limit: int, name: str, timed: bool = False) -> None:
        """Store what is given. With `timed`, each lease tells when the GPU came to it: see `Lease.begun`."""
        self.name = name
        self.block_bytes = block_bytes
        self.made = 0
        """Blocks that exist: the high-water mark of blocks lent at once."""
        self._gpu = gpu
        self._kind: Kind = kind
        self._limit = limit
        self._timed = timed
        self._free: deque[Block] = deque()
        self._returned = threading.Condition()  # over an RLock: a collection within may give back a lease
        self._closed = False

    def lend(self, stream: cupy.cuda.Stream | None = None) -> Lease:
        """Lend a block. Work that is put on `stream` from now on comes after all that its last borrowers did with it.

        Without a stream (host code will touch it) the caller waits for that.

        Raises:
            DeviceError: no block came back for `PATIENCE_S`, or the pool was closed.
            cupy.cuda.memory.OutOfMemoryError: no memory for another block.
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

    def close(self) -> None:
        """Free what is not lent out, and the rest as it comes back. Safe to call twice."""
        with self._returned:
            self._closed = True
            for block in self._free:
                self._free_block(block)
            self._free.clear()
            self._returned.notify_all()

    def shrink(self, blocks: int) -> None:
        """Free so many blocks, or as many as lie about: who needed them is gone."""
        with self._returned:
            spare = [self._free.popleft() for _ in range(min(blocks, len(self._free)))]
            self.made -= len(spare)
        for block in spare:  # the others need not wait for it
            block.free()
            self._count(-1)

    def _take(self) -> Block:
        with self._returned:
            if not self._free and self.made < self._limit:
                block = Block(_allocate(self._kind, self.block_bytes))
                self.made += 1
                self._count(+1)
                return block
            found = self._returned.wait_for(lambda: self._free or self._closed, PATIENCE_S)
            if self._closed or not found:
                reason = "was closed" if self._closed else f"got nothing back for {PATIENCE_S:g} s"
                raise DeviceError(f"memory pool {self.name} ({self._limit} blocks) {reason}")
            return self._free.popleft()  # has lain there longest: as a rule nobody is still at work on it

    def _give_back(self, block: Block) -> None:
        with self._returned:
            if self._closed:
                self._free_block(block)
                return
            self._free.append(block)
            self._returned.notify()

    def _free_block(self, block: Block) -> None:
        block.free()
        self.made -= 1
        self._count(-1)

    def _count(self, blocks: int) -> None:
        size = blocks * self.block_bytes
        made = max(0, blocks)
        if self._kind == "device":
            self._gpu.counts.add(device_allocations=made, device_bytes=size)
        else:
            self._gpu.counts.add(pinned_allocations=made, pinned_bytes=size)


class Block:
    """One piece of memory, and who may still be at work on it."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory
        """`cupy.cuda.Memory` or `cupy.cuda.PinnedMemory`; frees itself when it is dropped."""
        self.address: int = memory.ptr
        self.uses: list[cupy.cuda.Event] = []

    def free(self) -> None:
        """Wait for them, then let go."""
        for event in self.uses:
            event.synchronize()
        self.uses.clear()
        self.memory = None


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

    def used_on(self, stream: cupy.cuda.Stream) -> None:
        """Promise that work already put on `stream` is the last of that stream to touch the block in this loan.

        The next borrower comes after it, without anybody waiting. To be called after the work was enqueued.
        """
        self.used_until(recorded(stream))

    def used_until(self, event: cupy.cuda.Event) -> None:
        """Like `used_on`, with an event that was recorded for several leases at once."""
        if self._block is not None:
            self._block.uses.append(event)

    def release(self) -> None:
        """Give the block back; nobody may use it any more but work announced by `used_on`. Safe to call twice."""
        block, self._block = self._block, None
        if block is not None:
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


def _allocate(kind: Kind, size_bytes: int) -> Any:
    import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

    # Straight from the driver: CuPy's own pools would keep what these pools have freed.
    return cupy.cuda.Memory(size_bytes) if kind == "device" else cupy.cuda.PinnedMemory(size_bytes)
