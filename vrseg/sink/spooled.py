"""From the mailbox into the spool, and out of it in order: what all deliveries to a network have in common."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from vrseg.backoff import Backoff
from vrseg.sink.spool import Letter, Spool

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    import structlog

    from vrseg.sink.outlet import Record

GRACE_S = 2.0
"""At the end, time for a receiver that is there to take what is left; what it does not take stays in the spool."""
PATIENCE = Backoff()
"""How often a receiver that is away is tried: for ever."""
_NOTICE = -1
"""Number of the letter that tells of dropped ones."""


class SpooledLetters:
    """Letters that wait for a receiver, and how the one who delivers learns of them. Lives on one event loop.

    Args:
        stream: which they are of.
        path: of the spool.
        limit_bytes: of the spool.
        counts: gets what became of records: `spool_full`, `disk`, which is also what was in memory for want of a disk,
            and what `done` is told.
        log: is told once of each thing that goes wrong.
    """

    def __init__(
        self,
        stream: str,
        path: Path | None,
        limit_bytes: int,
        counts: Counter[str],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._stream = stream
        self._counts = counts
        self._log = log
        self._limit_bytes = limit_bytes
        self._spool = Spool(path, limit_bytes)
        self._disk_failed = False
        self._delivered_to = 0
        """Number of the last letter that was delivered; it may still be in the spool."""
        self._handed_to = 0
        """Number of the last letter that was handed out; it may arrive, so it is not one to drop."""
        self._told = 0
        """Dropped letters that somebody was told of, which the spool does not know yet."""
        self.news = asyncio.Event()
        """Set when there may be something to do."""
        self.closing = asyncio.Event()
        """Set when nothing more will come."""

    def open(self) -> None:
        """Continue with what the last process left; without a usable file, keep letters in memory."""
        try:
            self._spool.open()
        except (OSError, sqlite3.Error) as error:
            self._log.warning("no spool on disk", detail=f"{error}; events wait in memory only")
            self._spool = Spool(None, self._limit_bytes)
            self._spool.open()
        self._delivered_to = min(self._delivered_to, self._spool.last)  # another file counts from the beginning
        self._handed_to = min(self._handed_to, self._spool.last)
        if len(self._spool):
            self.news.set()

    def close(self, *, forget: bool = False) -> None:
        """Let go of the spool, and say what stays in it. Always safe.

        What waits in memory only is lost, and counted. `forget`: delete the file, unless something is in it.
        """
        count = len(self._spool)
        self._spool.close(forget=forget)
        if count and self._spool.path is None:
            self._counts["disk"] += count
        elif count:
            self._log.warning(
                "events stay in the spool",
                count=count,
                path=str(self._spool.path),
                next="they are sent when stream and address are back; delete the file if they never will be",
            )

    def __len__(self) -> int:
        return len(self._spool)

    @property
    def topics(self) -> frozenset[str]:
        """See `Spool.topics`. On a disk that fails, none are known."""
        try:
            return self._spool.topics
        except sqlite3.Error as error:
            self._complain(error)
            return frozenset()

    @topics.setter
    def topics(self, topics: frozenset[str]) -> None:
        try:
            if topics != self._spool.topics:
                self._spool.topics = topics
        except sqlite3.Error as error:
            self._complain(error)

    def end(self) -> None:
        """Say that nothing more will come."""
        self.closing.set()
        self.news.set()

    def add(self, records: list[Record]) -> None:
        """Keep records until they are delivered."""
        if not records:
            return
        bodies = [json.dumps(one, separators=(",", ":")).encode() for one in records]
        try:
            dropped = self._spool.add(bodies, keep_to=self._handed_to)
        except sqlite3.Error as error:
            self._counts["disk"] += len(records)
            self._complain(error)
            return
        self._disk_failed = False
        if dropped:
            if not self._counts["spool_full"]:
                self._log.warning("events dropped", reason="spool_full")
            self._counts["spool_full"] += dropped
        self.news.set()

    def oldest(self, count: int) -> list[Letter]:
        """Return the letters to deliver next; where some were dropped, the first one says so.

        They are not dropped any more. On a disk that fails there are none: it is asked again with the next news.
        """
        told = [self._notice()] if self._spool.dropped > self._told else []
        try:
            letters = self._spool.oldest(count - len(told), after=self._delivered_to)
        except sqlite3.Error as error:
            self._complain(error)
            return []
        self._handed_to = max([self._handed_to, *(one.number for one in letters)])
        return told + letters

    def done(self, letters: list[Letter], outcome: Literal["delivered", "refused"]) -> None:
        """Forget letters: they are where they belong, or nobody wants them. A full disk is asked again later.

        What was waiting is counted as `outcome` after it no longer waits; who is told of dropped ones is not counted.
        """
        for one in letters:
            if one.number == _NOTICE:
                self._told += json.loads(one.body)["count"]
            else:
                self._delivered_to = one.number
        try:
            self._spool.remove_to(self._delivered_to)
            if self._told:
                self._spool.told_of_dropped(self._told)
                self._told = 0
        except sqlite3.Error as error:
            self._complain(error)
        self._counts[outcome] += sum(one.number != _NOTICE for one in letters)

    def _complain(self, error: sqlite3.Error) -> None:
        if not self._disk_failed:
            self._log.error("the spool fails", detail=str(error))
        self._disk_failed = True

    def _notice(self) -> Letter:
        record: Record = {
            "event_id": uuid4().hex,
            "stream": self._stream,
            "kind": "dropped",
            "time": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "count": self._spool.dropped - self._told,
        }
        return Letter(number=_NOTICE, body=json.dumps(record, separators=(",", ":")).encode())
