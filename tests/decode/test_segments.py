"""Segments decoded side by side: the frames of one decoder, in its order, whatever the lanes do."""

from __future__ import annotations

import random
import resource
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.clips import moving_picture
from plugins.coding import frames_from, frames_together, packets_of
from plugins.nvdec_on_cpu import samples_in, samples_of

from vrseg.decode.cpu import PyavDecoder
from vrseg.decode.segments import SegmentedDecoder
from vrseg.errors import DeviceError, MediaError
from vrseg.frame import Frame, Packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from plugins.clips import MakeClip

    from vrseg.gpu.device import Gpu
    from vrseg.stage import Decode

MEDIA = Path(__file__).resolve().parents[2] / "../shared/media"
CLIPS = sorted(MEDIA.glob("*.mp4"))


class LaneDecoder(PyavDecoder):
    """`PyavDecoder` on a codec context of its own: lanes decode packets of one stream at the same time."""

    def __init__(self) -> None:
        super().__init__("test", threads=1, live=False)
        self.segments = 0
        self.thread: threading.Thread | None = None
        self.closed_on: threading.Thread | None = None

    def open(self) -> None:
        self.thread = threading.current_thread()

    def process(self, item: Packet, /) -> Iterable[Frame]:
        payload = cast("av.Packet[av.VideoStream]", item.payload)
        if self._context is None:
            self.segments += 1
            given = payload.stream.codec_context
            context: Any = av.CodecContext.create(given.name, "r")
            context.extradata = given.extradata
            self._time_base = payload.time_base
            self._start(context)
        self._usual_duration = payload.duration or self._usual_duration
        return [self._frame(picture, None) for picture in self._decode(payload)]

    def close(self) -> None:
        super().close()
        self.closed_on = threading.current_thread()


class Lanes:
    """Makes the decoders of lanes, and remembers them."""

    def __init__(self, make: Callable[[], Decode] = LaneDecoder) -> None:
        self.made: list[Any] = []
        self._make = make

    def __call__(self) -> Decode:
        self.made.append(self._make())
        return cast("Decode", self.made[-1])


def segmented(
    packets: Iterable[Packet],
    make_inner: Callable[[], Decode],
    *,
    lanes: int = 3,
    ahead: int = 40,
    first_index: int = 0,
) -> tuple[list[Frame], int]:
    decoder = SegmentedDecoder(
        "test", gpu=None, lanes=lanes, first_index=first_index, make_inner=make_inner, pictures_ahead=ahead
    )
    return frames_from(decoder, packets), decoder.errors


def by_one_decoder(path: Path) -> list[Frame]:
    return frames_from(PyavDecoder("test", threads=1, live=False), packets_of(path))


def assert_same(frames: list[Frame], wanted: list[Frame]) -> None:
    assert [replace(one, picture=None, decoded_s=0) for one in frames] == [
        replace(one, picture=None, decoded_s=0) for one in wanted
    ]
    for frame, oracle in zip(frames, wanted, strict=True):
        assert np.array_equal(frame.picture.to_ndarray(), oracle.picture.to_ndarray()), frame.index


@pytest.mark.material
@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_real_clips_give_the_frames_of_one_decoder(path: Path) -> None:
    frames, errors = segmented(packets_of(path), Lanes())
    assert_same(frames, by_one_decoder(path))
    assert errors == 0


@pytest.mark.parametrize(
    ("properties", "suffix"),
    [
        ({"gop": 5}, ".mp4"),
        ({"gop": 7, "b_frames": 3, "vfr": True, "start_pts": 45}, ".mkv"),
        ({"gop": 5, "b_frames": 2}, ".ts"),
        ({"gop": 1000}, ".mp4"),
        ({"gop": 6, "codec": "hevc", "b_frames": 2}, ".mp4"),
        ({"gop": 6, "codec": "libvpx-vp9"}, ".webm"),
        ({"gop": 6, "codec": "av1"}, ".mkv"),
        ({"gop": 6, "codec": "mpeg4"}, ".mp4"),
        ({"gop": 5}, ".h264"),
    ],
    ids=str,
)
@pytest.mark.parametrize("lanes", [1, 4])
def test_generated_clips_give_the_frames_of_one_decoder(
    properties: dict[str, Any], suffix: str, lanes: int, make_clip: MakeClip, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / f"clip{suffix}", frames=40, **properties)
    frames, errors = segmented(packets_of(path), Lanes(), lanes=lanes)
    assert len(frames) == 40
    assert_same(frames, by_one_decoder(path))
    assert errors == 0


def test_open_groups_of_pictures_are_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "open.mp4"
    with av.open(str(path), "w") as container:
        parameters = "open-gop=1:keyint=8:min-keyint=8:scenecut=0:bframes=3:b-adapt=0"
        video = container.add_stream("libx264", rate=30, options={"preset": "fast", "x264-params": parameters})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        video.codec_context.max_b_frames = 3
        for index in range(40):
            container.mux(video.encode(moving_picture(160, 120, index)))
        container.mux(video.encode(None))
    packets = packets_of(path)
    assert sum(cast("av.Packet[Any]", packet.payload).is_keyframe for packet in packets) == 5
    lanes = Lanes()
    frames, _ = segmented(packets, lanes)
    assert_same(frames, by_one_decoder(path))
    assert sum(lane.segments for lane in lanes.made) == 1


