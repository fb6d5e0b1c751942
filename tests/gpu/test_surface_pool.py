"""Memory for pictures: shared by all who have pictures of one size, and given to nobody too early."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from vrseg.gpu.memory import recorded
from vrseg.gpu.surface import Surface
from vrseg.gpu.surface_pool import SurfacePool

if TYPE_CHECKING:
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.memory import Lease

SIZE = 64 * 48 * 3 // 2


def lend(pool: SurfacePool, gpu: Gpu, count: int = 1, *, height: int = 48) -> list[Lease]:
    stream = gpu.new_stream()
    return [pool.lend(64, height, "nv12", stream) for _ in range(count)]


def made(gpu: Gpu) -> tuple[int, int]:
    """Return how many blocks were ever made, and the bytes that are held."""
    counts = gpu.counts.snapshot()
    return counts.device_allocations, counts.device_bytes


def give_back(leases: list[Lease]) -> None:
    for lease in leases:
        lease.release()


def test_what_one_stream_gave_back_another_is_lent(late_gpu: Gpu) -> None:
    pools = [SurfacePool(late_gpu) for _ in range(16)]
    for pool in pools:
        give_back(lend(pool, late_gpu, 8))
    assert made(late_gpu) == (9, 9 * SIZE), "of eight one more than is needed"
    held = [lend(pool, late_gpu, 2) for pool in pools]
    assert len({lease.address for leases in held for lease in leases}) == 32
    assert 32 <= made(late_gpu)[0] <= 32 * 9 / 8


def test_other_sizes_are_other_memory(late_gpu: Gpu) -> None:
    one, other = SurfacePool(late_gpu), SurfacePool(late_gpu)
    give_back(lend(one, late_gpu))
    give_back(lend(other, late_gpu, height=96))
    assert made(late_gpu) == (2, 3 * SIZE)
    other.lend(32, 48, "p016", late_gpu.new_stream()).release()  # as many bytes as the first has
    assert made(late_gpu) == (2, SIZE), "and what nobody uses any more is free"


def test_with_the_last_user_of_a_size_goes_its_memory(late_gpu: Gpu) -> None:
    pools = [SurfacePool(late_gpu) for _ in range(4)]
    held = [lend(pool, late_gpu, 3) for pool in pools]
    most, _ = made(late_gpu)
    assert most == 13
    for leases in held[1:]:
        give_back(leases)
    for pool in pools[1:]:
        pool.close()
        pool.close()
    assert made(late_gpu) == (most, most * SIZE), "the next stream may need it"
    pools[0].close()
    assert made(late_gpu) == (most, 3 * SIZE), "still lent"
    give_back(held[0])
    assert made(late_gpu) == (most, 0)
    give_back(lend(pools[1], late_gpu))
    assert made(late_gpu) == (most + 1, SIZE), "who was closed may begin anew"


def test_two_sizes_at_once_of_one_stream_lose_nothing(late_gpu: Gpu) -> None:
    """Lanes of a file whose size changes in the middle."""
    pool = SurfacePool(late_gpu)

    def work(height: int) -> None:
        for _ in range(200):
            give_back(lend(pool, late_gpu, 2, height=height))

    threads = [threading.Thread(target=work, args=(height,)) for height in (48, 96)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.close()
    assert made(late_gpu)[1] == 0


def test_a_picture_that_nobody_read_is_complete_before_its_memory_is_written_again(late_gpu: Gpu) -> None:
    """As when a camera's frame is dropped: the next in that memory may come from another decoder, on another stream."""
    pools = SurfacePool(late_gpu), SurfacePool(late_gpu)
    streams: list[Any] = [late_gpu.new_stream() for _ in pools]
    written: list[str] = []
    for name, pool, stream in zip(("first", "second"), pools, streams, strict=True):
        lease = pool.lend(64, 48, "nv12", stream)
        stream.put(lambda name=name: written.append(name))
        picture = Surface(lease=lease, width=64, height=48, matrix="bt709", full_range=False, ready=recorded(stream))
        del lease, picture
    assert made(late_gpu) == (1, SIZE)
    streams[1].synchronize()
    assert written == ["first", "second"]
