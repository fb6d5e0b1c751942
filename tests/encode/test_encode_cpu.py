from __future__ import annotations

import errno
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, cast

import av
import numpy as np
import pytest
from plugins.encoded import CLOCK, TICKS, encoded, every, frames_at, with_b_frames

from vrseg.encode.cpu import PyavEncoder, choose_encoder
from vrseg.encode.settings import EncodeSettings
from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av.video.codeccontext import VideoCodecContext

    from vrseg.frame import EncodedPacket, Frame

CODECS = ("h264", "hevc", "av1")


def pictures_of(packets: Sequence[EncodedPacket]) -> list[av.VideoFrame]:
    """Decode packets as a player does that got the header once."""
    name = packets[0].format.codec
    # FFmpeg's own av1 decoder needs a GPU.
    codec = cast("VideoCodecContext", av.CodecContext.create("libdav1d" if name == "av1" else name, "r"))
    codec.extradata = packets[0].format.extradata
    pictures: list[av.VideoFrame] = []
    for packet in packets:
        data: av.Packet[Any] = av.Packet(packet.data)
        data.pts, data.dts, data.time_base = packet.pts, packet.dts, packet.format.time_base
        pictures += codec.decode(data)
    return pictures + codec.decode(None)


@pytest.mark.parametrize("codec", CODECS)
def test_every_frame_comes_out_once_with_its_own_time(codec: str) -> None:
    times = every(40, start=46087)
    packets = encoded(frames_at(times), with_b_frames(codec))
    assert sorted(packet.pts for packet in packets) == times
    assert {packet.duration for packet in packets} == {TICKS}
    assert [packet.dts for packet in packets] == sorted({packet.dts for packet in packets})
    assert [picture.pts for picture in pictures_of(packets)] == times


def test_uneven_times_are_kept() -> None:
    times = [0, 512, 513, 2000, 2512, 9000, 9001, 20000, 20512, 90000]
    assert sorted(packet.pts for packet in encoded(frames_at(times), with_b_frames("h264"))) == times


def test_the_picture_types_of_the_decoder_do_not_make_key_frames() -> None:
    packets = encoded(frames_at(every(30)), EncodeSettings(gop_s=10.0))
    assert [packet.pts for packet in packets if packet.key] == [0]


@pytest.mark.parametrize("codec", CODECS)
def test_key_frames_come_by_the_clock_when_frames_do_not(codec: str) -> None:
    times = [index * 5 * TICKS for index in range(24)]  # 6 frames per second, though each claims to last 1/30 s
    packets = encoded(frames_at(times), EncodeSettings(codec=codec, gop_s=1.0))  # type: ignore[arg-type]  # parameters
    assert [packet.pts / 15360 for packet in packets if packet.key] == [0, 1, 2, 3]


@pytest.mark.parametrize("codec", CODECS)
def test_a_live_encoder_gives_each_frame_back_at_once(codec: str) -> None:
    encoder = PyavEncoder(EncodeSettings(codec=codec, live=True, bitrate=500_000))  # type: ignore[arg-type]  # as above
    encoder.open()
    counts = [len(list(encoder.process(frame))) for frame in frames_at(every(8))]
    assert counts == [1] * 8
    assert list(encoder.flush()) == []
    encoder.close()


@pytest.mark.parametrize("codec", CODECS)
def test_no_thread_goes_before_those_of_other_programs(codec: str) -> None:
    """Where root runs the tests; others cannot have such threads."""
    encoder = PyavEncoder(EncodeSettings(codec=codec))  # type: ignore[arg-type]  # as above
    encoder.open()
    for frame in frames_at(every(3)):
        list(encoder.process(frame))
    policies = {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}
    encoder.flush()
    encoder.close()
    assert not policies & {os.SCHED_FIFO, os.SCHED_RR}


