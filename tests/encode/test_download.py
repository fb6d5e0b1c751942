from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from plugins.coding import packets_from
from plugins.encoded import FAST, TICKS, encoded, every, frames_at
from plugins.late_gpu import Painter, nv12_of

from vrseg.encode.canvas import Canvas
from vrseg.encode.download import DownloadEncoder, picture_of
from vrseg.encode.settings import EncodeSettings
from vrseg.gpu.device import open_gpu
from vrseg.gpu.memory import Pool, recorded
from vrseg.gpu.surface import Surface

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vrseg.frame import Frame
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.surface import SurfaceFormat

CODECS = ("h264", "hevc", "av1")


def settings_of(codec: Any, *, live: bool = False) -> EncodeSettings:
    return EncodeSettings(codec=codec, preset=FAST[codec], live=live)


def in_nv12(frames: Sequence[Frame], *, colorspace: int = 1, color_range: int = 1) -> list[Frame]:
    """Give the frames as a download should make them."""
    made = []
    for frame in frames:
        picture = av.VideoFrame.from_ndarray(nv12_of(frame.picture), format="nv12")
        picture.colorspace, picture.color_range = colorspace, color_range
        made.append(replace(frame, picture=picture))
    return made


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_the_packets_are_those_of_the_encoder_on_the_host(late_gpu: Gpu, codec: str, live: bool, at_once: bool) -> None:
    settings = replace(settings_of(codec, live=live), threads=1)
    packets = packets_from(DownloadEncoder(settings, late_gpu), Painter(late_gpu, at_once=at_once).frames(every(12)))
    expected = encoded(in_nv12(frames_at(every(12))), settings)
    assert [(one.pts, one.dts, one.key, one.data) for one in packets] == [
        (one.pts, one.dts, one.key, one.data) for one in expected
    ]
    assert packets[0].format == expected[0].format


def test_a_live_frame_leaves_at_once_and_one_for_a_file_is_copied_while_another_is_encoded(late_gpu: Gpu) -> None:
    def counts(*, live: bool) -> list[int]:
        encoder = DownloadEncoder(replace(settings_of("h264"), live=live), late_gpu)
        encoder.open()
        found = [len(list(encoder.process(frame))) for frame in Painter(late_gpu).frames(every(5))]
        found.append(len(list(encoder.flush())))
        encoder.close()
        return found

    assert counts(live=True) == [1, 1, 1, 1, 1, 0]
    assert counts(live=False)[0] == 0
    assert sum(counts(live=False)) == 5


@pytest.mark.parametrize("codec", CODECS)
def test_pinned_memory_and_surfaces_are_lent_out_again_while_the_encoder_looks_ahead(late_gpu: Gpu, codec: str) -> None:
    painter = Painter(late_gpu)
    packets = packets_from(DownloadEncoder(settings_of(codec), late_gpu), painter.frames(every(60)))
    counts = late_gpu.counts.snapshot()
    assert len(packets) == 60
    assert counts.pinned_allocations <= 3
    assert counts.device_allocations <= 2
    assert counts.to_host_bytes == 60 * 160 * 120 * 3 // 2
    gc.collect()
    assert late_gpu.counts.snapshot().pinned_bytes == 0


def test_a_block_is_lent_as_long_as_a_picture_or_a_filter_holds_it(late_gpu: Gpu) -> None:
    surface = Painter(late_gpu).surface(nv12_of(frames_at([0])[0].picture))
    pool = Pool(late_gpu, "pinned", surface.size_bytes, limit=1, name="one")
    picture: av.VideoFrame | None = picture_of(surface, pool.lend())
    assert picture is not None
    placed: av.VideoFrame | None = Canvas(160, 120, "nv12").place(picture)
    assert placed is not None
    assert placed.planes[0].buffer_ptr == picture.planes[0].buffer_ptr, "no copy"
    picture = None
    gc.collect()
    assert pool._free == []
    placed = None
    gc.collect()
    assert len(pool._free) == 1


