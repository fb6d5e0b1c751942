from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.encoded import encoded, every, frames_at, write_all

from vrseg.config.schema import Output
from vrseg.encode.settings import EncodeSettings
from vrseg.sink.factory import make_video_sink
from vrseg.sink.recording import SegmentSink
from vrseg.sink.retention import SETTLING_S, Retention
from vrseg.sink.written import WrittenFiles
from vrseg.stage import LastingOutput

if TYPE_CHECKING:
    from pathlib import Path

DAY_S = 86_400.0
PATTERN = "%Y%m%d/cam-%H%M%S.mp4"


class Clocks:
    """A wall clock that can be set, and the time that really passes."""

    def __init__(self, wall_s: float = 1_800_000_000.0) -> None:
        self.wall_s = wall_s
        self.passed_s = 100.0

    def go_on(self, seconds: float) -> None:
        self.wall_s += seconds
        self.passed_s += seconds


def retention(
    folder: Path, clocks: Clocks, *, keep_s: float | None = DAY_S, keep_bytes: int | None = None, pattern: str = PATTERN
) -> Retention:
    made = Retention(
        WrittenFiles(folder / pattern),
        keep_s=keep_s,
        keep_bytes=keep_bytes,
        wall_clock=lambda: clocks.wall_s,
        clock=lambda: clocks.passed_s,
    )
    made.load()
    return made


