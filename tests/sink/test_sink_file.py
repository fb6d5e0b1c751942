from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import av
import pytest
import structlog.testing
from plugins.encoded import TICKS, decoded_count, encoded, every, feed, frames_at, times_in, with_b_frames, write_all

from vrseg.encode.settings import EncodeSettings
from vrseg.errors import ConfigError, MediaError
from vrseg.sink.file import FileSink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vrseg.frame import EncodedPacket

EXACT = [("h264", ".mp4"), ("h264", ".mov"), ("hevc", ".mp4"), ("hevc", ".mov"), ("av1", ".mp4")]
MILLISECONDS = [("h264", ".mkv"), ("hevc", ".mkv"), ("av1", ".mkv"), ("av1", ".webm")]
UNEVEN = [1000, 1512, 1513, 4000, 4512, 9000, 9001, 20000, 20512, 90000, 90512, 120000]


@pytest.fixture(scope="module", params=[0, 46087], ids=["from-zero", "from-three-seconds"])
def start(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def shown_at(packets: Sequence[EncodedPacket]) -> list[float]:
    return sorted(float(packet.pts * packet.format.time_base) for packet in packets)


def complaints_of_ffmpeg(path: Path) -> str:
    """Play a file from start to end in FFmpeg's own program."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr


@pytest.mark.parametrize(("codec", "ending"), EXACT)
def test_times_are_exact_in_mp4_and_mov(tmp_path: Path, codec: str, ending: str, start: int) -> None:
    packets = encoded(frames_at(every(40, start=start)), with_b_frames(codec))
    path = tmp_path / f"out{ending}"
    write_all(FileSink(path, codec=codec), packets)
    assert [float(seconds) for seconds in times_in(path)] == shown_at(packets)
    assert decoded_count(path) == 40
    assert complaints_of_ffmpeg(path) == ""
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("codec", "ending"), MILLISECONDS)
def test_times_are_exact_to_the_millisecond_in_matroska(tmp_path: Path, codec: str, ending: str, start: int) -> None:
    packets = encoded(frames_at(every(40, start=start)), with_b_frames(codec))
    path = tmp_path / f"out{ending}"
    write_all(FileSink(path, codec=codec), packets)
    assert [float(seconds) for seconds in times_in(path)] == pytest.approx(shown_at(packets), abs=0.00051)
    assert complaints_of_ffmpeg(path) == ""


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_intervals_are_kept_in_mpegts_which_may_start_later(tmp_path: Path, codec: str, start: int) -> None:
    packets = encoded(frames_at(every(40, start=start)), with_b_frames(codec))
    path = tmp_path / "out.ts"
    write_all(FileSink(path, codec=codec), packets)
    given, found = shown_at(packets), [float(seconds) for seconds in times_in(path)]
    assert -0.00002 < found[0] - given[0] < 0.2
    assert [seconds - found[0] for seconds in found] == pytest.approx([s - given[0] for s in given], abs=0.00002)
    assert complaints_of_ffmpeg(path) == ""


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_uneven_times_are_kept(tmp_path: Path, codec: str) -> None:
    packets = encoded(frames_at(UNEVEN), with_b_frames(codec))
    path = tmp_path / "out.mp4"
    write_all(FileSink(path, codec=codec), packets)
    assert [float(seconds) for seconds in times_in(path)] == shown_at(packets)


@pytest.mark.parametrize("rotation_deg", [90, 180, 270])
@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_rotation_is_kept(tmp_path: Path, ending: str, rotation_deg: int) -> None:
    path = tmp_path / f"out{ending}"
    write_all(FileSink(path, codec="h264"), encoded(frames_at(every(5), rotation_deg=rotation_deg)))
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        assert -picture.rotation % 360 == rotation_deg  # FFmpeg counts counter-clockwise


def test_the_rate_is_that_of_the_frames(tmp_path: Path) -> None:
    for ending in (".mp4", ".mkv"):
        path = tmp_path / f"out{ending}"
        write_all(FileSink(path, codec="h264"), encoded(frames_at(every(30)), with_b_frames("h264")))
        with av.open(str(path)) as container:
            assert container.streams.video[0].average_rate == 30


def test_hevc_in_mp4_has_the_tag_that_apple_plays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write_all(FileSink(path, codec="hevc"), encoded(frames_at(every(5)), EncodeSettings(codec="hevc")))
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.fixture(scope="module")
def input_with_everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with sound in German, English subtitles, a data track, chapters, a title."""
    folder = tmp_path_factory.mktemp("input")
    subtitles, chapters, path = folder / "s.srt", folder / "chapters.txt", folder / "input.mp4"
    subtitles.write_text("1\n00:00:00,500 --> 00:00:01,500\nhello\n")
    chapters.write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=one\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2000\ntitle=two\n"
    )
    sources = ["-f", "lavfi", "-i", "testsrc=size=160x120:rate=30:duration=2", "-f", "lavfi", "-i", "sine=duration=2"]
    tags = ["-metadata", "title=A day", "-metadata:s:a", "language=deu", "-metadata:s:s", "language=eng"]
    command = ["ffmpeg", "-nostdin", "-v", "error", *sources, "-i", str(subtitles), "-i", str(chapters)]
    command += ["-map", "0:v", "-map", "1:a", "-map", "2:s", "-map_metadata", "3", *tags, "-timecode", "00:00:01:00"]
    subprocess.run([*command, "-c:a", "aac", "-c:s", "mov_text", str(path)], check=True)
    return path