def test_another_file_in_midstream_begins_a_segment(make_clip: MakeClip, tmp_path: Path) -> None:
    parts = [
        make_clip(tmp_path / "first.mp4", frames=10, b_frames=2),
        make_clip(tmp_path / "second.mp4", frames=10, codec="hevc", width=320),
    ]
    frames, _ = segmented([packet for part in parts for packet in packets_of(part)], Lanes(), first_index=3)
    assert [frame.width for frame in frames] == [160] * 10 + [320] * 10
    assert [frame.index for frame in frames] == list(range(3, 23))


class SlowDecoder(LaneDecoder):
    """Takes its time, now and then."""

    dice = random.Random(1)

    def process(self, item: Packet, /) -> Iterable[Frame]:
        if self.dice.random() < 0.2:
            time.sleep(self.dice.random() * 0.004)
        return super().process(item)


@pytest.fixture(scope="module")
def many_groups(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Frame]]:
    path = make_clip(tmp_path_factory.mktemp("groups") / "clip.mp4", width=64, height=48, frames=90, gop=6, b_frames=2)
    return path, by_one_decoder(path)


@settings(max_examples=25, deadline=None)
@given(lanes=st.integers(1, 6), ahead=st.integers(1, 60), handful=st.integers(1, 16))
def test_order_and_count_hold_whatever_the_lanes_do(
    many_groups: tuple[Path, list[Frame]], lanes: int, ahead: int, handful: int
) -> None:
    path, wanted = many_groups
    decoder = SegmentedDecoder("test", gpu=None, lanes=lanes, make_inner=Lanes(SlowDecoder), pictures_ahead=ahead)
    assert_same(frames_together(decoder, packets_of(path), handful), wanted)


@pytest.mark.parametrize(("gop", "lanes"), [(1, 7), (4, 2), (10, 7)])
def test_handfuls_of_short_groups_stay_within_the_bound_too(
    gop: int, lanes: int, make_clip: MakeClip, tmp_path: Path
) -> None:
    class Slower(LaneDecoder):
        def process(self, item: Packet, /) -> Iterable[Frame]:
            time.sleep(0.003)
            return super().process(item)

    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=300, gop=gop))
    decoder = SegmentedDecoder("test", gpu=None, lanes=lanes, make_inner=Lanes(Slower), pictures_ahead=20)
    decoder.open()
    frames: list[Frame] = []
    most = 0
    for start in range(0, len(packets), 8):
        decoder.process_together(packets[start : start + 8], frames)
        most = max(most, min(start + 8, 300) - len(frames))
    frames += decoder.flush()
    decoder.close()
    assert [frame.index for frame in frames] == list(range(300))
    assert most <= 20 + 8 + 4 * lanes


def test_no_more_than_the_bound_is_held(many_groups: tuple[Path, list[Frame]]) -> None:
    path, wanted = many_groups
    decoder = SegmentedDecoder("test", gpu=None, lanes=4, make_inner=Lanes(SlowDecoder), pictures_ahead=20)
    decoder.open()
    taken = most = 0
    for put, packet in enumerate(packets_of(path), 1):
        taken += len(list(decoder.process(packet)))
        most = max(most, put - taken)
    rest = list(decoder.flush())
    decoder.close()
    assert taken + len(rest) == len(wanted)
    assert most <= 20 + 4 * 4  # each lane's decoder holds a few pictures of its own
    assert most > 4


def test_several_lanes_work(many_groups: tuple[Path, list[Frame]]) -> None:
    all_have_one = threading.Barrier(3)

    class Patient(LaneDecoder):
        met = False

        def process(self, item: Packet, /) -> Iterable[Frame]:
            if not self.met:
                all_have_one.wait(10)
                self.met = True
            return super().process(item)

    lanes = Lanes(Patient)
    segmented(packets_of(many_groups[0]), lanes, lanes=3, ahead=60)
    assert sum(lane.segments for lane in lanes.made) == 15
    assert all(lane.segments for lane in lanes.made)
    assert len({lane.thread for lane in lanes.made}) == 3
    assert all(lane.thread is lane.closed_on is not threading.main_thread() for lane in lanes.made)


def test_damage_in_one_segment_costs_the_others_nothing(many_groups: tuple[Path, list[Frame]]) -> None:
    path, wanted = many_groups
    packets = packets_of(path)
    for packet in packets[12:18]:
        payload = cast("av.Packet[Any]", packet.payload)
        if not payload.is_keyframe:
            memoryview(cast("Any", payload))[:] = bytes([255]) * payload.size
    frames, errors = segmented(packets, Lanes())
    assert errors == 5
    assert [frame.pts for frame in frames] == [frame.pts for frame in wanted if frame.index not in range(13, 18)]
    assert [frame.index for frame in frames] == list(range(85))


