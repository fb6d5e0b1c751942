"""What a receiver could not take yet, on disk: in order, bounded, and still there after a crash."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS letters (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS topics (topic TEXT PRIMARY KEY);
"""
# What SQLite adds to a letter: its number, its place in the page, and its share of pages that are not full.
_OVERHEAD_BYTES = 48
_ROWS_AT_ONCE = 100
_TRIES = 5
# A stream that was changed waits for the delivery of its former self, which has its time to end.
_LOCKED_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Something that waits to be delivered."""

    number: int
    """Grows; never used twice."""
    body: bytes = field(repr=False)


class Spool:
    """Letters in a SQLite file. They survive SIGKILL; a power cut may take those of the last moment.

    One thread, one process: the file is locked for as long as it is open.

    Args:
        path: the file, or None to keep everything in memory.
        limit_bytes: beyond it the oldest letters that are not on their way are dropped, and counted in `dropped`.

    Raises:
        OSError, sqlite3.Error: the file cannot be made, belongs to another process, or is no such file.
    """

    def __init__(self, path: Path | None, limit_bytes: int) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._count = 0
        self._dropped = 0
        self._base: sqlite3.Connection | None = None

    def open(self) -> None:
        """Make the file or continue with it."""
        if self._base is not None:
            return
        for _ in range(_TRIES):
            inode = self._make_file()
            try:
                base = self._begin()
            except sqlite3.OperationalError:
                if self._is_there(inode):
                    raise
                continue
            if self._is_there(inode):
                self._base = base
                return
            base.close()
        raise sqlite3.OperationalError(f"{self.path} changes while it is opened")

    def _is_there(self, inode: int | None) -> bool:
        """Tell whether the file that was opened still has its name: a former owner may have deleted it meanwhile."""
        return self.path is None or _inode_of(self.path) == inode

    def _make_file(self) -> int | None:
        """Return its inode."""
        if self.path is None:
            return None
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.touch(mode=0o600)  # before SQLite does: what the journal inherits
        return _inode_of(self.path)

    def _begin(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path or ":memory:", timeout=_LOCKED_S, isolation_level=None)
        try:
            base.execute("PRAGMA locking_mode = EXCLUSIVE")
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = NORMAL")
            base.execute("PRAGMA journal_size_limit = 1000000")
            base.executescript(_SCHEMA)
            self._count, self._bytes = base.execute(
                "SELECT count(*), coalesce(sum(length(body) + ?), 0) FROM letters", (_OVERHEAD_BYTES,)
            ).fetchone()
            noted = base.execute("SELECT value FROM notes WHERE name = 'dropped'").fetchone()
            self._dropped = noted[0] if noted else 0
        except BaseException:
            base.close()
            raise
        return base

    def close(self, *, forget: bool = False) -> None:
        """Let go of the file, or of what is in memory. Always safe. `forget`: delete it, unless something is in it."""
        if self._base is None:
            return
        with suppress(OSError, sqlite3.Error):  # what is in the log is as safe as what is in the file
            if forget and not self._count and not self.topics:
                self._delete(self._base)
        with suppress(sqlite3.Error):  # as above
            self._base.close()
        self._base = None
        self._count = 0

    def _delete(self, base: sqlite3.Connection) -> None:
        """Delete the file while it is still locked: who waits for it can see that it is another one."""
        if self.path is not None:
            base.execute("PRAGMA journal_mode = DELETE")  # else the end would delete the log of who makes it anew
            self.path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return self._count

    @property
    def dropped(self) -> int:
        """Letters that were dropped and that nobody was told of yet."""
        return self._dropped

    @property
    def last(self) -> int:
        """Number of the last letter that there ever was; 0 when there was none."""
        found = self._opened().execute("SELECT seq FROM sqlite_sequence WHERE name = 'letters'").fetchone()
        return found[0] if found else 0

    def add(self, bodies: Sequence[bytes], *, keep_to: int = 0) -> int:
        """Put letters at the end, dropping from the front what is too much; return how many were dropped.

        Letters up to number `keep_to` stay: they are on their way, and may arrive.
        """
        base = self._opened()
        with _transaction(base):
            base.executemany("INSERT INTO letters (body) VALUES (?)", [(body,) for body in bodies])
            count = self._count + len(bodies)
            size = self._bytes + sum(len(body) + _OVERHEAD_BYTES for body in bodies)
            dropped, freed = self._make_room(base, size - self._limit_bytes, keep_to)
            if dropped:
                _note(base, "dropped", self._dropped + dropped)
        self._count, self._bytes, self._dropped = count - dropped, size - freed, self._dropped + dropped
        return dropped

    def oldest(self, count: int, *, after: int = 0) -> list[Letter]:
        """Return the first letters, in order, of those with higher numbers than `after`; they stay."""
        rows = self._opened().execute("SELECT id, body FROM letters WHERE id > ? ORDER BY id LIMIT ?", (after, count))
        return [Letter(number=number, body=body) for number, body in rows]

    def remove_to(self, number: int) -> None:
        """Forget letters up to this one: they were delivered."""
        base = self._opened()
        with _transaction(base):
            count, size = base.execute(
                "SELECT count(*), coalesce(sum(length(body) + ?), 0) FROM letters WHERE id <= ?",
                (_OVERHEAD_BYTES, number),
            ).fetchone()
            base.execute("DELETE FROM letters WHERE id <= ?", (number,))
        self._count -= count
        self._bytes -= size

    def told_of_dropped(self, count: int) -> None:
        """Take note that somebody knows of so many dropped letters."""
        base = self._opened()
        with _transaction(base):
            _note(base, "dropped", self._dropped - count)
        self._dropped -= count

    @property
    def topics(self) -> frozenset[str]:
        """What was left with the broker, to be taken away when it is no longer true."""
        return frozenset(topic for (topic,) in self._opened().execute("SELECT topic FROM topics"))

    @topics.setter
    def topics(self, topics: frozenset[str]) -> None:
        base = self._opened()
        with _transaction(base):
            base.execute("DELETE FROM topics")
            base.executemany("INSERT INTO topics VALUES (?)", [(topic,) for topic in sorted(topics)])

    def _opened(self) -> sqlite3.Connection:
        assert self._base is not None  # noqa: S101 -- used between open and close
        return self._base

    def _make_room(self, base: sqlite3.Connection, excess: int, after: int) -> tuple[int, int]:
        """Delete the first ones with higher numbers than `after` until `excess` bytes are free, or none is left.

        Returns how many letters and bytes that were.
        """
        dropped = freed = 0
        while freed < excess:
            rows = base.execute(
                "SELECT id, length(body) + ? FROM letters WHERE id > ? ORDER BY id LIMIT ?",
                (_OVERHEAD_BYTES, after, _ROWS_AT_ONCE),
            ).fetchall()
            last = None
            for number, size in rows:
                if freed >= excess:
                    break
                last, dropped, freed = number, dropped + 1, freed + size
            if last is None:
                break
            base.execute("DELETE FROM letters WHERE id > ? AND id <= ?", (after, last))
        return dropped, freed


def _inode_of(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


@contextmanager
def _transaction(base: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, at once."""
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
        base.execute("COMMIT")
    except BaseException:
        if base.in_transaction:  # a full disk may have undone it already
            base.execute("ROLLBACK")
        raise


def _note(base: sqlite3.Connection, name: str, value: int) -> None:
    base.execute(
        "INSERT INTO notes VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
    )
