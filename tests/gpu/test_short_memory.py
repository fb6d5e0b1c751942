"""Device memory that runs out: it costs who asked, and what is under way on blocks that come back is not forgotten."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from plugins.coding import packets_of
from plugins.painted import device_result, surface_of
from plugins.to_draw import CLASSES, CROWD, frame_like, person
from plugins.toys import Ear, ToySink, toy_stream

from vrseg.decode.cuda import NvdecDecoder
from vrseg.errors import DeviceError, DeviceMemoryError, ExhaustedError
from vrseg.gpu import memory
from vrseg.gpu.block import allocate
from vrseg.gpu.device import open_gpu
from vrseg.gpu.guard import GuardedTogether
from vrseg.gpu.surface_pool import PictureMemory, SurfacePool
from vrseg.infer.cuda_session import is_short_of_memory
from vrseg.pipeline.ledger import Ledger
from vrseg.pipeline.stream import run_stream
from vrseg.render.cuda import Paint, PaintStyle
from vrseg.running import first_error
from vrseg.source.file import FileSource

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.clips import MakeClip

    from vrseg.config.schema import View
    from vrseg.gpu.block import Block, Kind
    from vrseg.gpu.device import Gpu


class Blocks:
    """Lets so many more blocks be made, and remembers those on which work was noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed = 1 << 30
        self.made: list[int] = []
        self.noted: set[int] = set()
        note = memory.Lease.used_until

        def scarce(gpu: Gpu, kind: Kind, size_bytes: int, name: str) -> Block:
            if not self.allowed:
                raise DeviceMemoryError(f"cuda:0: no {size_bytes / 1e6:.1f} MB of {kind} memory for {name}")
            self.allowed -= 1
            block = allocate(gpu, kind, size_bytes, name)
            self.made.append(block.address)
            return block

        def noting(lease: memory.Lease, event: Any) -> None:
            self.noted.add(lease.address)
            note(lease, event)

        monkeypatch.setattr(memory, "allocate", scarce)
        monkeypatch.setattr(memory.Lease, "used_until", noting)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Blocks:
    return Blocks(monkeypatch)


@pytest.mark.usefixtures("nvdec")
@pytest.mark.parametrize("at_end", [False, True])
def test_a_decoder_that_got_no_memory_for_the_next_picture(
    at_end: bool, make_clip: MakeClip, tmp_path: Path, gpu_on_cpu: Gpu, blocks: Blocks
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=20, b_frames=2, width=320, height=240))
    decoder = NvdecDecoder("test", gpu=gpu_on_cpu, live=False)
    decoder.open()
    held: list[Any] = []
    if at_end:
        decoder.process_together(packets, held)
    blocks.made.clear()
    blocks.noted.clear()
    blocks.allowed = 1 if at_end else 3
    with pytest.raises(DeviceMemoryError):
        held.extend(decoder.flush()) if at_end else decoder.process_together(packets, held)
    assert blocks.made
    assert blocks.noted >= set(blocks.made)
    decoder.close()


def test_drawing_that_got_no_memory_for_its_second_part(gpu_on_cpu: Gpu, blocks: Blocks) -> None:
    """Labels are drawn first, and need nothing; what is blurred needs more than its new picture."""
    views: dict[str, View] = {"labelled": "overlay", "blurred": "blur"}
    styles = {name: PaintStyle(view=view, opacity=0.5, classes=CLASSES) for name, view in views.items()}
    frames = [
        replace(frame_like(64, 48), stream=name, picture=surface_of(gpu_on_cpu, frame_like(64, 48).picture))
        for name in views
    ]
    found = [device_result(gpu_on_cpu, CROWD), device_result(gpu_on_cpu, person())]
    stream, paint = gpu_on_cpu.new_stream(), Paint(gpu_on_cpu, styles)
    paint.open(stream)
    before = gpu_on_cpu.counts.snapshot()
    blocks.made.clear()
    blocks.noted.clear()
    blocks.allowed = 5  # two new pictures, and three tables of what is drawn over them
    with pytest.raises(DeviceMemoryError):
        paint.enqueue(frames, found, stream)
    assert (gpu_on_cpu.counts.snapshot() - before).launches == 1
    assert blocks.noted >= {*blocks.made[:2], *(frame.picture.lease.address for frame in frames)}
    paint.close()


