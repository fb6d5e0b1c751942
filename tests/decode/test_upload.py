"""Software decode with upload: the pictures of the CPU decoder, in device memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from plugins.clips import moving_picture
from plugins.coding import frames_from, packets_of
from plugins.nvdec_on_cpu import samples_in, samples_of

from vrseg.decode.cpu import PyavDecoder
from vrseg.decode.layout import SurfaceLayout
from vrseg.decode.upload import UploadDecoder
from vrseg.errors import MediaError
from vrseg.frame import Packet

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.clips import MakeClip

    from vrseg.gpu.device import Gpu


def picture_packet(picture: av.VideoFrame) -> Packet:
    return Packet(payload=picture, arrived_s=0.0)


@pytest.mark.parametrize(
    ("properties", "suffix"),
    [({"codec": "mpeg4", "b_frames": 1}, ".mp4"), ({"codec": "libvpx"}, ".webm"), ({"rotation": 90}, ".mp4")],
    ids=str,
)
def test_clips_arrive_as_the_cpu_decoder_gave_them(
    properties: dict[str, Any], suffix: str, make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu
) -> None:
    path = make_clip(tmp_path / f"clip{suffix}", **properties)
    frames = frames_from(UploadDecoder("test", gpu=decoding_gpu, live=False, first_index=3), packets_of(path))
    wanted = frames_from(PyavDecoder("test", threads=1, live=False, first_index=3), packets_of(path))
    assert len(frames) == 30
    for frame, oracle in zip(frames, wanted, strict=True):
        assert (frame.index, frame.pts, frame.duration) == (oracle.index, oracle.pts, oracle.duration)
        assert (frame.time_base, frame.rotation_deg) == (oracle.time_base, oracle.rotation_deg)
        assert (frame.width, frame.height) == (oracle.width, oracle.height)
        assert np.array_equal(samples_of(frame.picture), samples_in(oracle.picture))


def test_pictures_keep_truth_and_lose_an_odd_last_row_and_column(decoding_gpu: Gpu) -> None:
    picture, truth = moving_picture(161, 121, 3).reformat(format="yuv420p"), object()
    packet = Packet(payload=picture, arrived_s=0.0, truth=truth)
    (frame,) = frames_from(UploadDecoder("test", gpu=decoding_gpu, live=True), [packet])
    assert (frame.width, frame.height, frame.truth) == (160, 120, truth)
    luma = np.frombuffer(memoryview(picture.planes[0]), np.uint8).reshape(121, -1)[:120, :160]
    assert np.array_equal(samples_of(frame.picture)[: 160 * 120].reshape(120, 160), luma)


def test_ten_bits_come_as_p016(decoding_gpu: Gpu) -> None:
    picture = moving_picture(160, 120, 3).reformat(format="yuv420p10le")
    (frame,) = frames_from(UploadDecoder("test", gpu=decoding_gpu, live=True), [picture_packet(picture)])
    assert frame.picture.format == "p016"
    assert np.array_equal(samples_of(frame.picture), samples_in(picture))


def test_a_change_of_size_is_followed(decoding_gpu: Gpu) -> None:
    pictures = [moving_picture(width, 120, width) for width in (160, 320, 160)]
    packets = [picture_packet(picture) for picture in pictures]
    frames = frames_from(UploadDecoder("test", gpu=decoding_gpu, live=True), packets)
    assert [frame.width for frame in frames] == [160, 320, 160]
    assert all(samples_of(frame.picture).std() > 0 for frame in frames)


def test_in_steady_state_nothing_is_allocated(make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=60))
    decoder = UploadDecoder("test", gpu=decoding_gpu, live=True)
    decoder.open()
    for packet in packets[:20]:
        list(decoder.process(packet))
    before = decoding_gpu.counts.snapshot()
    frames = sum(len(list(decoder.process(packet))) for packet in packets[20:])
    spent = decoding_gpu.counts.snapshot() - before
    decoder.close()
    assert frames == 40
    assert (spent.device_allocations, spent.pinned_allocations) == (0, 0)
    assert spent.to_device_bytes == 40 * 160 * 120 * 3 // 2
    assert decoding_gpu.counts.snapshot().pinned_bytes == 0


def test_damage_is_counted(make_clip: MakeClip, tmp_path: Path, decoding_gpu: Gpu) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=10))
    for packet in packets:
        payload: Any = packet.payload
        memoryview(payload)[:] = bytes(payload.size)
    decoder = UploadDecoder("test", gpu=decoding_gpu, live=False)
    with pytest.raises(MediaError, match="none of its pictures"):
        frames_from(decoder, packets)
    assert decoder.errors > 0


def test_closing_is_safe_at_any_time(decoding_gpu: Gpu) -> None:
    decoder = UploadDecoder("test", gpu=decoding_gpu, live=True)
    decoder.close()
    decoder.open()
    list(decoder.process(picture_packet(moving_picture(160, 120, 0))))
    decoder.close()
    decoder.close()


@pytest.mark.parametrize(
    ("pixel_format", "surface_format", "full_range"),
    [
        ("yuv420p", "nv12", False),
        ("nv12", "nv12", False),
        ("yuvj420p", "nv12", True),
        ("yuvj422p", "nv12", True),
        ("yuv444p", "nv12", False),
        ("yuv420p12le", "p016", False),
        ("yuv422p10le", "p016", False),
        ("rgb24", "nv12", False),
        ("rgba", "nv12", False),
        ("gray", "nv12", False),
        ("gray16le", "p016", False),
    ],
)
@pytest.mark.parametrize("shade", [0, 128, 255])
def test_grey_stays_grey_whatever_the_format(
    pixel_format: str, surface_format: str, full_range: bool, shade: int
) -> None:
    grey = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, np.uint8), format="rgb24")
    picture = SurfaceLayout().convert(grey.reformat(format=pixel_format))
    assert (picture.format, picture.full_range, picture.matrix) == (surface_format, full_range, "bt601")
    target = np.zeros(64 * 48 * 3 // 2 * (2 if surface_format == "p016" else 1), np.uint8)
    picture.write(target)
    samples = target.astype(float) if surface_format == "nv12" else target.view(np.uint16) / 256
    luma = shade if full_range else 16 + shade * 219 / 255
    assert np.abs(samples[: 64 * 48] - luma).max() <= 1
    assert np.abs(samples[64 * 48 :] - 128).max() <= 1


def test_yuv_keeps_its_matrix_and_rgb_gets_the_usual_one() -> None:
    yuv = moving_picture(64, 48, 0).reformat(format="yuv444p")
    yuv.colorspace = 9
    assert SurfaceLayout().convert(yuv).matrix == "bt2020"
    assert SurfaceLayout().convert(moving_picture(64, 720, 0)).matrix == "bt709"
    red = np.zeros((720, 64, 3), np.uint8)
    red[..., 0] = 255
    luma, chroma = SurfaceLayout().convert(av.VideoFrame.from_ndarray(red, format="rgb24")).planes
    # BT.709: Y = 16 + 219 x 0.2126, Cb = 128 - 224 x 0.2126 / 1.8556, Cr = 240
    assert [int(luma[4, 4]), int(chroma[4, 0]), int(chroma[4, 1])] == pytest.approx([63, 102, 240], abs=1)
