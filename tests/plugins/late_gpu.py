"""CuPy's streams, events and memory on a machine without a GPU, where work is done as late as order allows.

Nothing that was put on a stream happens before somebody waits for it. So a picture that is read too early, or memory
that is lent out too early, shows as wrong pixels. What is used of CuPy beyond this is missing, and fails.
"""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from dataclasses import replace
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.encoded import frames_at
from plugins.gpu_on_cpu import driver_on_cpu

from vrseg.gpu.device import Gpu
from vrseg.gpu.memory import Pool, recorded
from vrseg.gpu.surface import Surface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import av
    from plugins.gpu_on_cpu import Contexts

    from vrseg.frame import U8, Frame
    from vrseg.gpu.surface import Matrix

_RUBBISH = 0xAB  # memory is not clean when it comes


class Memory:
    """`cupy.cuda.Memory` and `cupy.cuda.PinnedMemory`."""

    def __init__(self, size: int) -> None:
        self._held = np.full(size, _RUBBISH, np.uint8)
        self.ptr: int = self._held.ctypes.data

    def __del__(self) -> None:
        for stream in list(Stream.by_address.values()):  # at one blow: another thread may make one
            stream.synchronize()  # as the driver does before it frees memory


class Stream:
    """`cupy.cuda.Stream`."""

    by_address: dict[int, Stream] = {}
    """All streams of the process, as the driver knows them."""
    addresses = count(0x1000, 16)

    def __init__(self, *, non_blocking: bool) -> None:
        assert non_blocking
        self.ptr = next(Stream.addresses)
        self.by_address[self.ptr] = self
        self.ended = 0
        self._work: deque[Callable[[], None]] = deque()

    def put(self, work: Callable[[], None]) -> None:
        self._work.append(work)

    @property
    def begun(self) -> int:
        return self.ended + len(self._work)

    def run(self, until: int) -> None:
        while self.ended < until:
            self._work.popleft()()
            self.ended += 1

    def wait_event(self, event: Event) -> None:
        self.put(event.reach)

    def synchronize(self) -> None:
        self.run(self.begun)


class Event:
    """`cupy.cuda.Event`."""

    def __init__(self, *, block: bool, disable_timing: bool) -> None:
        assert block
        assert disable_timing
        self._stream: Stream | None = None
        self._until = 0
        self._destroyed = False

    def __del__(self) -> None:
        self._destroyed = True

    def record(self, stream: Stream) -> None:
        self._stream, self._until = stream, stream.begun

    def reach(self) -> None:
        assert self._stream is not None, "an event that was never recorded keeps no order"
        self._stream.run(self._until)

    def synchronize(self) -> None:
        assert not self._destroyed
        self.reach()

    @property
    def done(self) -> bool:
        assert not self._destroyed
        assert self._stream is not None
        return self._stream.ended >= self._until


def _copy(target: int, source: int, size: int, kind: int, stream: int) -> None:
    if kind == 1:  # from memory that is not pinned, which the driver has read when the call returns
        held = ctypes.string_at(source, size)
        Stream.by_address[stream].put(lambda: void(ctypes.memmove(target, held, size)))
        return
    assert kind == 2
    Stream.by_address[stream].put(lambda: void(ctypes.memmove(target, source, size)))


def void(_: object) -> None:
    """Forget what a function returned."""


class CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`."""


@pytest.fixture
def late_gpu(monkeypatch: pytest.MonkeyPatch, contexts_on_cpu: Contexts) -> Gpu:
    """Put this in the place of CuPy for one test; return what `open_gpu` would."""
    monkeypatch.setattr(Stream, "by_address", {})
    runtime = SimpleNamespace(
        memcpyAsync=_copy,
        memcpyHostToDevice=1,
        memcpyDeviceToHost=2,
        memGetInfo=lambda: (8 << 30, 16 << 30),
        deviceGetPCIBusId=lambda index: f"0000:{0x18 + index:02X}:00.0",
        CUDARuntimeError=CUDARuntimeError,
    )
    cuda = SimpleNamespace(
        Device=lambda _: SimpleNamespace(use=lambda: None),
        Event=Event,
        Memory=Memory,
        PinnedMemory=Memory,
        Stream=Stream,
        driver=driver_on_cpu(contexts_on_cpu),
        runtime=runtime,
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    return Gpu(index=0, name="a late GPU", compute_capability=(9, 0), memory_bytes=16 << 30)


class Painter:
    """Makes surfaces as a decoder or a renderer does: they are complete when its stream has come to it.

    Late as everything here, or at once: what reads a surface too early shows with the one, what lends its memory out
    too early with the other.
    """

    def __init__(self, gpu: Gpu, *, at_once: bool = False) -> None:
        self._gpu = gpu
        self._at_once = at_once
        self._stream: Any = gpu.new_stream()
        self.pools: dict[int, Pool] = {}

    def surface(self, planes: U8, *, matrix: Matrix = "bt709", full_range: bool = False) -> Surface:
        """Make an NV12 picture of `planes`, (height * 3 / 2, width) uint8."""
        rows, width = planes.shape
        pool = self.pools.setdefault(planes.size, Pool(self._gpu, "device", planes.size, limit=4, name="surfaces"))
        lease = pool.lend(self._stream)
        address, held = lease.address, np.ascontiguousarray(planes)
        self._stream.put(lambda: void(ctypes.memmove(address, held.ctypes.data, held.size)))
        if self._at_once:
            self._stream.synchronize()
        return Surface(
            lease=lease,
            width=width,
            height=rows * 2 // 3,
            matrix=matrix,
            full_range=full_range,
            ready=recorded(self._stream),
        )

    def frames(self, times: Iterable[int], **about: Any) -> Iterator[Frame]:
        """Make frames as `plugins.encoded.frames_at` does, one after the other as they are asked for."""
        for frame in frames_at(times, **about):
            yield replace(frame, picture=self.surface(nv12_of(frame.picture)))


def nv12_of(picture: av.VideoFrame) -> U8:
    """Return both planes, (height * 3 / 2, width)."""
    planes = picture.reformat(format="nv12").planes
    return np.concatenate(
        [
            np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:, : picture.width]
            for plane in planes
        ]
    )