@pytest.mark.parametrize("question", ["Path.iterdir", "os.sched_getscheduler"])
def test_an_encoder_works_where_nothing_can_be_learned_of_threads(
    monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    def refuse(*_: object) -> Never:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    encoder = PyavEncoder(EncodeSettings(live=True))
    encoder.open()
    monkeypatch.setattr(f"vrseg.encode.scheduling.{question}", refuse)
    assert [len(list(encoder.process(frame))) for frame in frames_at(every(2))] == [1, 1]
    monkeypatch.undo()
    encoder.close()


def test_a_shared_picture_is_not_written_to() -> None:
    frame = frames_at([700])[0]
    before = frame.picture.to_ndarray()
    encoded([replace(frame, pts=999)])
    assert frame.picture.pts != 999
    assert frame.picture.pict_type == av.video.frame.PictureType.I
    np.testing.assert_array_equal(frame.picture.to_ndarray(), before)


def test_a_stream_that_changes_size_is_fitted_into_the_first_size() -> None:
    large = frames_at(every(5))
    small = [replace(frame, pts=frame.pts + 5 * TICKS) for frame in frames_at(every(5), width=80, height=120)]
    packets = encoded(large + small, EncodeSettings(quality=1))
    assert (packets[0].format.width, packets[0].format.height) == (160, 120)
    pictures = pictures_of(packets)
    assert len(pictures) == 10
    last = pictures[-1].to_ndarray(format="gray")
    assert last.shape == (120, 160)
    assert int(last[:, :38].max()) <= 4, "bars at the sides are black"
    assert int(last[:, 42:118].max()) > 50, "the picture stands in the middle"


def test_an_odd_last_row_and_column_is_cut_off() -> None:
    frames = frames_at(every(3), width=161, height=121)
    packets = encoded(frames, EncodeSettings(quality=1))
    assert (packets[0].format.width, packets[0].format.height) == (160, 120)
    shown = pictures_of(packets)[0].to_ndarray(format="gray").astype(int)
    given = frames[0].picture.to_ndarray(format="gray").astype(int)[:120, :160]
    assert np.abs(shown - given).mean() < 2


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p", "rgb24", "nv12", "gray", "bgr0"])
def test_any_pixel_format_is_taken(pixel_format: str) -> None:
    frames = frames_at(every(3), pixel_format=pixel_format)
    pictures = pictures_of(encoded(frames, EncodeSettings(quality=1)))
    assert pictures[0].format.name == "yuv420p"
    shown = pictures[0].to_ndarray(format="rgb24").astype(int)
    given = frames[0].picture.to_ndarray(format="rgb24").astype(int)
    assert np.abs(shown - given).mean() < 6


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_colour_tags_reach_the_player(codec: str) -> None:
    frames = frames_at(every(3))
    for frame in frames:
        frame.picture.color_range, frame.picture.colorspace = 1, 1
        frame.picture.color_primaries, frame.picture.color_trc = 1, 1
    picture = pictures_of(encoded(frames, EncodeSettings(codec=codec)))[0]  # type: ignore[arg-type]  # parameters
    tags = (picture.color_range, picture.colorspace, picture.color_primaries, picture.color_trc)
    assert tags == (1, 1, 1, 1)


def test_full_range_stays_full_range_even_where_the_encoder_lacks_the_format() -> None:
    frames = frames_at(every(3), pixel_format="yuvj420p")
    white = np.full_like(frames[0].picture.to_ndarray(), 255)
    picture = av.VideoFrame.from_ndarray(white, format="yuvj420p")
    picture.color_range = 2
    shown = pictures_of(encoded([replace(frames[0], picture=picture)], EncodeSettings(codec="av1", quality=1)))[0]
    assert shown.color_range == 2
    assert int(shown.to_ndarray()[:120].min()) >= 250


def test_rotation_and_rate_are_passed_on() -> None:
    packets = encoded(frames_at(every(3), rotation_deg=270))
    assert packets[0].format.rotation_deg == 270
    assert packets[0].format.frame_rate == Fraction(30)
    assert packets[0].format.time_base == CLOCK


def test_a_time_that_repeats_is_moved_and_no_frame_is_lost() -> None:
    packets = encoded(frames_at([0, 512, 512, 400, 1024]), with_b_frames("h264"))
    assert sorted(packet.pts for packet in packets) == [0, 512, 513, 514, 1024]


def test_frames_of_another_clock_are_brought_to_the_first_clock() -> None:
    first = frames_at([0, 512])
    later: list[Frame] = frames_at([6000], time_base=Fraction(1, 90000))
    assert sorted(packet.pts for packet in encoded(first + later)) == [0, 512, 1024]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EncodeSettings(encoder="libnothing"), "no encoder libnothing; for h264 it has: libx264"),
        (EncodeSettings(codec="hevc", encoder="libx264"), "makes h264, not hevc"),
    ],
)
def test_an_encoder_that_is_not_there_is_named_with_those_that_are(settings: EncodeSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PyavEncoder(settings).open()


def test_a_preset_that_does_not_exist_is_a_configuration_error() -> None:
    encoder = PyavEncoder(EncodeSettings(preset="warp"))
    encoder.open()
    with pytest.raises(ConfigError, match=r"libx264 refuses 160x120 .*warp"):
        encoder.process(frames_at([0])[0])
    encoder.close()


def test_auto_takes_what_this_ffmpeg_has() -> None:
    assert choose_encoder(EncodeSettings(codec="hevc")) == "libx265"


def test_closing_is_safe_at_any_time_and_an_encoder_without_frames_gives_nothing() -> None:
    encoder = PyavEncoder(EncodeSettings())
    encoder.close()
    encoder.open()
    assert list(encoder.flush()) == []
    encoder.close()
    encoder.close()


def test_nothing_is_printed_while_encoding(capfd: pytest.CaptureFixture[str]) -> None:
    for codec in CODECS:
        encoded(frames_at(every(3)), EncodeSettings(codec=codec))  # type: ignore[arg-type]  # parameters
    assert capfd.readouterr().err == ""
