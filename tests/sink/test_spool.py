from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from vrseg.sink.spool import Spool
from vrseg.sink.spooled import SpooledLetters

if TYPE_CHECKING:
    from pathlib import Path


def opened(path: Path | None, limit_bytes: int = 10_000) -> Spool:
    spool = Spool(path, limit_bytes)
    spool.open()
    return spool


def bodies_of(spool: Spool, count: int = 1000) -> list[bytes]:
    return [letter.body for letter in spool.oldest(count)]


def letters_of(path: Path | None, counts: Counter[str], limit_bytes: int = 100_000) -> SpooledLetters:
    return SpooledLetters("door", path, limit_bytes, counts, structlog.stdlib.get_logger())


def test_letters_come_out_in_the_order_in_which_they_were_put_in(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool" / "door.sqlite")
    spool.add([b"1", b"2"])
    spool.add([b"3"])
    assert bodies_of(spool, 2) == [b"1", b"2"]
    first, *_ = spool.oldest(3)
    assert [letter.body for letter in spool.oldest(3, after=first.number)] == [b"2", b"3"]
    spool.remove_to(spool.oldest(2)[-1].number)
    assert bodies_of(spool) == [b"3"]
    assert len(spool) == 1
    spool.close()
    spool.close()


def test_only_its_owner_reads_a_spool(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    spool = opened(folder / "door.sqlite")
    spool.add([b"1"])
    assert {path.name: path.stat().st_mode & 0o077 for path in folder.iterdir()} == {
        path.name: 0 for path in folder.iterdir()
    }
    spool.close()


def test_letters_are_there_after_a_restart_and_only_for_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "door.sqlite"
    spool = opened(path)
    spool.add([b"1", b"2"])
    spool.topics = frozenset({"a/b"})
    spool.close()
    spool = opened(path)
    assert bodies_of(spool) == [b"1", b"2"]
    assert spool.topics == {"a/b"}
    assert path.parent.stat().st_mode & 0o077 == 0
    spool.close()


def test_beyond_the_limit_the_oldest_are_dropped_and_counted_even_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "door.sqlite"
    spool = opened(path, limit_bytes=1000)
    dropped = sum(spool.add([b"%03d" % number + b"x" * 97]) for number in range(20))
    assert [body[:3] for body in bodies_of(spool)] == [b"%03d" % number for number in range(dropped, 20)]
    assert spool.dropped == dropped == 20 - 1000 // 148
    spool.close()
    spool = opened(path, limit_bytes=1000)
    assert spool.dropped == dropped
    spool.told_of_dropped(dropped)
    assert spool.dropped == 0
    spool.close()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.lists(st.binary(max_size=60), max_size=5), st.integers(0, 4)), max_size=20),
    st.integers(0, 1500),
)
def test_a_spool_is_a_bounded_queue(actions: list[list[bytes] | int], limit_bytes: int) -> None:
    spool = opened(None, limit_bytes)
    expected: list[bytes] = []
    dropped = 0
    for action in actions:
        if isinstance(action, int):
            spool.remove_to(max((letter.number for letter in spool.oldest(action)), default=0))
            del expected[:action]
        else:
            spool.add(action)
            expected += action
            while sum(len(body) + 48 for body in expected) > limit_bytes:
                del expected[0]
                dropped += 1
        assert bodies_of(spool) == expected
        assert (len(spool), spool.dropped) == (len(expected), dropped)
    spool.close()


def test_the_file_does_not_grow_beyond_what_it_may_hold(tmp_path: Path) -> None:
    spool = opened(tmp_path / "door.sqlite", limit_bytes=500_000)
    for _ in range(300):
        spool.add([b"x" * 300] * 50)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 6_000_000  # the log of changes is 4 MB of that
    spool.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1_000_000


_WRITER = """
import sys
from pathlib import Path
from vrseg.sink.spool import Spool
spool = Spool(Path(sys.argv[1]), 10_000_000)
spool.open()
for number in range(1_000_000):
    spool.add([b"%d" % number])
    print(number, flush=True)
"""


def test_a_spool_that_is_forgotten_leaves_a_file_only_for_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "door.sqlite"
    for fill, left in ((False, []), (True, [path])):
        spool = opened(path)
        spool.add([b"1"])
        if not fill:
            spool.remove_to(spool.last)
        spool.close(forget=True)
        assert list(tmp_path.iterdir()) == left
    spool = opened(path)
    assert bodies_of(spool) == [b"1"]
    spool.remove_to(spool.last)
    spool.topics = frozenset({"a"})
    spool.close(forget=True)
    assert path.exists(), "what is left with a broker is to be taken away one day"


def test_a_spool_that_is_forgotten_while_another_waits_for_it_takes_nothing_from_that_one(tmp_path: Path) -> None:
    path = tmp_path / "door.sqlite"
    former, later = opened(path), Spool(path, 10_000)

    def begin() -> None:
        later.open()
        later.add([b"1"])
        later.close()

    beginning = threading.Thread(target=begin)
    beginning.start()
    time.sleep(0.3)
    former.close(forget=True)
    beginning.join(10)
    spool = opened(path)
    assert bodies_of(spool) == [b"1"]
    spool.close()