@pytest.mark.parametrize(("surface_format", "pixel_format"), [("nv12", "nv12"), ("p016", "p016le")])
@pytest.mark.parametrize("height", [2, 118, 120, 122])
def test_any_even_size_and_both_depths_are_seen_as_they_lie(
    late_gpu: Gpu, surface_format: SurfaceFormat, pixel_format: str, height: int
) -> None:
    dtype = np.uint8 if surface_format == "nv12" else np.uint16
    samples = np.random.default_rng(7).integers(0, np.iinfo(dtype).max, (height * 3 // 2, 162)).astype(dtype)
    pool = Pool(late_gpu, "pinned", samples.nbytes, limit=1, name="one")
    lease = pool.lend()
    surface = Surface(
        lease=lease,
        width=162,
        height=height,
        format=surface_format,
        matrix="bt2020",
        full_range=True,
        ready=recorded(late_gpu.new_stream()),
    )
    picture = picture_of(surface, lease)
    memory = np.asarray(memoryview(picture.planes[0])).view(dtype)
    assert memory.ctypes.data == lease.address
    memory[:] = samples[:height].ravel()
    np.asarray(memoryview(picture.planes[1])).view(dtype)[:] = samples[height:].ravel()
    assert (picture.width, picture.height, picture.format.name) == (162, height, pixel_format)
    assert (picture.colorspace, picture.color_range) == (9, 2)
    in_memory = np.ctypeslib.as_array((np.ctypeslib.as_ctypes_type(dtype) * samples.size).from_address(lease.address))
    np.testing.assert_array_equal(in_memory.reshape(samples.shape), samples)


def test_a_stream_that_changes_size_is_fitted_into_the_first_size(late_gpu: Gpu) -> None:
    painter = Painter(late_gpu)
    frames = [*painter.frames(every(4)), *painter.frames(every(4, start=4 * TICKS), width=80)]
    packets = packets_from(DownloadEncoder(settings_of("h264"), late_gpu), frames)
    assert len(packets) == 8
    assert (packets[0].format.width, packets[0].format.height) == (160, 120)


def test_closing_is_safe_at_any_time_and_waits_for_what_is_being_copied(late_gpu: Gpu) -> None:
    encoder = DownloadEncoder(settings_of("h264"), late_gpu)
    encoder.close()
    encoder.open()
    assert list(encoder.flush()) == []
    (frame,) = Painter(late_gpu).frames([0])
    assert list(encoder.process(frame)) == []
    encoder.close()
    encoder.close()
    assert late_gpu.counts.snapshot().pinned_bytes == 0


@pytest.mark.gpu
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("height", [720, 722])
def test_a_real_gpu_gives_the_same_packets_and_makes_nothing_in_steady_state(
    codec: str, live: bool, height: int
) -> None:
    import cupy

    gpu = open_gpu()
    gpu.use()
    stream = gpu.new_stream()
    pool = Pool(gpu, "device", 1280 * height * 3 // 2, limit=4, name="surfaces")
    host_frames = frames_at(every(24), width=1280, height=height)
    frames = in_nv12(host_frames)
    settings = replace(settings_of(codec, live=live), threads=1)

    def on_device(frame: Frame) -> Frame:
        lease = pool.lend(stream)
        planes = nv12_of(frame.picture)
        cupy.cuda.runtime.memcpyAsync(lease.address, planes.ctypes.data, planes.nbytes, 1, stream.ptr)
        surface = Surface(
            lease=lease, width=1280, height=height, matrix="bt709", full_range=False, ready=recorded(stream)
        )
        return replace(frame, picture=surface)

    encoder = DownloadEncoder(settings, gpu)
    encoder.open()
    packets = [packet for frame in frames[:8] for packet in encoder.process(on_device(frame))]
    warm = gpu.counts.snapshot()
    packets += [packet for frame in frames[8:] for packet in encoder.process(on_device(frame))]
    spent = gpu.counts.snapshot() - warm
    packets += encoder.flush()
    encoder.close()
    expected = encoded(frames, settings)
    assert [(one.pts, one.dts, one.data) for one in packets] == [(one.pts, one.dts, one.data) for one in expected]
    assert (spent.pinned_allocations, spent.device_allocations) == (0, 0)
    assert spent.to_host_bytes == 16 * pool.block_bytes
    assert spent.host_waits <= 16
    pool.close()
    assert gpu.counts.snapshot().pinned_bytes == 0