def sound_of(path: Path) -> tuple[bytes, list[float]]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
    return b"".join(bytes(packet) for packet in packets), [
        float((packet.pts or 0) * packet.time_base) for packet in packets
    ]


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_sound_chapters_and_metadata_of_the_input_are_carried_over(
    tmp_path: Path, input_with_everything: Path, ending: str
) -> None:
    packets = encoded(frames_at(every(60)), with_b_frames("h264"))
    path = tmp_path / f"out{ending}"
    write_all(FileSink(path, codec="h264", carry=input_with_everything), packets)
    given, found = sound_of(input_with_everything), sound_of(path)
    assert found[0] == given[0], "sound is the same to the byte"
    assert found[1] == pytest.approx(given[1], abs=0.001), "and in time with the pictures"
    assert [float(seconds) for seconds in times_in(path)] == pytest.approx(shown_at(packets), abs=0.0006)
    with av.open(str(path)) as container:
        assert container.metadata["title"] == "A day"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one", "two"]
        assert [float(one["start"] * one["time_base"]) for one in container.chapters() if one["time_base"]] == [0, 1]
        if ending != ".mov":  # QuickTime has its own language codes, of which FFmpeg writes none here
            assert container.streams.audio[0].language == "deu"
    assert complaints_of_ffmpeg(path) == ""


def test_subtitles_are_carried_over_where_the_container_holds_them(tmp_path: Path, input_with_everything: Path) -> None:
    packets = encoded(frames_at(every(60)))
    with structlog.testing.capture_logs() as logs:
        write_all(FileSink(tmp_path / "out.mp4", codec="h264", carry=input_with_everything), packets)
        write_all(FileSink(tmp_path / "out.mkv", codec="h264", carry=input_with_everything), packets)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.language for stream in container.streams.subtitles] == ["eng"]
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert len(container.streams.subtitles) == 0
    left_out = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert "subtitle stream 2 (mov_text) left out: matroska cannot hold it" in left_out


def test_the_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    packets = encoded(frames_at(every(20)))
    path = tmp_path / "out.mp4"
    sink = FileSink(path, codec="h264")
    sink.open()
    for packet in packets:
        sink.process(packet)
    assert not path.exists()
    sink.flush()
    assert decoded_count(path) == 20
    sink.close()
    assert path.exists()


def test_a_job_that_fails_leaves_nothing(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out.mp4", codec="h264")
    sink.open()
    sink.process(encoded(frames_at(every(2)))[0])
    sink.close()
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_fails_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"precious")
    sink = FileSink(path, codec="h264", replace=True)
    sink.open()
    sink.process(encoded(frames_at(every(2)))[0])
    sink.close()
    assert path.read_bytes() == b"precious"


