"""Few heaps for many threads."""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8  # of glibc's <malloc.h>
_ARENAS = 2


def keep_arenas_few() -> None:
    """Let glibc share two heaps among all threads of the process, instead of eight for each core.

    Threads come and go with every reconnect, and what they leave behind is scattered over the heaps that they used:
    resident memory grows for weeks, though nothing is lost. To be called before there are threads; does nothing where
    the C library is another.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, _ARENAS)