def test_letters_that_stay_behind_are_told(tmp_path: Path) -> None:
    path = tmp_path / "door.sqlite"
    letters = letters_of(path, Counter())
    letters.open()
    letters.add([{"kind": "enter"}])
    with capture_logs() as logs:
        letters.close(forget=True)
        letters.close()
    assert [(one["event"], one["count"], one["path"]) for one in logs] == [("events stay in the spool", 1, str(path))]


def test_what_was_taken_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "door.sqlite"
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(200):
            taken = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        taken = max([taken, *map(int, writer.stdout.read().split("\n")[:-1])])
    spool = opened(path)
    found = [int(body) for body in bodies_of(spool, 1_000_000)]
    assert found[: taken + 1] == list(range(taken + 1))
    assert found == list(range(len(found)))
    spool.close()


def test_a_file_that_is_no_spool_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "door.sqlite"
    path.write_text("this is not a database, but it is long enough to be looked at" * 20)
    with pytest.raises(Exception, match="not a database"):
        opened(path)


def test_a_file_system_whose_numbers_change_is_refused_and_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()
    monkeypatch.setattr("vrseg.sink.spool._inode_of", lambda _path: next(numbers))
    with pytest.raises(sqlite3.OperationalError, match="changes while it is opened"):
        opened(tmp_path / "door.sqlite")


def test_a_disk_that_fails_loses_no_delivery_its_life_and_is_told_once(tmp_path: Path) -> None:
    letters = letters_of(tmp_path / "door.sqlite", Counter())
    letters.open()
    letters.add([{"kind": "enter"}])
    damage = letters._spool._opened()
    damage.execute("ALTER TABLE letters RENAME TO gone")
    damage.execute("ALTER TABLE topics RENAME TO gone_too")
    with capture_logs() as logs:
        assert letters.oldest(10) == []
        assert letters.topics == frozenset()
        letters.topics = frozenset({"a"})
    assert [entry["event"] for entry in logs] == ["the spool fails"]
    damage.execute("ALTER TABLE gone RENAME TO letters")
    damage.execute("ALTER TABLE gone_too RENAME TO topics")
    assert len(letters.oldest(10)) == 1
    letters.close()


def test_a_delivery_writes_no_note_of_drops_that_there_were_none_of(tmp_path: Path) -> None:
    letters = letters_of(tmp_path / "door.sqlite", Counter())
    letters.open()
    letters.add([{"kind": "enter"}])
    letters._spool._opened().execute(
        "CREATE TRIGGER no_note BEFORE INSERT ON notes BEGIN SELECT RAISE(ABORT, 'written'); END"
    )
    with capture_logs() as logs:
        letters.done(letters.oldest(10), "delivered")
    assert not logs
    letters.close()


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_delivery_that_begins_again_delivers_each_letter_once(tmp_path: Path, *, on_disk: bool) -> None:
    counts: Counter[str] = Counter()
    letters = letters_of(tmp_path / "door.sqlite" if on_disk else None, counts)
    letters.open()
    for number in range(3):
        letters.add([{"kind": "enter", "number": number}])
    letters.done(letters.oldest(2), "delivered")
    letters.close()
    letters.open()
    letters.add([{"kind": "enter", "number": 3}])
    found = [json.loads(one.body)["number"] for one in letters.oldest(10)]
    assert found == ([2, 3] if on_disk else [3])
    del counts["delivered"]
    assert counts == ({} if on_disk else {"disk": 1}), "what was in memory only is counted"
    letters.close()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.integers(1, 30), st.sampled_from(["ask", "take"])), max_size=30),
    st.integers(0, 1500),
)
def test_each_letter_is_delivered_or_told_of_as_dropped_never_both(actions: list[int | str], limit_bytes: int) -> None:
    counts: Counter[str] = Counter()
    letters = letters_of(None, counts, limit_bytes)
    letters.open()
    added, on_their_way, came = 0, [], []
    for action in [*actions, "take", "ask", "take", "ask", "take"]:
        if isinstance(action, int):
            letters.add([{"kind": "enter", "number": number} for number in range(added, added + action)])
            added += action
        elif action == "ask":
            on_their_way = letters.oldest(40)
        else:
            letters.done(on_their_way, "delivered")
            came += [json.loads(one.body) for one in on_their_way]
            on_their_way = []
    told = known = 0
    last = -1
    for one in came:
        if one["kind"] == "dropped":
            told += one["count"]
        else:
            assert last < one["number"] <= known + told, "in order, and no gap before somebody is told of it"
            last, known = one["number"], known + 1
    assert known + told == added
    assert counts["spool_full"] == told
    assert counts["delivered"] == known, "who is told of gaps is not another event"
    assert len(letters) == 0
    letters.close()
