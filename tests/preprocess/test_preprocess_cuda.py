"""The CUDA kernel against the CPU path: with the pretence of a GPU everywhere, and on a real one where there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from plugins.box_filter import box_rgb
from plugins.frames import frame_of, frames_of_clip
from plugins.gpu_on_cpu import download
from plugins.heads import toy_spec
from plugins.surfaces import COLORSPACES, noise, planes_of, surface_of

from vrseg.gpu.lane import Lane
from vrseg.gpu.memory import recorded, wait_for
from vrseg.preprocess.cpu import SwscalePreprocess
from vrseg.preprocess.cuda import CudaPreprocess
from vrseg.preprocess.placement import place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from vrseg.frame import Frame
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.surface import ChromaSiting, Matrix
    from vrseg.models.spec import InputSpec

AS_IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
AS_IT_IS = {"scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}


def target_of(**keys: Any) -> InputSpec:
    usual: dict[str, Any] = {"width": 48, "height": 32, "fit": "stretch", "pad": 114, **AS_IT_IS}
    return replace(toy_spec().input, **(usual | keys))


def on_gpu(gpu: Gpu, frames: Sequence[Frame], target: InputSpec, siting: ChromaSiting = "center") -> npt.NDArray[Any]:
    lane = Lane(gpu, replace(toy_spec(), input=target), max_batch=len(frames))
    stage = CudaPreprocess(lane)
    stage.open()
    stream = lane.open()
    item = tuple(replace(frame, picture=surface_of(gpu, stream, frame.picture, siting)) for frame in frames)
    (batch,) = stage.process(item)
    wait_for(gpu, recorded(stream))
    assert batch.frames == item
    assert batch.placements == tuple(place(one.width, one.height, one.rotation_deg, target) for one in frames)
    stage.close()
    return download(batch.tensor)


def on_cpu(frames: Sequence[Frame], target: InputSpec) -> npt.NDArray[Any]:
    stage = SwscalePreprocess(replace(toy_spec(), input=target))
    stage.open()
    (batch,) = stage.process(tuple(frames))
    tensor: npt.NDArray[Any] = batch.tensor
    return tensor


def assert_same(
    gpu: Gpu, frames: Sequence[Frame], target: InputSpec, siting: ChromaSiting = "center", *, mean: float, most: float
) -> None:
    """Compare in levels of 255. What is apart is swscale's: see `test_every_pixel_is_the_mean_of_a_box`."""
    mine, expected = on_gpu(gpu, frames, target, siting), on_cpu(frames, target)
    assert mine.dtype == expected.dtype == target.dtype
    assert mine.shape == expected.shape
    channels = (1, 3, 1, 1) if target.layout == "nchw" else (1, 1, 1, 3)
    level = np.reshape([1.0] * 3 if target.dtype == "uint8" else target.scale / np.array(target.std), channels)
    apart = np.abs(mine.astype(np.float64) - expected.astype(np.float64)) / level
    assert apart.mean() <= mean
    assert apart.max() <= most


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_layout_order_and_type_are_those_of_the_cpu_path(any_gpu: Gpu, layout: str, color: str, dtype: str) -> None:
    target = target_of(layout=layout, color=color, dtype=dtype, **(AS_IT_IS if dtype == "uint8" else AS_IMAGENET))
    assert_same(any_gpu, [frame_of(noise(130, 70))], target, mean=0.02, most=1.0 if dtype == "uint8" else 0.15)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("anchor", ["center", "top-left"])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("size", [(130, 44), (44, 130)])
def test_turned_and_letterboxed_frames_lie_where_the_cpu_path_puts_them(
    any_gpu: Gpu, size: tuple[int, int], rotation: int, anchor: str, layout: str
) -> None:
    target = target_of(width=83, height=71, fit="letterbox", anchor=anchor, layout=layout, **AS_IMAGENET)
    assert_same(any_gpu, [frame_of(noise(*size), rotation_deg=rotation)], target, mean=0.015, most=0.25)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_colours_follow_matrix_range_and_depth(any_gpu: Gpu, matrix: Matrix, full_range: bool, deep: bool) -> None:
    picture = noise(150, 90, matrix=matrix, full_range=full_range, deep=deep)
    assert_same(any_gpu, [frame_of(picture)], target_of(), mean=0.015, most=0.1)