def test_a_pool_that_finds_no_memory_says_so_and_nothing_else_breaks(any_gpu: Gpu) -> None:
    any_gpu.use()
    stream = any_gpu.new_stream()
    pool = memory.Pool(any_gpu, "device", any_gpu.memory_bytes * 2, limit=1, name="test.pictures")
    with pytest.raises(DeviceMemoryError) as failure:
        pool.lend(stream)
    assert str(failure.value) == (
        f"cuda:0: no {any_gpu.memory_bytes * 2 / 1e6:.1f} MB of device memory for test.pictures: "
        "cudaErrorMemoryAllocation: out of memory; "
        "run fewer or smaller streams, or write a smaller batch.max_size"
    )
    assert is_short_of_memory(failure.value), "an engine that asked tries a smaller batch"
    memory.Pool(any_gpu, "device", 64, limit=1, name="test.small").lend(stream)


@pytest.mark.usefixtures("nvdec")
def test_a_stream_without_room_on_the_gpu_ends_with_words_for_it_and_all_its_frames_are_accounted_for(
    make_clip: MakeClip, tmp_path: Path, gpu_on_cpu: Gpu, blocks: Blocks
) -> None:
    """Not as if the device were broken: that would end the process, and with it all other streams."""
    path, ear = make_clip(tmp_path / "clip.mp4", frames=60, width=320, height=240), Ear()
    ledger = Ledger("a", 4, ear)
    stages: Any = toy_stream(
        "a",
        lambda: FileSource(str(path)),  # type: ignore[arg-type,return-value]
        ToySink(),
        make_decoder=lambda first: GuardedTogether(  # type: ignore[arg-type,return-value]
            NvdecDecoder("a", gpu=gpu_on_cpu, live=False, first_index=first), "decode"
        ),
    )
    blocks.allowed = 2
    with pytest.raises(ExceptionGroup) as failure:
        asyncio.run(run_stream(stages, None, ledger, ear, asyncio.Event()))
    assert failure.group_contains(DeviceMemoryError)
    assert not failure.group_contains(DeviceError)
    said = first_error(failure.value)
    assert isinstance(said, ExhaustedError), "a live stream is tried again"
    assert str(said).startswith("cuda:0: no 0.1 MB of device memory for pictures of 115200 bytes")
    assert ledger.unaccounted == ledger.held == 0


def test_no_room_for_spare_blocks_is_no_error(gpu_on_cpu: Gpu, blocks: Blocks) -> None:
    pool = memory.Pool(gpu_on_cpu, "device", 64, limit=32, name="test")
    blocks.allowed = 16
    leases = [pool.lend() for _ in range(16)]
    assert len({lease.address for lease in leases}) == 16
    with pytest.raises(DeviceMemoryError):
        pool.lend()


def test_pictures_that_nobody_needs_make_room_for_what_somebody_does(gpu_on_cpu: Gpu, blocks: Blocks) -> None:
    wide, small = SurfacePool(gpu_on_cpu), SurfacePool(gpu_on_cpu)
    stream = gpu_on_cpu.new_stream()
    held = [wide.lend(64, 64, "nv12", stream) for _ in range(4)]
    held.pop().release()
    blocks.allowed = 0

    def freed(self: PictureMemory) -> None:
        real(self)
        blocks.allowed = 1

    real = PictureMemory.free_idle
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PictureMemory, "free_idle", freed)
        lease = small.lend(32, 32, "nv12", stream)
    assert gpu_on_cpu.counts.snapshot().device_bytes == 3 * 64 * 64 * 3 // 2 + 32 * 32 * 3 // 2
    lease.release()


def test_where_the_device_is_full_a_block_that_comes_back_soon_will_do(gpu_on_cpu: Gpu, blocks: Blocks) -> None:
    pool = memory.Pool(gpu_on_cpu, "device", 64, limit=32, name="test")
    blocks.allowed = 2
    first, second = pool.lend(), pool.lend()
    later = threading.Timer(0.05, first.release)
    later.start()
    address = first.address
    assert pool.lend().address == address
    later.join()
    second.release()


@pytest.mark.gpu
def test_memory_is_freed_by_a_thread_whose_context_is_gone() -> None:
    """As a library's may be that makes a context of its own. Where the last reference goes is not for us to say."""
    gpu, driver = open_gpu(), ctypes.CDLL("libcuda.so.1")
    gpu.use()
    context = ctypes.c_void_p()
    made, gone, errors = threading.Event(), threading.Event(), []
    pool = memory.Pool(gpu, "device", 64, limit=1, name="test")
    lease = pool.lend(gpu.new_stream())
    lease.used_on(gpu.new_stream())
    pool.close()

    def free() -> None:
        errors.append(driver.cuCtxCreate_v2(ctypes.byref(context), 0, 0))
        made.set()
        gone.wait(10)
        lease.release()
        errors.append(0 if gpu.counts.snapshot().device_bytes == 0 else 1)

    thread = threading.Thread(target=free)
    thread.start()
    made.wait(10)
    assert driver.cuCtxDestroy_v2(context) == 0
    gone.set()
    thread.join()
    assert errors == [0, 0]
