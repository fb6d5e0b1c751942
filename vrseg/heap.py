"""What glibc keeps of the memory that nobody uses any more."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Never

_M_ARENA_MAX = -8  # of glibc's <malloc.h>
_ARENAS = 2
GIVE_BACK_EVERY_S = 60.0


def keep_arenas_few() -> None:
    """Let glibc share two heaps among all threads of the process, instead of eight for each core.

    Threads come and go with every reconnect, and what they leave behind is scattered over the heaps that they used:
    resident memory grows for weeks, though nothing is lost. To be called before there are threads; does nothing where
    the C library is another.
    """
    libc = ctypes.CDLL(None)
    if sys.platform == "linux" and hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return every page to the system on which nothing is in use.

    By itself glibc returns only what lies at the end of a heap. Closed codecs leave holes of pages before that, and
    what they held at the worst moment stays resident.
    """
    libc = ctypes.CDLL(None)
    if sys.platform == "linux" and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(ctypes.c_size_t(0))


async def give_back_often(every_s: float = GIVE_BACK_EVERY_S) -> Never:
    """Do so until cancelled, beside the event loop: a heap of 100 MB takes some milliseconds."""
    while True:
        await asyncio.sleep(every_s)
        with suppress(RuntimeError):  # no room for a thread: another time
            threading.Thread(target=give_back, name="heap", daemon=True).start()
