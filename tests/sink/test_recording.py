from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from plugins.encoded import TICKS, decoded_count, encoded, every, frames_at, times_in, write_all

from vrseg.config.schema import Output
from vrseg.encode.settings import EncodeSettings
from vrseg.errors import ConfigError
from vrseg.sink.factory import make_video_sink
from vrseg.sink.naming import create_free
from vrseg.sink.recording import RecordingSink, SegmentSink
from vrseg.stage import LastingOutput

if TYPE_CHECKING:
    from vrseg.frame import EncodedPacket

NOON = datetime(2024, 5, 6, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def packets() -> list[EncodedPacket]:
    """Four seconds with a key frame each second."""
    return encoded(frames_at(every(120)), EncodeSettings(gop_s=1.0, live=True))


def test_a_file_that_exists_is_never_replaced(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    for _ in range(3):
        write_all(RecordingSink(tmp_path / "door.mp4", codec="h264"), packets)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["door-1.mp4", "door-2.mp4", "door.mp4"]
    assert [decoded_count(path) for path in tmp_path.iterdir()] == [120, 120, 120]


def test_time_fields_are_filled_and_folders_made(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    write_all(RecordingSink(tmp_path / "%Y" / "%m" / "door-%d.mp4", codec="h264"), packets)
    today = datetime.now().astimezone()
    assert decoded_count(tmp_path / today.strftime("%Y/%m/door-%d.mp4")) == 120


def test_a_recording_is_under_its_name_while_it_is_written(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    sink = RecordingSink(tmp_path / "door.mp4", codec="h264")
    sink.open()
    assert list(tmp_path.iterdir()) == [], "no frame, no file"
    for packet in packets[:100]:
        sink.process(packet)
    assert decoded_count(tmp_path / "door.mp4") == 90, "all whole fragments are there already"
    sink.close()


def test_a_recording_that_is_cut_short_still_plays(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    sink = RecordingSink(tmp_path / "door.mp4", codec="h264")
    sink.open()
    for packet in packets[:100]:
        sink.process(packet)
    sink.close()
    sink.close()
    assert decoded_count(tmp_path / "door.mp4") == 100


def test_an_unwritable_folder_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sink = RecordingSink(tmp_path / "file" / "door.mp4", codec="h264")
    with pytest.raises(ConfigError, match="file: this is a file, where a folder is needed"):
        sink.open()
    sink.close()


@pytest.mark.skipif(not os.access("/proc/self", os.R_OK), reason="needs /proc")
def test_a_file_system_that_takes_no_files_is_refused_before_the_first_frame() -> None:
    sink = RecordingSink(Path("/proc/self/door.mp4"), codec="h264")
    with pytest.raises(ConfigError, match=r"^/proc/self: "):
        sink.open()


def test_a_disk_that_fails_while_it_is_tried_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(ConfigError, match=f"^{tmp_path}: Input/output error"):
        RecordingSink(tmp_path / "door.mp4", codec="h264").open()


def test_segments_begin_at_key_frames_and_lose_no_frame(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    sink = SegmentSink(tmp_path / "%H%M%S.mp4", codec="h264", segment_s=1.5)
    write_all(sink, packets)
    paths = sorted(tmp_path.iterdir(), key=lambda path: times_in(path)[0])
    assert [decoded_count(path) for path in paths] == [60, 60]
    times = [seconds for path in paths for seconds in times_in(path)]
    assert [float(seconds) for seconds in times] == [index * TICKS / 15360 for index in range(120)]


@pytest.mark.parametrize("ending", [".mkv", ".ts"])
def test_segments_of_other_containers_play_too(tmp_path: Path, packets: list[EncodedPacket], ending: str) -> None:
    write_all(SegmentSink(tmp_path / f"%H%M%S{ending}", codec="h264", segment_s=1.0), packets)
    assert sum(decoded_count(path) for path in tmp_path.iterdir()) == 120
    assert len(list(tmp_path.iterdir())) == 4


def test_without_retention_nothing_is_deleted(tmp_path: Path, packets: list[EncodedPacket]) -> None:
    ancient = tmp_path / "100000.mp4"
    ancient.touch()
    os.utime(ancient, (0, 0))
    write_all(SegmentSink(tmp_path / "%H%M%S.mp4", codec="h264", segment_s=60), packets)
    assert ancient.exists()


def test_two_processes_that_want_one_name_get_two(tmp_path: Path) -> None:
    pattern = str(tmp_path / "%H%M.mp4")
    assert [create_free(pattern, NOON).name for _ in range(3)] == ["1200.mp4", "1200-1.mp4", "1200-2.mp4"]


@pytest.mark.parametrize("pattern", ["door-%Q.mp4", "door-%"])
def test_a_time_field_that_is_not_known_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown time field %.*; use %Y %m %d"):
        RecordingSink(tmp_path / f"{pattern}.mp4", codec="h264").open()


class TestFactory:
    @pytest.mark.parametrize(
        ("uri", "kind"),
        [("a.mp4", "file"), ("a-%S.ts", "file"), ("live/index.m3u8", "hls"), ("rtsp://127.0.0.1/a", "rtsp")],
    )
    def test_each_address_gets_its_sink(self, tmp_path: Path, uri: str, kind: str) -> None:
        sink = make_video_sink(Output(uri=uri), tmp_path, name="3")
        assert isinstance(sink, LastingOutput)
        assert (sink.kind, sink.name, sink.state.state) == (kind, "3", "starting")

    @pytest.mark.parametrize(
        ("output", "message"),
        [
            (Output(uri="http://u:p@host/a"), r"http://\*\*\*@host/a: not an output"),
            (Output(uri="a.avi"), "unknown ending '.avi'"),
            (Output(uri="a.ts", codec="av1"), ".ts files cannot hold av1"),
            (Output(uri="a.mp4", segment="10s"), "segments need names that change"),
            (Output(uri="a-%S.mp4", keep="7d"), "keep deletes old segments: add segment"),
            (Output(uri="%H/index.m3u8"), "a playlist keeps its name"),
            (Output(uri="rtsp://host/a", segment="10s"), "segment is for files"),
            (Output(uri="srt://host:1", codec="av1"), "cannot hold av1"),
        ],
    )
    def test_what_cannot_work_is_refused_before_anything_starts(
        self, tmp_path: Path, output: Output, message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            make_video_sink(output, tmp_path)
