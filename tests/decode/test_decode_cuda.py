"""The NVDEC decoder against the CPU decoder: same frames, times and pixels, and the same answer to damage.

Without a GPU it drives FFmpeg in the disguise of PyNvVideoCodec; with one, the real thing too.
"""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
import pytest
from plugins.clips import moving_picture
from plugins.coding import frames_from, frames_together, packets_of
from plugins.nvdec_on_cpu import STICKY_ERROR, PyNvVCException, PyNvVCExceptionUnsupported, samples_in, samples_of

from vrseg.decode.cpu import PyavDecoder
from vrseg.decode.cuda import NvdecDecoder
from vrseg.decode.turns import Turns
from vrseg.errors import DeviceError, DeviceMemoryError, MediaError
from vrseg.frame import Frame, Packet
from vrseg.gpu.surface import Surface

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plugins.clips import MakeClip
    from plugins.nvdec_on_cpu import CudaState, NvdecOnCpu

    from vrseg.gpu.device import Gpu

MEDIA = Path(__file__).resolve().parents[2] / "../shared/media"
CLIPS = sorted(MEDIA.glob("*.mp4"))
SIZE: dict[str, Any] = {"width": 320, "height": 240}  # NVDEC's smallest HEVC and VP9 pictures have 144 lines


def payload_of(packet: Packet) -> av.Packet[Any]:
    return cast("av.Packet[Any]", packet.payload)


def decode(gpu: Gpu, packets: Iterable[Packet], *, live: bool = False, first_index: int = 0) -> list[Frame]:
    """Decode one packet after the other; make sure that several together, on a shared thread too, give the same."""
    packets, turns = list(packets), Turns("test", gpu.use)
    frames = frames_from(NvdecDecoder("test", gpu=gpu, live=live, first_index=first_index), packets)
    turns.start()
    for one in (None, turns):
        decoder = NvdecDecoder("test", gpu=gpu, live=live, first_index=first_index, turns=one)
        assert_same(frames_together(decoder, packets, 8), frames)
    turns.end()
    return frames


def by_cpu(path: Path, *, live: bool = False) -> list[Frame]:
    return frames_from(PyavDecoder("test", threads=1, live=live), packets_of(path))


def told(frames: list[Frame]) -> list[tuple[object, ...]]:
    """Everything of a frame but its pixels and the time it was decoded."""
    return [
        (one.index, one.pts, one.duration, one.time_base, one.width, one.height, one.rotation_deg) for one in frames
    ]


def assert_same(frames: list[Frame], wanted: list[Frame]) -> None:
    assert told(frames) == told(wanted)
    for frame, oracle in zip(frames, wanted, strict=True):
        samples = samples_of if isinstance(oracle.picture, Surface) else samples_in
        assert np.array_equal(samples_of(frame.picture), samples(oracle.picture)), frame.index


@pytest.mark.material
@pytest.mark.parametrize("live", [False, True], ids=["file", "live"])
@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_real_clips_decode_as_on_the_cpu_to_the_last_bit(path: Path, live: bool, decoding_gpu: Gpu) -> None:
    assert_same(decode(decoding_gpu, packets_of(path), live=live), by_cpu(path))


