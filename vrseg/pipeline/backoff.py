"""A wait that the wish to stop cuts short."""

from __future__ import annotations

import asyncio


async def wait_or_stop(stop: asyncio.Event, timeout_s: float | None) -> None:
    """Wait for `stop`, but no longer than `timeout_s`; None waits without end."""
    try:
        async with asyncio.timeout(timeout_s):
            await stop.wait()
    except TimeoutError:
        return