SIZES = [
    ((640, 360), (512, 512)),  # one axis shrinks, one grows
    ((1920, 1080), (512, 512)),
    ((854, 480), (416, 416)),  # rows that are no whole words
    ((768, 432), (144, 256)),  # two rounds of words
    ((1280, 720), (100, 100)),  # more rounds
    ((1278, 720), (96, 30)),
    ((160, 90), (512, 333)),
    ((100, 60), (333, 77)),
    ((96, 64), (95, 64)),
    ((6, 4), (17, 9)),  # narrower than a round
    ((2, 2), (5, 3)),
    ((20, 1000), (7, 9)),
]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("size", "target_size"), SIZES)
def test_every_ratio_is_scaled_as_on_the_cpu(
    any_gpu: Gpu, size: tuple[int, int], target_size: tuple[int, int], deep: bool
) -> None:
    """On noise, where swscale's steps of 1/65536 of a sample show: it is a level off where they add up."""
    width, height = target_size
    target = target_of(width=width, height=height)
    assert_same(any_gpu, [frame_of(noise(*size, deep=deep))], target, mean=0.12, most=1.2)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("size", "target_size"), SIZES)
def test_every_pixel_is_the_mean_of_a_box(
    any_gpu: Gpu, size: tuple[int, int], target_size: tuple[int, int], deep: bool
) -> None:
    """Weights have 16 bits."""
    picture = noise(*size, deep=deep)
    tensor = on_gpu(any_gpu, [frame_of(picture)], target_of(width=target_size[0], height=target_size[1]))
    apart = np.abs(tensor[0].transpose(1, 2, 0) - box_rgb(picture, *target_size, chroma_shift=0.0))
    assert apart.mean() <= 0.002
    assert apart.max() <= 0.03