@pytest.mark.parametrize(
    ("properties", "suffix"),
    [
        ({"vfr": True}, ".mp4"),
        ({"b_frames": 3}, ".mp4"),
        ({"b_frames": 2, "vfr": True, "start_pts": 45}, ".mkv"),
        ({"b_frames": 2}, ".ts"),
        ({"codec": "hevc", "b_frames": 2}, ".mp4"),
        ({"codec": "hevc", "b_frames": 2}, ".mkv"),
        ({"codec": "hevc"}, ".ts"),
        ({"codec": "libvpx-vp9"}, ".webm"),
        ({"codec": "libvpx-vp9", "gop": 100}, ".mp4"),
    ],
    ids=str,
)
def test_generated_clips_decode_as_on_the_cpu(
    properties: dict[str, Any], suffix: str, make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    path = make_clip(tmp_path / f"clip{suffix}", **SIZE, **properties)
    wanted = by_cpu(path)
    assert len(wanted) == 30
    assert_same(decode(decoding_gpu, packets_of(path)), wanted)


@pytest.mark.usefixtures("nvdec")
def test_av1_decodes_as_on_the_cpu_where_there_is_hardware(
    make_clip: MakeClip, tmp_path: Path, gpu_on_cpu: Gpu
) -> None:
    path = make_clip(tmp_path / "clip.mp4", codec="av1", **SIZE)
    assert_same(decode(gpu_on_cpu, packets_of(path)), by_cpu(path))


def test_ten_bits_come_as_p016(tmp_path: Path, decoding_gpu: Gpu) -> None:
    path = tmp_path / "deep.mp4"
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        video = container.add_stream("libx265", rate=30, options=options)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p10le"
        for index in range(10):
            container.mux(video.encode(moving_picture(320, 240, index).reformat(format="yuv420p10le")))
        container.mux(video.encode(None))
    frames = decode(decoding_gpu, packets_of(path))
    assert {frame.picture.format for frame in frames} == {"p016"}
    assert_same(frames, by_cpu(path))


def test_frames_carry_rotation_and_the_first_index(make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu) -> None:
    for rotation in (0, 90, 180, 270):
        path = make_clip(tmp_path / f"turned{rotation}.mp4", rotation=rotation, frames=5, fps=25, **SIZE)
        frames = decode(decoding_gpu, packets_of(path), first_index=7)
        assert [frame.rotation_deg for frame in frames] == [rotation] * 5
        assert [frame.index for frame in frames] == [7, 8, 9, 10, 11]
        assert all(frame.duration * frame.time_base == Fraction(1, 25) for frame in frames)


@pytest.mark.parametrize(("lines", "matrix"), [(576, "bt601"), (720, "bt709")])
def test_pictures_that_name_no_matrix_have_the_usual_one(
    lines: int, matrix: str, make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    (frame,) = decode(decoding_gpu, packets_of(make_clip(tmp_path / "clip.mp4", width=320, height=lines, frames=1)))
    assert (frame.picture.matrix, frame.picture.full_range) == (matrix, False)


def test_matrix_and_range_are_those_of_the_stream(tmp_path: Path, decoding_gpu: Gpu) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        video.codec_context.colorspace, video.codec_context.color_range = 9, 2
        container.mux(video.encode(moving_picture(320, 240, 0)))
        container.mux(video.encode(None))
    (frame,) = decode(decoding_gpu, packets_of(path))
    assert (frame.picture.matrix, frame.picture.full_range) == ("bt2020", True)


def test_a_live_packet_gives_its_frame_at_once(make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu) -> None:
    decoder = NvdecDecoder("test", gpu=decoding_gpu, live=True)
    decoder.open()
    packets = packets_of(make_clip(tmp_path / "clip.mp4", **SIZE))
    counts = [len(list(decoder.process(packet))) for packet in packets]
    decoder.close()
    assert counts == [1] * 30


@pytest.mark.parametrize("live", [False, True], ids=["file", "live"])
def test_joining_between_key_frames_waits_for_the_next(
    live: bool, make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", gop=10, **SIZE))
    decoder = NvdecDecoder("test", gpu=decoding_gpu, live=live)
    frames = frames_from(decoder, packets[4:])
    assert decoder.skipped_until_key == 6
    assert decoder.errors == 0
    assert [frame.index for frame in frames] == list(range(20))
    assert frames[0].pts == payload_of(packets[10]).pts


@pytest.mark.usefixtures("nvdec")
def test_a_stream_without_any_key_frame_is_tried_after_a_while(
    make_clip: MakeClip, tmp_path: Path, gpu_on_cpu: Gpu
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=330, gop=1000, **SIZE))
    decoder = NvdecDecoder("test", gpu=gpu_on_cpu, live=True)
    decoder.open()
    for packet in packets[1:]:
        list(decoder.process(packet))
    decoder.close()
    assert decoder.skipped_until_key == 300


@pytest.mark.parametrize("sizes", [((320, 240), (640, 360)), ((640, 360), (320, 240))], ids=["grows", "shrinks"])
def test_a_stream_may_change_its_size(
    sizes: tuple[tuple[int, int], ...], make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    joined = tmp_path / "joined.ts"
    parts = [
        make_clip(tmp_path / f"{width}.ts", width=width, height=height, frames=10, b_frames=2)
        for width, height in sizes
    ]
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = decode(decoding_gpu, packets_of(joined))
    assert [(frame.width, frame.height) for frame in frames] == [sizes[0]] * 10 + [sizes[1]] * 10
    assert_same(frames, by_cpu(joined))


def test_another_codec_in_midstream_drains_the_one_before(
    make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    first = make_clip(tmp_path / "first.mp4", codec="h264", b_frames=3, frames=10, **SIZE)
    second = make_clip(tmp_path / "second.mp4", codec="hevc", width=640, height=360, frames=10)
    frames = decode(decoding_gpu, [*packets_of(first), *packets_of(second)])
    assert [frame.width for frame in frames] == [320] * 10 + [640] * 10
    assert [frame.index for frame in frames] == list(range(20))


def test_a_file_that_is_played_again_goes_on(make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu) -> None:
    path = make_clip(tmp_path / "clip.mp4", b_frames=2, frames=10, **SIZE)
    frames = decode(decoding_gpu, [*packets_of(path), *packets_of(path)])
    assert [frame.index for frame in frames] == list(range(20))
    assert np.array_equal(samples_of(frames[3].picture), samples_of(frames[13].picture))


def test_missing_times_are_filled_in_from_the_frame_before(
    make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=10, **SIZE)
    packets = packets_of(path)
    for packet in packets[3:6]:
        payload_of(packet).pts = payload_of(packet).dts = None
    assert [frame.pts for frame in decode(decoding_gpu, packets)] == [frame.pts for frame in by_cpu(path)]


def test_a_raw_stream_without_any_times_counts_as_on_the_cpu(
    make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    path = make_clip(tmp_path / "clip.h264", frames=12, **SIZE)
    assert_same(decode(decoding_gpu, packets_of(path)), by_cpu(path))


def test_pictures_that_are_only_decoded_are_not_shown(make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu) -> None:
    path = tmp_path / "cut.mp4"
    with av.open(str(make_clip(tmp_path / "clip.mp4", frames=20, gop=100, **SIZE))) as given:
        source = given.streams.video[0]
        with av.open(str(path), "w") as container:
            target = container.add_stream_from_template(source)
            for packet in given.demux(source):
                if packet.dts is not None and packet.pts is not None:
                    shift = 5 * 512  # five frames lie before zero: an edit list hides them
                    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                    packet.stream = target
                    container.mux(packet)
    packets = packets_of(path)
    assert any(payload_of(packet).is_discard for packet in packets)
    assert_same(decode(decoding_gpu, packets), by_cpu(path))


@pytest.mark.parametrize("live", [False, True], ids=["file", "live"])
def test_damaged_packets_are_counted_and_survived(
    live: bool, make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=60, gop=10, **SIZE))
    dice = random.Random(1)
    for index in (15, 16, 17):
        payload = payload_of(packets[index])
        memoryview(cast("Any", payload))[:] = dice.randbytes(payload.size)
    decoder = NvdecDecoder("test", gpu=decoding_gpu, live=live)
    frames = frames_from(decoder, packets)
    assert decoder.errors >= 1
    assert 50 <= len(frames) < 60
    assert frames[-1].pts == payload_of(packets[-1]).pts


@pytest.mark.parametrize("handful", [2, 5, 8, 60])
def test_damage_costs_as_much_when_several_are_decoded_together(
    handful: int, make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=60, gop=10, b_frames=2, **SIZE))
    dice = random.Random(handful)
    for index in sorted(dice.sample(range(1, 60), 6)):
        payload = payload_of(packets[index])
        memoryview(cast("Any", payload))[:] = dice.randbytes(payload.size)
    decoders = [NvdecDecoder("test", gpu=decoding_gpu, live=False) for _ in range(2)]
    wanted = frames_from(decoders[0], packets)
    frames = frames_together(decoders[1], packets, handful)
    assert told(frames) == told(wanted)
    assert decoders[0].errors > 0
    assert [(one.errors, one.skipped_until_key) for one in decoders[1:]] == [
        (one.errors, one.skipped_until_key) for one in decoders[:1]
    ]


def test_video_that_is_all_noise_says_so(make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=10, **SIZE))
    for packet in packets:
        payload = payload_of(packet)
        memoryview(cast("Any", payload))[:] = random.Random(payload.pts).randbytes(payload.size)
    with pytest.raises(MediaError, match="none of its pictures could be decoded"):
        decode(decoding_gpu, packets)


def test_after_a_flush_the_decoder_goes_on_with_another_part(
    make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    path = make_clip(tmp_path / "clip.mp4", b_frames=2, gop=10, **SIZE)
    parts = packets_of(path)
    begins = [index for index, packet in enumerate(parts) if payload_of(packet).is_keyframe]
    assert len(begins) == 3
    decoder = NvdecDecoder("test", gpu=decoding_gpu, live=False)
    decoder.open()
    frames: list[Frame] = []
    for begin, end in zip(begins, [*begins[1:], len(parts)], strict=True):
        frames += [frame for packet in parts[begin:end] for frame in decoder.process(packet)]
        frames += decoder.flush()
    assert_same(frames, by_cpu(path))
    decoder.close()


def test_in_steady_state_nothing_is_allocated_and_nobody_waits(
    make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=60, b_frames=2, **SIZE))
    decoder = NvdecDecoder("test", gpu=decoding_gpu, live=False)
    decoder.open()
    for packet in packets[:20]:
        list(decoder.process(packet))
    before = decoding_gpu.counts.snapshot()
    for packet in packets[20:]:
        list(decoder.process(packet))
    spent = decoding_gpu.counts.snapshot() - before
    decoder.close()
    assert (spent.device_allocations, spent.pinned_allocations) == (0, 0)
    assert (spent.host_waits, spent.launches, spent.to_host_bytes) == (0, 0, 0)


def test_closing_gives_all_memory_back(make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu) -> None:
    frames = decode(decoding_gpu, packets_of(make_clip(tmp_path / "clip.mp4", **SIZE)))
    assert decoding_gpu.counts.snapshot().device_bytes == 30 * 320 * 240 * 3 // 2
    samples = samples_of(frames[-1].picture)  # a surface outlives its decoder
    assert samples.std() > 0
    frames.clear()
    assert decoding_gpu.counts.snapshot().device_bytes == 0


def test_closing_is_safe_at_any_time(make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu) -> None:
    decoder = NvdecDecoder("test", gpu=decoding_gpu, live=False)
    decoder.close()
    decoder.open()
    list(decoder.process(packets_of(make_clip(tmp_path / "clip.mp4", **SIZE))[0]))
    decoder.close()
    decoder.close()


def test_one_sequence_needs_one_session(
    make_clip: MakeClip, tmp_path: Path, nvdec: NvdecOnCpu, gpu_on_cpu: Gpu
) -> None:
    decode(gpu_on_cpu, packets_of(make_clip(tmp_path / "clip.ts", frames=40, gop=5, **SIZE)))
    assert nvdec.sessions == 3  # one by one, together, and on a shared thread


def test_a_session_in_which_everything_fails_is_replaced(
    make_clip: MakeClip, tmp_path: Path, nvdec: NvdecOnCpu, gpu_on_cpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=30, gop=10, **SIZE))
    decoder = NvdecDecoder("test", gpu=gpu_on_cpu, live=False)
    decoder.open()
    list(decoder.process(packets[0]))
    with monkeypatch.context() as broken:
        broken.setattr("plugins.nvdec_on_cpu.PyNvDecoder.Decode", _raising(PyNvVCException("Error code : 1")))
        for packet in packets[1:10]:
            list(decoder.process(packet))
    assert decoder.errors == 8
    frames = [frame for packet in packets[10:] for frame in decoder.process(packet)] + list(decoder.flush())
    decoder.close()
    assert nvdec.sessions == 2
    assert frames[-1].pts == payload_of(packets[-1]).pts
    assert len(frames) == 20


def test_what_the_hardware_refuses_costs_its_session_only(
    make_clip: MakeClip, tmp_path: Path, nvdec: NvdecOnCpu, gpu_on_cpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=20, gop=10, **SIZE))
    decoder = NvdecDecoder("test", gpu=gpu_on_cpu, live=False)
    decoder.open()
    with monkeypatch.context() as broken:
        broken.setattr("plugins.nvdec_on_cpu.PyNvDecoder.Decode", _raising(PyNvVCExceptionUnsupported("no")))
        list(decoder.process(packets[0]))
    frames = [frame for packet in packets[1:] for frame in decoder.process(packet)] + list(decoder.flush())
    decoder.close()
    assert (decoder.errors, decoder.skipped_until_key, len(frames), nvdec.sessions) == (1, 9, 10, 2)