def test_a_file_without_frames_is_an_error_and_no_file(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out.mp4", codec="h264")
    sink.open()
    with pytest.raises(MediaError, match="no frame came"):
        sink.flush()
    sink.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "codec", "message"),
    [
        ("out.avi", "h264", r"unknown ending '.avi'; use one of .mp4"),
        ("out", "h264", r"unknown ending '\(none\)'"),
        ("out.mov", "av1", r".mov files cannot hold av1; use one of .mp4"),
        ("nowhere/out.mp4", "h264", "no such file or folder"),
        ("there.mp4", "h264", "the file exists"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str, codec: str, message: str) -> None:
    (tmp_path / "there.mp4").touch()
    sink = FileSink(tmp_path / name, codec=codec)
    with pytest.raises(ConfigError, match=message) as caught:
        sink.open()
    assert "\n" not in str(caught.value)
    sink.close()


@pytest.fixture
def no_room() -> Iterator[None]:
    """Files of this process may grow to 20 kB; beyond, writing fails as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts"])
def test_a_disk_without_room_is_one_line_and_leaves_nothing(tmp_path: Path, ending: str) -> None:
    packets = encoded(frames_at(every(90), width=320, height=240), EncodeSettings(quality=1, gop_s=0.5))
    assert sum(len(packet.data) for packet in packets) > 40_000
    sink = FileSink(tmp_path / f"out{ending}", codec="h264")
    sink.open()
    with pytest.raises(MediaError, match=rf"out{ending}: ") as caught:
        feed(sink, packets)
    assert "\n" not in str(caught.value)
    sink.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/full").exists(), reason="needs to make links to /dev/full")
def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / ".out.part.mkv").symlink_to("/dev/full")
    sink = FileSink(tmp_path / "out.mkv", codec="h264")
    sink.open()
    with pytest.raises(MediaError, match="the disk is full: free some space"):
        feed(sink, encoded(frames_at(every(90))))
    sink.close()


WRITER = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from plugins.encoded import encoded, every, frames_at, with_b_frames
    from vrseg.sink.{module} import {sink}
    packets = encoded(frames_at(every(100)), with_b_frames({codec!r}))
    sink = {sink}(Path({path!r}), codec={codec!r})
    sink.open()
    for packet in packets[:95]:
        sink.process(packet)
    print("written", flush=True)
    input()
"""


def write_and_die(path: Path, codec: str, module: str, sink: str) -> None:
    """Have a process write 95 frames, a key frame each 30, and kill it."""
    tests = str(Path(__file__).resolve().parents[1])
    script = textwrap.dedent(WRITER).format(tests=tests, module=module, sink=sink, codec=codec, path=str(path))
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        writer.kill()


@pytest.mark.parametrize(
    ("codec", "ending"),
    [("h264", ".mp4"), ("hevc", ".mp4"), ("av1", ".mp4"), ("h264", ".mov"), ("h264", ".mkv"), ("h264", ".ts")],
)
def test_a_killed_process_leaves_a_recording_that_plays(tmp_path: Path, codec: str, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    write_and_die(path, codec, "recording", "RecordingSink")
    assert decoded_count(path) >= 90 - 4, "all but the last fragment"
    if ending in {".mp4", ".mov"}:
        assert complaints_of_ffmpeg(path) == ""
        expected = [index * TICKS / 15360 for index in range(30)]
        assert [float(seconds) for seconds in times_in(path)][:30] == expected


def test_a_killed_job_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write_and_die(path, "h264", "file", "FileSink")
    assert not path.exists()
    write_all(FileSink(path, codec="h264"), encoded(frames_at(every(20))))
    assert [found.name for found in tmp_path.iterdir()] == ["out.mp4"], "the next run replaces the part"


def test_many_formats_come_from_one_encoder(tmp_path: Path) -> None:
    packets = encoded(frames_at(every(30)), with_b_frames("h264"))
    sinks = [FileSink(tmp_path / f"out{ending}", codec="h264") for ending in (".mp4", ".mkv", ".ts")]
    for sink in sinks:
        sink.open()
    for packet in packets:
        for sink in sinks:
            sink.process(packet)
    for sink in sinks:
        sink.flush()
        sink.close()
    assert [decoded_count(path) for path in sorted(tmp_path.iterdir())] == [30, 30, 30]


def test_opening_a_file_takes_little_time(tmp_path: Path) -> None:
    packets = encoded(frames_at(every(2), width=1920, height=1080))
    sink = FileSink(tmp_path / "out.mp4", codec="h264")
    sink.open()
    began_s = time.process_time()
    sink.process(replace(packets[0]))
    assert time.process_time() - began_s < 0.25
    sink.close()


def test_damaged_sound_of_the_input_does_not_end_the_job(tmp_path: Path, input_with_everything: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(input_with_everything.read_bytes())
    tables = data.rindex(b"stts")  # how long each packet of a track lasts
    data[tables + 12 : tables + 20] = b"\x00\x00\x00\x05\xff\xff\xff\xf0"
    damaged.write_bytes(data)
    path = tmp_path / "out.mp4"
    write_all(FileSink(path, codec="h264", carry=damaged), encoded(frames_at(every(60))))
    assert decoded_count(path) == 60
