"""A process that comes to the end of what the system grants it."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def files_no_larger_than(size_bytes: int) -> Iterator[None]:
    """A limit that the system holds to without any privilege."""
    with _soft_limit(resource.RLIMIT_FSIZE, size_bytes):
        yield


@contextmanager
def no_more_files() -> Iterator[None]:
    """Nothing more can be opened: neither file nor pipe."""
    lowest_free = os.dup(0)
    os.close(lowest_free)
    with _soft_limit(resource.RLIMIT_NOFILE, lowest_free):
        yield


@contextmanager
def _soft_limit(kind: int, most: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)
