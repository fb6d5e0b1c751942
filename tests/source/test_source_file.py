"""Files: what is read, how fast, how often; and what bad ones get."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
import pytest

from vrseg.errors import ConfigError, MediaError
from vrseg.source import file
from vrseg.source.container import packets_of
from vrseg.source.file import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av.container import InputContainer
    from av.video.stream import VideoStream
    from plugins.clips import MakeClip

    from vrseg.frame import Packet
    from vrseg.stage import Source


def times_s(source: Source) -> Iterator[float]:
    """Decoding times of all packets, while they come."""
    while batch := source.read():
        for packet in batch:
            payload = cast("av.Packet[Any]", packet.payload)
            assert payload.dts is not None
            yield float(payload.dts * payload.time_base)


def read_all(path: Path | str) -> int:
    source = FileSource(str(path))
    try:
        source.open()
        return len(list(times_s(source)))
    finally:
        source.close()


def refusal(path: Path | str) -> str:
    """The message that reading `path` ends with."""
    with pytest.raises((ConfigError, MediaError)) as caught:
        read_all(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path).removeprefix("file://") in message
    return message


def write_sound(path: Path, *, cover: bool = False) -> Path:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("mp3", rate=44100)
        picture = None
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        if picture is not None:
            container.mux(picture.encode(av.VideoFrame(64, 64, "yuvj420p")))
            container.mux(picture.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 44100), np.float32), format="fltp", layout="stereo")
        silence.sample_rate, silence.pts = 44100, 0
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    return path


def test_the_container_is_described(make_clip: MakeClip, tmp_path: Path) -> None:
    source = FileSource(str(make_clip(tmp_path / "clip.mp4", width=320, height=180, frames=50, fps=25, audio=True)))
    info = source.open()
    source.close()
    assert (info.codec, info.width, info.height) == ("h264", 320, 180)
    assert info.frame_rate == 25
    assert info.frame_count == 50
    assert info.duration_s == pytest.approx(2.0)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts", ".avi"])
def test_only_the_video_is_read_and_all_of_it(suffix: str, make_clip: MakeClip, tmp_path: Path) -> None:
    source = FileSource(str(make_clip(tmp_path / f"clip{suffix}", frames=40, audio=True)))
    source.open()
    assert len(list(times_s(source))) == 40
    assert source.read() == []
    source.close()


def test_odd_names_are_files_all_the_same(make_clip: MakeClip, tmp_path: Path) -> None:
    for name in ("a:b.mp4", "50%03d.mp4", "with space & ü.mp4", "star*[1].mp4"):
        plain = make_clip(tmp_path / "plain.mp4", frames=3)
        source = FileSource(f"file://{plain.rename(tmp_path / name)}")
        source.open()
        assert len(list(times_s(source))) == 3
        source.close()


def test_realtime_paces_a_file_by_its_timestamps(make_clip: MakeClip, tmp_path: Path) -> None:
    source = FileSource(str(make_clip(tmp_path / "clip.mp4", frames=20, fps=20)), realtime=True)
    assert source.live
    source.open()
    started_s = time.monotonic()
    lateness_s = [time.monotonic() - started_s - film_s for film_s in times_s(source)]
    source.close()
    assert 0.9 < time.monotonic() - started_s < 2.0
    assert min(lateness_s) >= min(lateness_s[0], 0) - 0.01
    assert lateness_s[-1] < lateness_s[0] + 0.5


def test_a_loop_goes_on_for_ever_and_time_never_runs_back(make_clip: MakeClip, tmp_path: Path) -> None:
    source = FileSource(str(make_clip(tmp_path / "clip.mp4", frames=10, fps=10, b_frames=2)), loop=True)
    source.open()
    seen_s = list(itertools.islice(times_s(source), 35))
    source.close()
    assert all(later > earlier for earlier, later in itertools.pairwise(seen_s))
    assert seen_s[30] - seen_s[0] == pytest.approx(3.0, abs=0.11)


def test_it_can_be_opened_again_after_closing(make_clip: MakeClip, tmp_path: Path) -> None:
    source = FileSource(str(make_clip(tmp_path / "clip.mp4", frames=5)))
    source.close()
    for _ in range(2):
        source.open()
        assert len(list(times_s(source))) == 5
        source.close()
        source.close()


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.mp4")
    assert "no such file" in refusal(f"file://{tmp_path}/none.mp4")


def test_what_is_not_video_says_so(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("These are notes.\n" * 100)
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(1).bytes(20_000))
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    assert "this is text, not video" in refusal(text)
    assert "not video that FFmpeg can read" in refusal(noise)
    assert "not video that FFmpeg can read" in refusal(empty)


def test_a_folder_of_no_images_says_so(tmp_path: Path) -> None:
    assert refusal(tmp_path)


def test_sound_alone_says_so_even_with_a_cover_picture(tmp_path: Path) -> None:
    assert "holds audio only; vrseg needs a video stream" in refusal(write_sound(tmp_path / "a.mp3"))
    assert "holds audio only; vrseg needs a video stream" in refusal(write_sound(tmp_path / "b.mp3", cover=True))


def test_a_film_without_a_single_frame_says_so(make_clip: MakeClip, tmp_path: Path) -> None:
    assert "holds" in refusal(make_clip(tmp_path / "zero.mp4", frames=0))
    assert "holds" in refusal(make_clip(tmp_path / "zero.mkv", frames=0))


def test_streams_that_appear_midway_do_no_harm(make_clip: MakeClip, tmp_path: Path) -> None:
    alone = make_clip(tmp_path / "alone.ts", frames=20)
    with_sound = make_clip(tmp_path / "with_sound.ts", frames=20, audio=True)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(alone.read_bytes() * 40 + with_sound.read_bytes() + alone.read_bytes() * 40)
    assert read_all(joined) == 20 * 81


def test_a_truncated_file_without_its_index_says_so(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "not video that FFmpeg can read" in refusal(path)


def test_a_truncated_file_with_its_index_gives_what_is_there(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.ts", frames=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = FileSource(str(path))
    source.open()
    assert 15 < len(list(times_s(source))) < 45
    source.close()


def test_what_was_read_before_an_error_is_handed_on_before_it(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(container: InputContainer, video: VideoStream) -> Iterator[Packet]:
        yield from itertools.islice(packets_of(container, video), 21)
        raise av.error.OSError(5, "Input/output error")

    monkeypatch.setattr(file, "packets_of", failing)
    source = FileSource(str(make_clip(tmp_path / "clip.mp4")))
    source.open()
    assert len(source.read()) + len(source.read()) == 21
    with pytest.raises(MediaError, match="Input/output error"):
        source.read()
    source.close()


def test_ffmpeg_itself_writes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise = tmp_path / "noise.ts"
    noise.write_bytes(b"G" + np.random.default_rng(1).bytes(200_000))
    refusal(noise)
    refusal(tmp_path / "none.mp4")
    assert capfd.readouterr() == ("", "")
