"""How long to wait before the next try, and the wait itself."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits that double from `initial_s` to `max_s`, each varied by up to `jitter` of itself."""

    initial_s: float = 0.5
    max_s: float = 30.0
    jitter: float = 0.2
    attempts: int = 0
    """Tries in a row; 0 is for ever."""

    def delays_s(self) -> Iterator[float]:
        """Waits before each further try, as many as `attempts` allows."""
        for attempt in itertools.count() if self.attempts == 0 else range(self.attempts):
            delay_s = min(self.initial_s * 2.0 ** min(attempt, 60), self.max_s)
            yield delay_s * (1 + random.uniform(-self.jitter, self.jitter))  # noqa: S311 -- spreads load, guards nothing


async def wait_or_stop(stop: asyncio.Event, timeout_s: float | None) -> None:
    """Wait for `stop`, but no longer than `timeout_s`; None waits without end."""
    try:
        async with asyncio.timeout(timeout_s):
            await stop.wait()
    except TimeoutError:
        return