@pytest.mark.parametrize("seed", range(20))
def test_any_sizes_turns_and_fits_agree(any_gpu: Gpu, seed: int) -> None:
    chance = np.random.default_rng(seed)
    frames = []
    for index in range(3):
        width, height = (2 * int(side) for side in chance.integers(1, 120, 2))
        picture = noise(width, height, deep=bool(chance.integers(2)), seed=seed)
        frames.append(frame_of(picture, index=index, rotation_deg=90 * int(chance.integers(4))))
    width, height = (int(side) for side in chance.integers(4, 120, 2))
    fit = str(chance.choice(["stretch", "letterbox"]))
    assert_same(any_gpu, frames, target_of(width=width, height=height, fit=fit), mean=0.05, most=0.5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_picture_that_keeps_its_size_agrees(any_gpu: Gpu, deep: bool, dtype: str) -> None:
    """FFmpeg has quick ways for these, which must not be taken."""
    frame = frame_of(noise(64, 48, deep=deep))
    most = {"float32": 0.03, "float16": 0.15, "uint8": 1.0}[dtype]
    assert_same(any_gpu, [frame], target_of(width=64, height=48, dtype=dtype), mean=0.015, most=most)


def test_a_picture_that_keeps_its_size_keeps_its_luma(any_gpu: Gpu) -> None:
    picture = noise(64, 48)
    for plane in picture.planes[1:]:
        plane.update(bytes([128]) * plane.buffer_size)
    luma = planes_of(picture)[:48].astype(np.float64)
    expected = np.broadcast_to((luma - 16) * 255 / 219, (3, 48, 64))
    tensor = on_gpu(any_gpu, [frame_of(picture)], target_of(width=64, height=48))
    np.testing.assert_allclose(tensor[0], expected, atol=1e-4)
    whole = on_gpu(any_gpu, [frame_of(picture)], target_of(width=64, height=48, dtype="uint8"))
    np.testing.assert_array_equal(whole[0], np.rint(expected))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_what_is_out_of_range_is_cut_off_to_0_and_255(any_gpu: Gpu, dtype: str) -> None:
    """By all kernels: see `fill_quickly` and `fill`."""
    for width in (64, 66, 260, 800):
        picture = noise(width, 48, full_range=True)
        picture.color_range = 1
        tensor = on_gpu(any_gpu, [frame_of(picture)], target_of(width=64, height=48, dtype=dtype))
        assert tensor.min() == 0
        assert tensor.max() == 255


@pytest.mark.parametrize(("siting", "shifts"), [("left", (0.25, 0)), ("top-left", (0.25, 0.25)), ("center", (0, 0))])
def test_chroma_is_read_where_it_was_sampled(any_gpu: Gpu, siting: ChromaSiting, shifts: tuple[float, float]) -> None:
    """On a slope of 8 levels per sample of chroma, a shift of a quarter is 2 levels of Cr."""
    red_of_cr = 2 * (1 - 0.2126) * 255 / 224
    for axis, shift in zip((1, 0), shifts, strict=True):
        picture = av.VideoFrame(48, 48, "nv12").reformat(format="yuv420p")
        picture.colorspace, picture.color_range = COLORSPACES["bt709"], 1
        for plane, number in zip(picture.planes, (128, 128, None), strict=True):
            slope = np.indices((plane.height, plane.line_size))[axis] * 8 + 32
            values = slope if number is None else np.full_like(slope, number)
            plane.update(np.minimum(values, 224).astype(np.uint8).tobytes())
        target = target_of(width=96, height=96)
        moved = on_gpu(any_gpu, [frame_of(picture)], target, siting) - on_gpu(any_gpu, [frame_of(picture)], target)
        assert moved[0, 0, 24:72, 24:72].mean() == pytest.approx(8 * shift * red_of_cr, abs=0.2)


@pytest.mark.material
@pytest.mark.parametrize("clip", ["person_walking_768x432_10fps", "person_closeup_640x480_30fps"])
@pytest.mark.parametrize("size", [(256, 256), (416, 416), (255, 143), (1024, 1024)])
def test_real_frames_agree(any_gpu: Gpu, media_dir: Path, clip: str, size: tuple[int, int]) -> None:
    (frame,) = frames_of_clip(media_dir / f"{clip}.mp4", {32})
    width, height = size
    target = target_of(width=width, height=height, fit="letterbox")
    assert_same(any_gpu, [frame], target, "left", mean=0.01, most=0.4)


@pytest.mark.material
@pytest.mark.parametrize("clip", ["person_walking_768x432_10fps", "person_closeup_640x480_30fps"])
@pytest.mark.parametrize("size", [(256, 256), (416, 234), (1024, 1024)])
def test_real_frames_are_means_of_boxes(any_gpu: Gpu, media_dir: Path, clip: str, size: tuple[int, int]) -> None:
    (frame,) = frames_of_clip(media_dir / f"{clip}.mp4", {32})
    tensor = on_gpu(any_gpu, [frame], target_of(width=size[0], height=size[1]), "left")
    apart = np.abs(tensor[0].transpose(1, 2, 0) - box_rgb(frame.picture, *size))
    assert apart.mean() <= 0.001
    assert apart.max() <= 0.01


def test_a_batch_of_many_sizes_is_one_launch_and_keeps_its_order(any_gpu: Gpu) -> None:
    """The kernel that takes them all adds up in another order than those that take them alone: the last bits differ."""
    sizes = [(640, 360), (854, 480), (128, 96), (34, 300), (1920, 1080), (64, 64), (66, 30), (300, 200)]
    frames = [
        frame_of(noise(*size, seed=index, deep=index == 2), index=index, rotation_deg=90 * (index % 4))
        for index, size in enumerate(sizes)
    ]
    target = target_of(fit="letterbox")
    before = any_gpu.counts.snapshot()
    together = on_gpu(any_gpu, frames, target)
    assert (any_gpu.counts.snapshot() - before).launches == 1
    for tensor, frame in zip(together, frames, strict=True):
        np.testing.assert_allclose(tensor, on_gpu(any_gpu, [frame], target)[0], rtol=0, atol=0.0002)


def test_more_than_16_frames_take_a_second_launch(any_gpu: Gpu) -> None:
    frames = [frame_of(noise(64, 50, seed=index), index=index) for index in range(19)]
    before = any_gpu.counts.snapshot()
    together = on_gpu(any_gpu, frames, target_of())
    assert (any_gpu.counts.snapshot() - before).launches == 2
    np.testing.assert_array_equal(together[18], on_gpu(any_gpu, frames[18:], target_of())[0])


def test_in_steady_state_nothing_is_allocated_and_nobody_waits(any_gpu: Gpu) -> None:
    lane = Lane(any_gpu, replace(toy_spec(), input=target_of()), max_batch=2)
    stage = CudaPreprocess(lane)
    stage.open()
    stream = lane.open()
    frames = tuple(frame_of(noise(80, 60, seed=index)) for index in range(2))
    item = tuple(replace(frame, picture=surface_of(any_gpu, stream, frame.picture)) for frame in frames)
    addresses = set()
    for round_ in range(5):
        before = any_gpu.counts.snapshot()
        (batch,) = stage.process(item[: 1 + round_ % 2])
        batch.tensor.lease.release()  # as an engine does
        addresses.add(batch.tensor.address)
        done = any_gpu.counts.snapshot() - before
        assert (done.launches, done.host_waits, done.pinned_allocations) == (1, 0, 0)
        assert done.device_allocations == (round_ == 0)
    assert len(addresses) == 1
    assert list(stage.flush()) == []


def test_surfaces_are_not_lent_again_before_they_were_read(any_gpu: Gpu) -> None:
    lane = Lane(any_gpu, replace(toy_spec(), input=target_of()), max_batch=1)
    stage = CudaPreprocess(lane)
    stage.open()
    surface = surface_of(any_gpu, lane.open(), noise(64, 64))
    block = surface.lease._block
    assert block is not None
    noted = len(block.uses)
    list(stage.process((replace(frame_of(noise(64, 64)), picture=surface),)))
    assert len(block.uses) == noted + 1


def test_close_is_safe_at_any_time(any_gpu: Gpu) -> None:
    stage = CudaPreprocess(Lane(any_gpu, toy_spec(), max_batch=1))
    stage.close()
    stage.open()
    stage.close()
    stage.close()
