"""What the process asked of its GPU, counted where it is asked."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, fields
from queue import Empty, SimpleQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class CountsSnapshot:
    """Totals since the process began; subtract two to learn what happened in between."""

    launches: int = 0
    """Kernels of our own; an engine's are its own affair."""
    host_waits: int = 0
    """Times a thread waited for the GPU."""
    device_allocations: int = 0
    device_bytes: int = 0
    """Held now, in pools of our own."""
    pinned_allocations: int = 0
    pinned_bytes: int = 0
    """Held now."""
    to_device_bytes: int = 0
    """Copied over the bus; compressed packets, which the driver copies, are not in it."""
    to_host_bytes: int = 0

    def __sub__(self, before: CountsSnapshot) -> CountsSnapshot:
        return CountsSnapshot(
            **{one.name: getattr(self, one.name) - getattr(before, one.name) for one in fields(CountsSnapshot)}
        )


class Counts:
    """Counters that many threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = dict.fromkeys((one.name for one in fields(CountsSnapshot)), 0)
        self._later: SimpleQueue[dict[str, int]] = SimpleQueue()
        self._fallbacks: Counter[str] = Counter()

    def add(self, **amounts: int) -> None:
        """Add to the counters of these names, which are those of `CountsSnapshot`."""
        with self._lock:
            for name, amount in amounts.items():
                self._totals[name] += amount

    def add_later(self, **amounts: int) -> None:
        """As `add`, without its lock: a finaliser runs at any moment, also while its thread holds the lock."""
        self._later.put(amounts)

    def encoder_fell_back(self, reason: str) -> None:
        """An output is encoded in software, for want of the GPU's encoder."""
        with self._lock:
            self._fallbacks[reason] += 1

    def encoder_fallbacks(self) -> dict[str, int]:
        """Outputs that fell back so far, by reason."""
        with self._lock:
            return dict(self._fallbacks)

    def snapshot(self) -> CountsSnapshot:
        """Read all counters at one moment."""
        with self._lock:
            with suppress(Empty):
                while True:
                    for name, amount in self._later.get_nowait().items():
                        self._totals[name] += amount
            return CountsSnapshot(**self._totals)
