from __future__ import annotations

import subprocess
import sys

HEAPS_OF_MANY_THREADS = """
import ctypes, sys, threading
if "few" in sys.argv:
    from vrseg.arenas import keep_arenas_few
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


def heaps(*arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", HEAPS_OF_MANY_THREADS, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.count("<heap nr=")


def test_threads_share_two_heaps() -> None:
    assert heaps("few") <= 2 < heaps()
