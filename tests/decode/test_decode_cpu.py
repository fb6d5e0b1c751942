"""The CPU decoder against a plain PyAV loop, and what it does with damage, late joins and changes of size."""

from __future__ import annotations

import random
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
import pytest

from vrseg.decode.cpu import PyavDecoder
from vrseg.errors import MediaError
from vrseg.frame import Frame, Packet
from vrseg.source.file import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from plugins.clips import MakeClip

MEDIA = Path(__file__).resolve().parents[2] / "../shared/media"
CLIPS = sorted(MEDIA.glob("*.mp4"))


def packets_of(path: Path) -> Iterator[Packet]:
    source = FileSource(str(path))
    try:
        source.open()
        while batch := source.read():
            yield from batch
    finally:
        source.close()


def decode(packets: Iterable[Packet], *, live: bool = False, threads: int = 2, first_index: int = 0) -> list[Frame]:
    decoder = PyavDecoder("test", threads=threads, live=live, first_index=first_index)
    decoder.open()
    frames = [frame for packet in packets for frame in decoder.process(packet)]
    frames += decoder.flush()
    decoder.close()
    return frames


def plain_loop(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def assert_same(frames: list[Frame], wanted: list[av.VideoFrame]) -> None:
    assert [frame.pts for frame in frames] == [frame.pts for frame in wanted]
    assert [frame.index for frame in frames] == list(range(len(wanted)))
    assert {frame.time_base for frame in frames} == {frame.time_base for frame in wanted}
    assert [(frame.width, frame.height) for frame in frames] == [(frame.width, frame.height) for frame in wanted]
    for index in {0, len(wanted) // 2, len(wanted) - 1}:
        assert np.array_equal(frames[index].picture.to_ndarray(), wanted[index].to_ndarray())


@pytest.mark.material
@pytest.mark.parametrize("live", [False, True], ids=["file", "live"])
@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_real_clips_decode_as_in_a_plain_loop(path: Path, live: bool) -> None:
    assert_same(decode(packets_of(path), live=live), plain_loop(path))


@pytest.mark.parametrize(
    "properties",
    [
        {"vfr": True},
        {"b_frames": 3},
        {"b_frames": 2, "vfr": True, "start_pts": 45},
        {"codec": "hevc", "b_frames": 2},
        {"codec": "av1"},
        {"codec": "mpeg4", "b_frames": 1},
        {"codec": "mjpeg"},
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_generated_clips_decode_as_in_a_plain_loop(
    properties: dict[str, Any], suffix: str, make_clip: MakeClip, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / f"clip{suffix}", **properties)
    wanted = plain_loop(path)
    assert len(wanted) == 30
    assert_same(decode(packets_of(path)), wanted)


def test_a_live_packet_gives_its_frame_at_once(make_clip: MakeClip, tmp_path: Path) -> None:
    decoder = PyavDecoder("test", threads=0, live=True)
    decoder.open()
    counts = [len(list(decoder.process(packet))) for packet in packets_of(make_clip(tmp_path / "clip.mp4"))]
    assert counts == [1] * 30


def test_frames_carry_duration_rotation_and_the_first_index(make_clip: MakeClip, tmp_path: Path) -> None:
    for rotation in (0, 90, 180, 270):
        path = make_clip(tmp_path / f"turned{rotation}.mp4", rotation=rotation, frames=5, fps=25)
        frames = decode(packets_of(path), first_index=7)
        assert [frame.rotation_deg for frame in frames] == [rotation] * 5
        assert [frame.index for frame in frames] == [7, 8, 9, 10, 11]
        assert all(frame.duration * frame.time_base == Fraction(1, 25) for frame in frames)


def test_joining_a_live_stream_between_key_frames_waits_for_the_next(make_clip: MakeClip, tmp_path: Path) -> None:
    packets = list(packets_of(make_clip(tmp_path / "clip.mp4", gop=10)))
    decoder = PyavDecoder("test", threads=1, live=True)
    decoder.open()
    frames = [frame for packet in packets[4:] for frame in decoder.process(packet)]
    frames += decoder.flush()
    assert decoder.skipped_until_key == 6
    assert decoder.errors == decoder.concealed == 0
    assert [frame.index for frame in frames] == list(range(20))
    assert frames[0].pts == cast("av.Packet[Any]", packets[10].payload).pts


def test_a_live_stream_without_any_key_frame_is_decoded_after_a_while(make_clip: MakeClip, tmp_path: Path) -> None:
    packets = list(packets_of(make_clip(tmp_path / "clip.mp4", frames=330, gop=1000, width=64, height=64)))
    decoder = PyavDecoder("test", threads=1, live=True)
    decoder.open()
    for packet in packets[1:]:
        list(decoder.process(packet))
    assert decoder.skipped_until_key == 300


def test_a_stream_may_change_its_size(make_clip: MakeClip, tmp_path: Path) -> None:
    small = make_clip(tmp_path / "small.ts", width=160, height=120, frames=10)
    large = make_clip(tmp_path / "large.ts", width=320, height=240, frames=10)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    frames = decode(packets_of(joined))
    assert [frame.width for frame in frames] == [160] * 10 + [320] * 10
    assert [frame.height for frame in frames] == [120] * 10 + [240] * 10


def test_another_codec_in_midstream_drains_the_one_before(make_clip: MakeClip, tmp_path: Path) -> None:
    first = make_clip(tmp_path / "first.mp4", codec="h264", b_frames=3, frames=10)
    second = make_clip(tmp_path / "second.mp4", codec="hevc", width=320, height=240, frames=10)
    frames = decode([*packets_of(first), *packets_of(second)], threads=4)
    assert [frame.width for frame in frames] == [160] * 10 + [320] * 10
    assert [frame.index for frame in frames] == list(range(20))


def test_missing_times_are_filled_in_from_the_frame_before(make_clip: MakeClip, tmp_path: Path) -> None:
    packets = list(packets_of(make_clip(tmp_path / "clip.mp4", frames=10)))
    whole = [frame.pts for frame in decode(packets)]
    packets = list(packets_of(tmp_path / "clip.mp4"))
    for packet in packets[3:6]:
        payload = cast("av.Packet[Any]", packet.payload)
        payload.pts = payload.dts = None
    assert [frame.pts for frame in decode(packets)] == whole


def test_a_raw_stream_without_any_times_counts_up(make_clip: MakeClip, tmp_path: Path) -> None:
    frames = decode(packets_of(make_clip(tmp_path / "clip.h264", frames=12)))
    times = [frame.time_s for frame in frames]
    assert len(times) == 12
    assert np.allclose(np.diff(times), np.diff(times)[0])
    assert np.diff(times)[0] > 0


def test_pictures_pass_through_with_their_truth() -> None:
    picture = av.VideoFrame(64, 48, "rgb24")
    picture.pts, picture.time_base = 5, Fraction(1, 30)
    truth = object()
    (frame,) = decode([Packet(payload=picture, arrived_s=0.0, truth=truth)], live=True)
    assert frame.picture is picture
    assert frame.truth is truth
    assert (frame.pts, frame.time_base, frame.width, frame.height) == (5, Fraction(1, 30), 64, 48)


@pytest.mark.parametrize("live", [False, True], ids=["file", "live"])
def test_damaged_packets_are_counted_and_survived(live: bool, make_clip: MakeClip, tmp_path: Path) -> None:
    packets = list(packets_of(make_clip(tmp_path / "clip.mp4", frames=60, gop=10)))
    dice = random.Random(1)
    for index in (15, 16, 17):
        payload = cast("av.Packet[Any]", packets[index].payload)
        memoryview(cast("Any", payload))[:] = dice.randbytes(payload.size)
    decoder = PyavDecoder("test", threads=2, live=live)
    decoder.open()
    frames = [frame for packet in packets for frame in decoder.process(packet)]
    frames += decoder.flush()
    assert decoder.errors >= 1
    assert 50 <= len(frames) < 60
    assert frames[-1].pts == cast("av.Packet[Any]", packets[-1].payload).pts


def test_video_that_is_all_noise_says_so(make_clip: MakeClip, tmp_path: Path) -> None:
    packets = list(packets_of(make_clip(tmp_path / "clip.mp4", frames=10)))
    for packet in packets:
        payload = cast("av.Packet[Any]", packet.payload)
        memoryview(cast("Any", payload))[:] = random.Random(payload.pts).randbytes(payload.size)
    with pytest.raises(MediaError, match="none of its pictures could be decoded"):
        decode(packets)


def test_closing_is_safe_at_any_time(make_clip: MakeClip, tmp_path: Path) -> None:
    decoder = PyavDecoder("test", threads=0, live=False)
    decoder.close()
    decoder.open()
    list(decoder.process(next(packets_of(make_clip(tmp_path / "clip.mp4")))))
    decoder.close()
    decoder.close()


@pytest.mark.material
def test_two_hundred_damaged_files_neither_hang_nor_crash(tmp_path: Path) -> None:
    dice = random.Random(20240)
    originals = [path.read_bytes() for path in CLIPS]
    path = tmp_path / "damaged.mp4"
    slowest_s = 0.0
    decoded = refused = 0
    for round_number in range(200):
        data = bytearray(originals[round_number % len(originals)])
        if round_number % 4 == 0:
            del data[dice.randrange(len(data)) :]
        for _ in range(dice.choice((1, 10, 100))):
            if data:
                data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data)
        started_s = time.monotonic()
        try:
            decoded += bool(first_seconds(path))
        except MediaError as error:
            refused += len(str(error).splitlines()) == 1
        slowest_s = max(slowest_s, time.monotonic() - started_s)
    assert decoded + refused == 200
    assert decoded > 50
    assert slowest_s < 20


def first_seconds(path: Path) -> list[Frame]:
    """Decode up to 45 packets: 200 files fit into a minute, and a header's damage shows at once."""
    decoder = PyavDecoder("test", threads=1, live=False)
    decoder.open()
    frames: list[Frame] = []
    source = FileSource(str(path))
    try:
        source.open()
        while (batch := source.read()) and len(frames) < 45:
            frames += [frame for packet in batch for frame in decoder.process(packet)]
        frames += decoder.flush()
    finally:
        source.close()
        decoder.close()
    return frames
