"""Which decoder a stream gets on a CUDA device, and what happens where it changes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from plugins.clips import moving_picture
from plugins.coding import frames_from, frames_together, packets_of

from vrseg.decode.capabilities import Capabilities
from vrseg.decode.choose import CudaDecoder
from vrseg.frame import Packet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    from plugins.clips import MakeClip
    from plugins.nvdec_on_cpu import NvdecOnCpu

    from vrseg.frame import Frame
    from vrseg.gpu.device import Gpu

    Hand: TypeAlias = Callable[[CudaDecoder, list[Packet]], list[Frame]]


def by_eights(decoder: CudaDecoder, packets: list[Packet]) -> list[Frame]:
    return frames_together(decoder, packets, 8)


handing = pytest.mark.parametrize("hand", [frames_from, by_eights], ids=["one by one", "together"])


@handing
@pytest.mark.parametrize(
    ("codec", "suffix", "names"),
    [
        ("h264", ".mp4", {"nvdec h264"}),
        ("hevc", ".mkv", {"nvdec hevc"}),
        ("libvpx-vp9", ".webm", {"nvdec vp9"}),
        ("libvpx", ".webm", {"software vp8 + upload"}),
        ("mpeg4", ".mp4", {"software mpeg4 + upload"}),
        ("av1", ".mkv", {"software av1 + upload", "nvdec av1"}),  # an H200 has no hardware for it, newer cards have
    ],
)
def test_the_hardware_decodes_what_it_can_and_software_the_rest(
    hand: Hand, codec: str, suffix: str, names: set[str], make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    path = make_clip(tmp_path / f"clip{suffix}", codec=codec, width=320, height=240)
    decoder = CudaDecoder("test", gpu=decoding_gpu, live=False)
    frames = hand(decoder, packets_of(path))
    assert decoder.decoder_name in names
    assert [frame.index for frame in frames] == list(range(30))
    assert {(frame.picture.width, frame.picture.height) for frame in frames} == {(320, 240)}


def test_pictures_are_uploaded(decoding_gpu: Gpu) -> None:
    decoder = CudaDecoder("test", gpu=decoding_gpu, live=True)
    (frame,) = frames_from(decoder, [Packet(payload=moving_picture(64, 48, 0), arrived_s=0.0)])
    assert decoder.decoder_name == "upload"
    assert frame.picture.format == "nv12"


@handing
def test_a_change_of_codec_may_change_the_decoder_but_not_the_count(
    hand: Hand, make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    parts = [
        make_clip(tmp_path / "first.mp4", codec="h264", b_frames=2, frames=10, width=320, height=240),
        make_clip(tmp_path / "second.mp4", codec="mpeg4", frames=10, width=160, height=120),
        make_clip(tmp_path / "third.mp4", codec="hevc", frames=10, width=640, height=360),
    ]
    decoder = CudaDecoder("test", gpu=decoding_gpu, live=False, first_index=5)
    frames = hand(decoder, [packet for part in parts for packet in packets_of(part)])
    assert [frame.index for frame in frames] == list(range(5, 35))
    assert [frame.width for frame in frames] == [320] * 10 + [160] * 10 + [640] * 10
    assert decoder.decoder_name == "nvdec hevc"


@handing
def test_a_part_that_is_all_noise_does_not_end_the_next(
    hand: Hand, make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    noise = packets_of(make_clip(tmp_path / "noise.mp4", frames=10))
    for packet in noise:
        payload: Any = packet.payload
        memoryview(payload)[:] = bytes([255]) * payload.size
    sound = packets_of(make_clip(tmp_path / "sound.mp4", codec="mpeg4", frames=10))
    decoder = CudaDecoder("test", gpu=decoding_gpu, live=False)
    assert len(hand(decoder, [*noise, *sound])) == 10
    assert decoder.errors == 10


def test_counts_go_on_over_a_change_of_decoder_and_stay_when_it_is_closed(
    make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    parts = [
        packets_of(make_clip(tmp_path / f"{codec}.mp4", codec=codec, frames=20, gop=10, width=320, height=240))[4:]
        for codec in ("h264", "mpeg4", "hevc")
    ]
    decoder = CudaDecoder("test", gpu=decoding_gpu, live=True)
    assert len(frames_from(decoder, [packet for part in parts for packet in part])) == 30
    assert (decoder.errors, decoder.skipped_until_key, decoder.concealed) == (0, 18, 0)


@handing
@pytest.mark.usefixtures("nvdec")
def test_lanes_are_as_many_as_asked_for_and_there(
    hand: Hand, make_clip: MakeClip, tmp_path: Path, gpu_on_cpu: Gpu
) -> None:
    path = make_clip(tmp_path / "clip.mp4", gop=5, b_frames=2)
    for lanes, name in ((0, "nvdec h264 x 7"), (2, "nvdec h264 x 2"), (99, "nvdec h264 x 7"), (1, "nvdec h264")):
        decoder = CudaDecoder("test", gpu=gpu_on_cpu, live=False, lanes=lanes)
        frames = hand(decoder, packets_of(path))
        assert decoder.decoder_name == name
        assert [frame.index for frame in frames] == list(range(30))
    decoder = CudaDecoder("test", gpu=gpu_on_cpu, live=True, lanes=0)
    frames_from(decoder, packets_of(path))
    assert decoder.decoder_name == "nvdec h264"


def test_the_driver_is_asked_once_for_each_kind(
    make_clip: MakeClip, tmp_path: Path, nvdec: NvdecOnCpu, gpu_on_cpu: Gpu
) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3)
    for _ in range(3):
        frames_from(CudaDecoder("test", gpu=gpu_on_cpu, live=False), packets_of(path))
    assert nvdec.questions == 1


@pytest.mark.usefixtures("nvdec")
def test_without_the_library_everything_is_uploaded(
    make_clip: MakeClip, tmp_path: Path, gpu_on_cpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)  # as if it were not installed
    decoder = CudaDecoder("test", gpu=gpu_on_cpu, live=False)
    assert len(frames_from(decoder, packets_of(make_clip(tmp_path / "clip.mp4", frames=3)))) == 3
    assert decoder.decoder_name == "software h264 + upload"


def test_closing_is_safe_at_any_time(make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu) -> None:
    decoder = CudaDecoder("test", gpu=decoding_gpu, live=False, lanes=2)
    decoder.close()
    decoder.open()
    assert list(decoder.flush()) == []
    list(decoder.process(packets_of(make_clip(tmp_path / "clip.mp4"))[0]))
    decoder.close()
    decoder.close()


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((1920, 1080), None),
        ((321, 240), "odd sizes"),
        ((320, 241), "odd sizes"),
        ((32, 240), "takes 48x16 to 4096x2304"),
        ((4098, 240), "takes 48x16 to 4096x2304"),
        ((4096, 2304), "macroblocks"),
    ],
)
def test_refusals_say_why(size: tuple[int, int], reason: str | None) -> None:
    told = Capabilities(
        supported=True,
        engines=1,
        min_width=48,
        min_height=16,
        max_width=4096,
        max_height=2304,
        max_macroblocks=256 * 144 - 1,
    )
    refusal = told.refusal(*size)
    assert refusal is None if reason is None else reason in (refusal or "")


def test_a_decoder_that_is_not_there_refuses() -> None:
    told = Capabilities(
        supported=False, engines=0, min_width=0, min_height=0, max_width=0, max_height=0, max_macroblocks=0
    )
    assert told.refusal(1920, 1080) == "the GPU has no decoder for it"