class LosingDecoder(LaneDecoder):
    """Gives up its second segment."""

    def flush(self) -> Iterable[Frame]:
        if self.segments == 2:
            self._context = None
            raise MediaError("no picture in it")
        return super().flush()


def test_a_segment_that_is_given_up_is_counted_and_the_next_is_decoded(
    many_groups: tuple[Path, list[Frame]],
) -> None:
    path, wanted = many_groups
    frames, errors = segmented(packets_of(path), Lanes(LosingDecoder), lanes=1)
    assert errors == 1
    assert 84 <= len(frames) < 90
    assert frames[-1].pts == wanted[-1].pts


def test_a_film_that_is_all_noise_says_so(many_groups: tuple[Path, list[Frame]]) -> None:
    packets = packets_of(many_groups[0])
    for packet in packets:
        payload = cast("av.Packet[Any]", packet.payload)
        memoryview(cast("Any", payload))[:] = bytes([255]) * payload.size
    with pytest.raises(MediaError, match="none of its pictures could be decoded"):
        segmented(packets, Lanes())


class WakingDecoder(LaneDecoder):
    """Notes how often its thread went to sleep."""

    sleeps = 0

    def close(self) -> None:
        super().close()
        self.sleeps = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def test_lanes_without_work_are_left_alone(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", width=64, height=48, frames=200, gop=1000)
    lanes = Lanes(WakingDecoder)
    segmented(packets_of(path), lanes, lanes=4)
    assert sorted(lane.segments for lane in lanes.made) == [0, 0, 0, 1]
    assert all(lane.sleeps < 50 for lane in lanes.made if not lane.segments)


class BrokenDecoder(LaneDecoder):
    """A device that fails at the seventh packet."""

    taken = 0

    def process(self, item: Packet, /) -> Iterable[Frame]:
        self.taken += 1
        if self.taken == 7:
            raise DeviceError("the GPU fell off the bus")
        return super().process(item)


def test_a_broken_device_ends_the_stage_and_all_lanes(many_groups: tuple[Path, list[Frame]]) -> None:
    lanes = Lanes(BrokenDecoder)
    with pytest.raises(DeviceError, match="fell off the bus"):
        segmented(packets_of(many_groups[0]), lanes)
    assert all(lane.closed_on for lane in lanes.made)


def test_a_lane_that_does_not_open_says_why(many_groups: tuple[Path, list[Frame]]) -> None:
    class Unopened(LaneDecoder):
        def open(self) -> None:
            raise DeviceError("no decoder left")

    with pytest.raises(DeviceError, match="no decoder left"):
        segmented(packets_of(many_groups[0]), Lanes(Unopened))


@pytest.mark.parametrize("taken", [0, 1, 50])
def test_closing_in_the_middle_ends_all_lanes(taken: int, many_groups: tuple[Path, list[Frame]]) -> None:
    lanes = Lanes(SlowDecoder)
    decoder = SegmentedDecoder("test", gpu=None, lanes=3, make_inner=lanes, pictures_ahead=30)
    decoder.close()
    decoder.open()
    for packet in packets_of(many_groups[0])[:taken]:
        list(decoder.process(packet))
    decoder.close()
    decoder.close()
    assert all(lane.closed_on is lane.thread for lane in lanes.made)
    assert not any(thread.name.startswith("test.lane") for thread in threading.enumerate())


def test_pictures_are_refused() -> None:
    decoder = SegmentedDecoder("test", gpu=None, lanes=1, make_inner=Lanes())
    decoder.open()
    with pytest.raises(MediaError, match="segments are made of packets"):
        decoder.process(Packet(payload=av.VideoFrame(64, 48, "rgb24"), arrived_s=0.0))
    decoder.close()


def test_nothing_gives_nothing() -> None:
    assert segmented([], Lanes()) == ([], 0)


def test_lanes_on_the_gpu_share_their_memory(make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu) -> None:
    path = make_clip(tmp_path / "clip.mp4", width=320, height=240, frames=90, gop=6, b_frames=2, rotation=90)
    frames = frames_together(SegmentedDecoder("test", gpu=decoding_gpu, lanes=4), packets_of(path), 8)
    assert not any("lane" in thread.name for thread in threading.enumerate())
    wanted = by_one_decoder(path)
    assert [(frame.index, frame.pts, frame.rotation_deg) for frame in frames] == [
        (frame.index, frame.pts, frame.rotation_deg) for frame in wanted
    ]
    for frame, oracle in zip(frames, wanted, strict=True):
        assert np.array_equal(samples_of(frame.picture), samples_in(oracle.picture)), frame.index
    assert decoding_gpu.counts.snapshot().device_bytes == 90 * 320 * 240 * 3 // 2
    frames.clear()
    del frame
    assert decoding_gpu.counts.snapshot().device_bytes == 0