@pytest.mark.usefixtures("nvdec")
def test_a_broken_cuda_context_is_no_damaged_packet(
    make_clip: MakeClip,
    tmp_path: Path,
    gpu_on_cpu: Gpu,
    cuda_state: CudaState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", **SIZE))
    decoder = NvdecDecoder("test", gpu=gpu_on_cpu, live=False)
    decoder.open()
    list(decoder.process(packets[0]))
    cuda_state.status = STICKY_ERROR
    monkeypatch.setattr("plugins.nvdec_on_cpu.PyNvDecoder.Decode", _raising(PyNvVCException("cuMemcpy : 700")))
    with pytest.raises(DeviceError, match="decoding broke the CUDA context: cuMemcpy"):
        decoder.process(packets[1])
    decoder.close()


@pytest.mark.usefixtures("nvdec")
@pytest.mark.parametrize(
    ("error", "free_bytes", "short"),
    [
        (PyNvVCException("HandleVideoSequence : cuvidCreateDecoder(&decoder, &info) returned error 2"), 1 << 30, True),
        (
            PyNvVCException("HandleVideoSequence : cuvidCreateDecoder(&decoder, &info) returned error 209"),
            1 << 30,
            False,
        ),
        (PyNvVCException("HandleVideoSequence : cuvidCreateDecoder(&decoder, &info) returned error 1"), 9 << 20, True),
        (PyNvVCExceptionUnsupported("no"), 9 << 20, True),
    ],
)
def test_no_room_for_the_pictures_of_nvdec_is_no_damaged_packet(
    make_clip: MakeClip,
    tmp_path: Path,
    gpu_on_cpu: Gpu,
    cuda_state: CudaState,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    free_bytes: int,
    short: bool,
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", **SIZE))
    decoder = NvdecDecoder("test", gpu=gpu_on_cpu, live=False)
    decoder.open()
    cuda_state.free_bytes = free_bytes
    monkeypatch.setattr("plugins.nvdec_on_cpu.PyNvDecoder.Decode", _raising(error))
    if short:
        with pytest.raises(DeviceMemoryError, match=r"cuda:0: NVDEC: .*; run fewer or smaller streams"):
            decoder.process(packets[0])
    else:
        assert list(decoder.process(packets[0])) == []
        assert decoder.errors == 1
    decoder.close()


@pytest.mark.parametrize("handful", [1, 7])
def test_the_session_is_replaced_when_all_of_several_fail(
    handful: int,
    make_clip: MakeClip,
    tmp_path: Path,
    nvdec: NvdecOnCpu,
    gpu_on_cpu: Gpu,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=30, gop=10, **SIZE))
    decoder = NvdecDecoder("test", gpu=gpu_on_cpu, live=False)
    decoder.open()
    frames: list[Frame] = []
    decoder.process_together(packets[:1], frames)
    with monkeypatch.context() as broken:
        broken.setattr("plugins.nvdec_on_cpu.PyNvDecoder.Decode", _raising(PyNvVCException("Error code : 1")))
        for start in range(1, 10, handful):
            decoder.process_together(packets[start : min(10, start + handful)], frames)
    assert (decoder.errors, decoder.skipped_until_key) == (8, 1)
    frames.clear()
    decoder.process_together(packets[10:], frames)
    frames += decoder.flush()
    decoder.close()
    assert (nvdec.sessions, len(frames), frames[-1].pts) == (2, 20, payload_of(packets[-1]).pts)


@pytest.mark.usefixtures("nvdec")
def test_frames_that_came_before_what_is_refused_are_handed_on(
    make_clip: MakeClip, tmp_path: Path, gpu_on_cpu: Gpu
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=20, **SIZE))
    picture = Packet(payload=av.VideoFrame(64, 48, "rgb24"), arrived_s=0.0)
    decoder, frames = NvdecDecoder("test", gpu=gpu_on_cpu, live=True), list[Frame]()
    decoder.open()
    with pytest.raises(MediaError, match="NVDEC decodes packets"):
        decoder.process_together([*packets[:12], picture, *packets[12:]], frames)
    decoder.close()
    assert [frame.index for frame in frames] == list(range(12))


@pytest.mark.usefixtures("nvdec")
def test_pictures_are_refused(gpu_on_cpu: Gpu) -> None:
    decoder = NvdecDecoder("test", gpu=gpu_on_cpu, live=True)
    decoder.open()
    with pytest.raises(MediaError, match="NVDEC decodes packets"):
        decoder.process(Packet(payload=av.VideoFrame(64, 48, "rgb24"), arrived_s=0.0))


@pytest.mark.usefixtures("nvdec")
def test_a_codec_of_no_hardware_is_refused(make_clip: MakeClip, tmp_path: Path, gpu_on_cpu: Gpu) -> None:
    with pytest.raises(MediaError, match="NVDEC is not used for mpeg4"):
        decode(gpu_on_cpu, packets_of(make_clip(tmp_path / "clip.mp4", codec="mpeg4")))


def _raising(error: Exception) -> Any:
    def decode_nothing(*_: object) -> None:
        raise error

    return decode_nothing