def record(folder: Path, keeper: Retention, name: str, size: int = 10) -> Path:
    """Write a segment as a sink does."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    keeper.begin(path)
    path.write_bytes(bytes(size))
    keeper.complete(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.mp4"))


def test_what_it_wrote_is_deleted_when_it_is_old_and_nothing_else_ever_is(tmp_path: Path) -> None:
    clocks = Clocks()
    keeper = retention(tmp_path, clocks)
    record(tmp_path, keeper, "20240101/cam-100000.mp4")
    stranger = tmp_path / "20240101/cam-110000.mp4"
    stranger.touch()
    os.utime(stranger, (0, 0))
    clocks.go_on(DAY_S + 1)
    record(tmp_path, keeper, "20240101/cam-120000.mp4")
    keeper.apply(None)
    assert names(tmp_path) == ["cam-110000.mp4", "cam-120000.mp4"], "a name that we could have given proves nothing"


def test_a_later_run_knows_the_files_of_the_one_before(tmp_path: Path) -> None:
    clocks = Clocks()
    record(tmp_path, retention(tmp_path, clocks), "20240101/cam-100000.mp4")
    clocks.go_on(DAY_S + 1)
    keeper = retention(tmp_path, clocks)
    keeper.apply(None)
    assert names(tmp_path), "a clock may be wrong at the start"
    clocks.go_on(SETTLING_S)
    keeper.apply(None)
    assert not names(tmp_path)
    assert not list(WrittenFiles(tmp_path / PATTERN))


def test_the_file_that_a_killed_run_was_writing_is_known_too(tmp_path: Path) -> None:
    clocks = Clocks()
    path = tmp_path / "20240101/cam-100000.mp4"
    path.parent.mkdir()
    path.touch()
    retention(tmp_path, clocks).begin(path)
    path.write_bytes(b"as far as it came")
    keeper = retention(tmp_path, clocks, keep_s=None, keep_bytes=5)
    keeper.apply(None)
    assert not path.exists()


@pytest.mark.parametrize("how", ["other content", "other file of that name", "link"])
def test_a_file_that_somebody_changed_is_not_ours_any_more(tmp_path: Path, how: str) -> None:
    clocks = Clocks()
    keeper = retention(tmp_path, clocks)
    path = record(tmp_path, keeper, "20240101/cam-100000.mp4")
    if how == "other content":
        path.write_bytes(bytes(11))
    elif how == "other file of that name":
        path.unlink()
        path.write_bytes(bytes(10))
        os.utime(path, (5, 5))
    else:
        path.rename(tmp_path / "kept.mp4")
        path.symlink_to(tmp_path / "kept.mp4")
    clocks.go_on(DAY_S + 1)
    keeper.apply(None)
    assert path.exists()
    keeper.apply(None, at_once=True)
    assert path.exists()


def test_a_stranger_in_the_place_of_a_killed_run_s_file_is_left_alone(tmp_path: Path) -> None:
    clocks = Clocks()
    path = tmp_path / "20240101/cam-100000.mp4"
    path.parent.mkdir()
    path.touch()
    retention(tmp_path, clocks).begin(path)
    other = tmp_path / "other"
    other.write_bytes(bytes(50))
    other.replace(path)  # has an inode of its own, while the first still has one
    keeper = retention(tmp_path, clocks, keep_s=None, keep_bytes=5)
    keeper.apply(None)
    assert path.exists()


def test_the_oldest_go_when_all_together_are_too_large_the_one_at_work_included(tmp_path: Path) -> None:
    keeper = retention(tmp_path, Clocks(), keep_s=None, keep_bytes=40)
    for second in range(5):
        record(tmp_path, keeper, f"20240101/cam-10000{second}.mp4")
    current = tmp_path / "current"
    current.write_bytes(bytes(15))
    keeper.apply(current)
    assert names(tmp_path) == ["cam-100003.mp4", "cam-100004.mp4"]
    assert current.exists()


def test_each_pattern_has_its_own_files(tmp_path: Path) -> None:
    clocks = Clocks()
    first = retention(tmp_path, clocks, keep_s=None, keep_bytes=0)
    second = retention(tmp_path, clocks, keep_s=None, keep_bytes=100, pattern="%Y%m%d/cam-%H%M%S.mkv")
    path = record(tmp_path, second, "20240101/cam-100000.mkv")
    first.apply(None)
    assert path.exists()


@pytest.mark.parametrize("jump_s", [400 * DAY_S, -400 * DAY_S])
def test_no_file_grows_older_because_a_clock_is_set(tmp_path: Path, jump_s: float) -> None:
    clocks = Clocks()
    record(tmp_path, retention(tmp_path, clocks), "20240101/cam-100000.mp4")
    keeper = retention(tmp_path, clocks)
    clocks.go_on(3600)
    record(tmp_path, keeper, "20240101/cam-110000.mp4")
    keeper.apply(None)
    clocks.wall_s += jump_s
    clocks.go_on(3600)
    keeper.apply(None)
    assert len(names(tmp_path)) == 2
    clocks.go_on(DAY_S - 5400)
    keeper.apply(None)
    assert names(tmp_path) == ["cam-110000.mp4"], "each goes a day after it was written, whatever the clock says"
    again = retention(tmp_path, clocks)
    clocks.go_on(1801)
    again.apply(None)
    assert names(tmp_path) == []


@pytest.mark.parametrize("jump_s", [10 * DAY_S, -10 * DAY_S])
def test_what_is_old_goes_also_after_a_jump_that_the_index_has_no_room_for(tmp_path: Path, jump_s: float) -> None:
    clocks = Clocks()
    keeper = retention(tmp_path, clocks)
    record(tmp_path, keeper, "20240101/cam-100000.mp4")
    clocks.go_on(SETTLING_S)
    next(tmp_path.glob(".*.written")).with_suffix(".written.new").mkdir()
    clocks.wall_s += jump_s
    clocks.go_on(2 * DAY_S)
    keeper.delete_due()
    assert names(tmp_path) == []


@pytest.mark.parametrize("jump_s", [10 * DAY_S, -10 * DAY_S])
@pytest.mark.parametrize("reloaded", [True, False])
def test_no_file_grows_older_when_a_clock_is_set_while_the_index_cannot_be_written(
    tmp_path: Path, jump_s: float, *, reloaded: bool
) -> None:
    clocks = Clocks()
    keeper = retention(tmp_path, clocks)
    path = record(tmp_path, keeper, "20240101/cam-100000.mp4")
    clocks.go_on(SETTLING_S)
    in_the_way = next(tmp_path.glob(".*.written")).with_suffix(".written.new")
    in_the_way.mkdir()
    clocks.wall_s += jump_s
    for _ in range(3):
        with suppress(OSError):
            keeper.apply(None, at_once=True)
    in_the_way.rmdir()
    if reloaded:
        keeper.load()
    clocks.go_on(DAY_S / 2)
    keeper.apply(None, at_once=True)
    assert path.exists()
    clocks.go_on(DAY_S / 2)
    keeper.apply(None, at_once=True)
    assert not path.exists()


def test_recordings_of_a_clock_that_was_not_set_yet_survive_its_setting(tmp_path: Path) -> None:
    clocks = Clocks()
    record(tmp_path, retention(tmp_path, clocks), "20240101/cam-100000.mp4")
    booted = Clocks(wall_s=1000.0)  # 1970, as on a board without a battery
    keeper = retention(tmp_path, booted)
    record(tmp_path, keeper, "20240101/cam-000000.mp4")
    booted.go_on(20)
    booted.wall_s = clocks.wall_s + 3600
    keeper.apply(None)
    booted.go_on(SETTLING_S)
    keeper.apply(None)
    assert len(names(tmp_path)) == 2
    booted.go_on(DAY_S - 3600)
    keeper.apply(None)
    assert names(tmp_path) == ["cam-000000.mp4"]


@pytest.mark.parametrize(
    "tear", [b'\n{"name": "2024', b"\n\xff\xfe rubbish", b'\n{"name": "../../x.mp4", "inode": 1, "size": 0}']
)
def test_an_index_that_was_torn_is_read_as_far_as_it_is_whole(tmp_path: Path, tear: bytes) -> None:
    clocks = Clocks()
    record(tmp_path, retention(tmp_path, clocks), "20240101/cam-100000.mp4")
    index = WrittenFiles(tmp_path / PATTERN).path
    index.write_bytes(index.read_bytes() + tear)
    keeper = retention(tmp_path, clocks, keep_s=None, keep_bytes=5)
    record(tmp_path, keeper, "20240101/cam-110000.mp4", size=3)
    keeper.apply(None)
    assert names(tmp_path) == ["cam-110000.mp4"]
    assert len(list(loaded(tmp_path))) == 1


@given(
    lines=st.lists(
        st.one_of(
            st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")),
            st.dictionaries(
                st.sampled_from(["name", "inode", "size", "mtime_s", "ended_s", "gone"]),
                st.one_of(
                    st.none(), st.text(max_size=5), st.floats(), st.integers(), st.lists(st.integers(), max_size=2)
                ),
            ).map(lambda fields: json.dumps(fields).encode()),
        ),
        max_size=8,
    )
)
def test_whatever_an_index_holds_it_can_be_read_and_deletes_nothing_of_others(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("index")
    stranger = folder / "0"
    stranger.write_bytes(b"x")
    WrittenFiles(folder / PATTERN).path.write_bytes(b"\n".join(lines))
    keeper = retention(folder, Clocks(), keep_bytes=0)
    keeper.apply(None)
    assert stranger.exists()


def loaded(folder: Path) -> WrittenFiles:
    files = WrittenFiles(folder / PATTERN)
    files.load()
    return files


def test_an_index_stays_small(tmp_path: Path) -> None:
    keeper = retention(tmp_path, Clocks(), keep_s=None, keep_bytes=30)
    for number in range(1500):
        record(tmp_path, keeper, f"20240101/cam-{number:06}.mp4")
        keeper.apply(None, at_once=True)
    assert len(WrittenFiles(tmp_path / PATTERN).path.read_text().splitlines()) < 1100
    assert [file.name[-7:-4] for file in loaded(tmp_path)] == ["497", "498", "499"]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["record", "wait", "jump", "restart"]), st.floats(1, 40_000)), max_size=25)
)
def test_whatever_happens_to_the_clock_while_it_runs_no_file_goes_early(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, float]]
) -> None:
    folder = tmp_path_factory.mktemp("clock")
    clocks = Clocks()
    keeper = retention(folder, clocks)
    written_s: dict[Path, float] = {}
    for number, (what, amount) in enumerate(steps):
        if what == "record":
            written_s[record(folder, keeper, f"20240101/cam-{number:06}.mp4")] = clocks.passed_s
        elif what == "wait":
            clocks.go_on(amount)
        elif what == "jump":
            clocks.go_on(2 * SETTLING_S)
            clocks.wall_s += 1000 * (amount - 20_000)
        else:
            keeper.apply(None, at_once=True)  # so that it has seen its clock
            keeper = retention(folder, clocks)
        keeper.apply(None, at_once=True)
        for path, at_s in written_s.items():
            if clocks.passed_s - at_s < DAY_S:
                assert path.exists()
    clocks.go_on(DAY_S + 1)
    keeper.apply(None, at_once=True)
    assert names(folder) == []


def test_what_is_due_is_deleted_without_a_packet_and_the_file_at_work_stays(tmp_path: Path) -> None:
    clocks = Clocks()
    keeper = retention(tmp_path, clocks)
    record(tmp_path, keeper, "old.mp4")
    current = tmp_path / "current.mp4"
    current.touch()
    keeper.begin(current)
    clocks.go_on(DAY_S + 1)
    keeper.delete_due()
    assert names(tmp_path) == ["current.mp4"]


def test_a_folder_that_is_away_is_looked_at_another_time(tmp_path: Path) -> None:
    clocks = Clocks()
    keeper = retention(tmp_path / "share", clocks)
    (tmp_path / "share").mkdir()
    record(tmp_path / "share", keeper, "old.mp4")
    (tmp_path / "share").rename(tmp_path / "away")
    clocks.go_on(DAY_S + 1)
    keeper.delete_due()
    (tmp_path / "away").rename(tmp_path / "share")
    clocks.go_on(10)
    keeper.delete_due()
    assert names(tmp_path) == []


def test_a_recording_whose_camera_is_away_keeps_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrseg.sink.retention._LOOK_EVERY_S", 0.0)
    output = Output.model_validate({"uri": str(tmp_path / "%H%M%S.mp4"), "segment": "1s", "keep": "1s", "min_free": 0})
    sink = make_video_sink(output, tmp_path)
    assert isinstance(sink, LastingOutput)
    write_all(sink, encoded(frames_at(every(90)), EncodeSettings(gop_s=1.0, live=True)))
    assert names(tmp_path)
    time.sleep(1.1)
    sink.keep_house()
    assert names(tmp_path) == []


def test_segments_are_deleted_while_the_recording_goes_on(tmp_path: Path) -> None:
    packets = encoded(frames_at(every(300)), EncodeSettings(gop_s=1.0, live=True))
    files = WrittenFiles(tmp_path / "%H%M%S.mp4")
    keeper = Retention(files, keep_s=None, keep_bytes=60_000)
    write_all(SegmentSink(tmp_path / "%H%M%S.mp4", codec="h264", segment_s=1.0, retention=keeper), packets)
    kept = list(tmp_path.glob("*.mp4"))
    assert 1 < len(kept) < 10
    assert sum(path.stat().st_size for path in kept) < 100_000
    assert sorted(file.name for file in files) == sorted(path.name for path in kept)
