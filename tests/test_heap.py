from __future__ import annotations

import subprocess
import sys

HEAPS_OF_MANY_THREADS = """
import ctypes, sys, threading
if "few" in sys.argv:
    from vrseg.heap import keep_arenas_few
    keep_arenas_few()
libc = ctypes.CDLL(None)
together = threading.Barrier(16)
def allocate():
    libc.malloc(100_000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w")))
libc.fflush(None)
"""

HOLES = """
import ctypes, psutil
from vrseg.heap import give_back
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def resident_mb():
    return psutil.Process().memory_info().rss / 2**20
before_mb = resident_mb()
blocks = [libc.malloc(8192) for _ in range(8192)]
for block in blocks:
    ctypes.memset(block, 1, 8192)
full_mb = resident_mb()
for number, block in enumerate(blocks):
    if number % 64 != 63:
        libc.free(block)
freed_mb = resident_mb()
give_back()
print(full_mb - before_mb, freed_mb - before_mb, resident_mb() - before_mb)
"""


def run(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def heaps(*arguments: str) -> int:
    return run(HEAPS_OF_MANY_THREADS, *arguments).count("<heap nr=")


def test_threads_share_two_heaps() -> None:
    assert heaps("few") <= 2 < heaps()


def test_holes_in_a_heap_are_given_back() -> None:
    full_mb, freed_mb, given_back_mb = map(float, run(HOLES).split())
    assert full_mb > 60
    assert freed_mb > 50, "glibc returns holes by itself: the module is not needed any more"
    assert given_back_mb < 10
