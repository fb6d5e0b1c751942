from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.box_filter import box_rgb
from plugins.frames import frame_of, frames_of_clip, rgb_frame
from plugins.surfaces import noise

from vrseg.models.spec import InputSpec, ModelSpec, ThresholdSpec
from vrseg.preprocess.cpu import SwscalePreprocess
from vrseg.preprocess.placement import place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vrseg.frame import U8, Batch, Frame

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def spec_of(**keys: Any) -> ModelSpec:
    usual: dict[str, Any] = {
        "name": "picture",
        "width": 48,
        "height": 32,
        "layout": "nchw",
        "color": "rgb",
        "dtype": "float32",
        "scale": 1.0,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "fit": "stretch",
        "anchor": "center",
        "pad": 0,
    }
    return ModelSpec(
        name="body",
        path=None,  # type: ignore[arg-type]  # no file is opened here
        task="segment",
        input=InputSpec(**(usual | keys)),
        batch=None,
        outputs=("scores",),
        decode="probability",
        channels_last=False,
        classes=(),
        thresholds=ThresholdSpec(mask=0.5, score=0.3, iou=0.45, max_boxes=300),
        licence=None,
        title="",
    )


def run(frames: Sequence[Frame], **keys: Any) -> Batch:
    stage = SwscalePreprocess(spec_of(**keys))
    stage.open()
    (batch,) = stage.process(tuple(frames))
    stage.close()
    return batch


def plain(color: tuple[int, int, int], width: int = 96, height: int = 64) -> U8:
    return np.full((height, width, 3), color, np.uint8)


def quarters(width: int, height: int) -> U8:
    """Red, green in the upper half; blue, white in the lower."""
    image = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    image[:top, :left], image[:top, left:], image[top:, :left], image[top:, left:] = RED, GREEN, BLUE, WHITE
    return image


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_colours_arrive_in_the_order_layout_and_type_of_the_model(layout: str, color: str, dtype: str) -> None:
    batch = run([rgb_frame(plain((200, 100, 50)))], layout=layout, color=color, dtype=dtype)
    tensor = batch.tensor if layout == "nhwc" else batch.tensor.transpose(0, 2, 3, 1)
    assert tensor.shape == (1, 32, 48, 3)
    assert tensor.dtype == dtype
    expected = (200, 100, 50) if color == "rgb" else (50, 100, 200)
    np.testing.assert_allclose(tensor.astype(float), np.broadcast_to(expected, tensor.shape), atol=1)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_pixels_are_scaled_then_centred_then_divided(dtype: str, layout: str) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    batch = run([rgb_frame(plain((255, 128, 0)))], scale=1 / 255, mean=mean, std=std, dtype=dtype, layout=layout)
    tensor = batch.tensor if layout == "nhwc" else batch.tensor.transpose(0, 2, 3, 1)
    expected = (np.array([1, 128 / 255, 0]) - mean) / std
    np.testing.assert_allclose(tensor[0, 16, 24].astype(float), expected, atol=0.02)


def test_a_letterbox_keeps_the_shape_and_is_padded_around() -> None:
    batch = run([rgb_frame(plain(WHITE, 100, 100))], fit="letterbox", pad=114)
    (placement,) = batch.placements
    assert (placement.left, placement.top, placement.width, placement.height) == (8, 0, 32, 32)
    picture = batch.tensor[0, 0]
    assert (picture[:, :8] == 114).all()
    assert (picture[:, 40:] == 114).all()
    assert (picture[:, 8:40] == 255).all()


def test_the_padding_is_normalised_like_the_picture() -> None:
    batch = run([rgb_frame(plain(WHITE, 40, 100))], fit="letterbox", scale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert batch.tensor[0, 0, 0, 0] == -1
    assert batch.tensor[0, 0, 16, 24] == pytest.approx(1, abs=0.01)


def test_padding_is_right_when_frames_of_different_shapes_follow_each_other_in_a_buffer() -> None:
    stage = SwscalePreprocess(spec_of(fit="letterbox", pad=7, anchor="top-left"))
    stage.open()
    wide, tall = rgb_frame(plain(WHITE, 96, 20)), rgb_frame(plain(WHITE, 20, 96))
    for frames in ([wide, tall], [tall, wide]) * 6:
        (batch,) = stage.process(tuple(frames))
        for picture, placement in zip(batch.tensor, batch.placements, strict=True):
            expected = np.full((32, 48), 7.0)
            expected[: placement.height, : placement.width] = 255
            np.testing.assert_allclose(picture[0], expected, atol=1)
    stage.close()


def test_a_batch_stays_valid_while_the_next_three_are_made() -> None:
    stage = SwscalePreprocess(spec_of())
    stage.open()
    batches = [batch for value in (10, 60, 110, 160) for batch in stage.process((rgb_frame(plain((value,) * 3)),))]
    assert [round(float(batch.tensor.mean())) for batch in batches] == [10, 60, 110, 160]


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_turned_frame_stands_upright_in_the_tensor(rotation: int, layout: str) -> None:
    upright = quarters(96, 64)
    coded = np.ascontiguousarray(np.rot90(upright, rotation // 90))
    batch = run([rgb_frame(coded, rotation_deg=rotation)], layout=layout)
    tensor = batch.tensor[0] if layout == "nhwc" else batch.tensor[0].transpose(1, 2, 0)
    for (y, x), color in {(4, 4): RED, (4, 44): GREEN, (28, 4): BLUE, (28, 44): WHITE}.items():
        np.testing.assert_allclose(tensor[y, x], color, atol=2)


def test_a_turned_frame_is_letterboxed_by_its_upright_shape() -> None:
    batch = run([rgb_frame(plain(WHITE, 64, 32), rotation_deg=90)], fit="letterbox")
    (placement,) = batch.placements
    assert (placement.width, placement.height, placement.rotation_deg) == (16, 32, 90)
    assert batch.tensor[0, 0].sum() == pytest.approx(255 * 16 * 32)


def yuv_frame(rgb: tuple[int, int, int], size: tuple[int, int], space: str, *, full: bool, name: str) -> Frame:
    """A plain colour, converted to YUV here by the textbook, tagged unless `space` says otherwise."""
    kr, kb = (0.2126, 0.0722) if "709" in space else (0.299, 0.114)
    r, g, b = (value / 255 for value in rgb)
    luma = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - luma) / (2 - 2 * kb), (r - luma) / (2 - 2 * kr)
    values = (255 * luma, 128 + 255 * cb, 128 + 255 * cr) if full else (16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr)
    picture = av.VideoFrame(*size, name)
    for plane, value in zip(picture.planes, values, strict=True):
        deep = "10" in name
        number = round(value * 4) if deep else min(255, round(value))
        dtype = np.uint16 if deep else np.uint8
        plane.update(np.full(plane.buffer_size // dtype().itemsize, number, dtype).tobytes())
    if "untagged" not in space:
        picture.colorspace = 1 if "709" in space else 5
    if full:
        picture.color_range = 2
    return frame_of(picture)


@pytest.mark.parametrize("rgb", [(255, 0, 0), (10, 200, 60), (200, 180, 30)])
@pytest.mark.parametrize(
    ("space", "size", "full", "name"),
    [
        ("bt709", (64, 48), False, "yuv420p"),
        ("bt601", (64, 48), False, "yuv420p"),
        ("bt601", (1280, 720), False, "yuv420p"),
        ("untagged bt601", (720, 576), False, "yuv420p"),
        ("untagged bt709", (1280, 720), False, "yuv420p"),
        ("bt601", (64, 48), True, "yuvj420p"),
        ("bt709", (64, 48), True, "yuv420p"),
        ("bt709", (64, 48), False, "yuv420p10le"),
        ("bt709", (64, 48), False, "yuv444p"),
    ],
)
def test_matrix_and_range_follow_the_tags_and_the_height_where_there_are_none(
    rgb: tuple[int, int, int], space: str, size: tuple[int, int], full: bool, name: str
) -> None:
    batch = run([yuv_frame(rgb, size, space, full=full, name=name)])
    np.testing.assert_allclose(batch.tensor[0, :, 16, 24], rgb, atol=4)


def test_frames_of_many_sizes_share_a_batch_and_keep_their_order() -> None:
    frames = [rgb_frame(plain((30 * n,) * 3, 33 + 7 * n, 21 + 5 * n), index=n) for n in range(1, 8)]
    batch = run(frames)
    assert [frame.index for frame in batch.frames] == list(range(1, 8))
    assert [round(float(one.mean()) / 30) for one in batch.tensor] == list(range(1, 8))


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 0.012), ("float16", 0.04), ("uint8", 0.27)])
@pytest.mark.parametrize("size", [(256, 256), (416, 234), (256, 144), (640, 480), (1024, 1024)])
@pytest.mark.parametrize("clip", ["person_walking_768x432_10fps", "person_closeup_640x480_30fps"])
@pytest.mark.material
def test_every_pixel_is_the_mean_of_a_box(
    media_dir: Path, clip: str, size: tuple[int, int], dtype: str, limit: float
) -> None:
    """Of luma and chroma, with fractions. Rounding to whole levels alone costs 0.25, to float16 about 0.03."""
    (frame,) = frames_of_clip(media_dir / f"{clip}.mp4", {32})
    batch = run([frame], width=size[0], height=size[1], layout="nhwc", dtype=dtype)
    assert np.abs(batch.tensor[0] - box_rgb(frame.picture, *size)).mean() <= limit


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize(("lumas", "level"), [(range(235, 255), 255), (range(1, 17), 0)])
def test_what_is_whiter_than_white_is_white_and_blacker_than_black_black(
    dtype: str, lumas: Sequence[int], level: int
) -> None:
    picture = av.VideoFrame(96, 64, "yuv420p")
    for number, plane in enumerate(picture.planes):
        slope = np.linspace(lumas[0], lumas[-1], plane.line_size) if number == 0 else np.full(plane.line_size, 128)
        plane.update(np.tile(slope.astype(np.uint8), (plane.height, 1)).tobytes())
    tensor = run([frame_of(picture)], dtype=dtype).tensor
    assert tensor.max() <= 255
    assert tensor.min() >= 0
    np.testing.assert_allclose(tensor.astype(float), level, atol=0.02)


def test_float16_is_what_float32_would_be_rounded() -> None:
    normal = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    frame = frame_of(noise(130, 70))
    exact, half = (run([frame], dtype=dtype, **normal).tensor for dtype in ("float32", "float16"))
    apart = np.abs(half.astype(np.float32) - exact)
    assert (apart <= np.abs(exact) * 2.0**-11 + 1e-6).all()


SIDES = st.integers(2, 4000)


@given(SIDES, SIDES, st.sampled_from([0, 90, 180, 270]), st.sampled_from(["center", "top-left"]))
def test_a_letterboxed_frame_lies_inside_and_touches_two_sides(
    width: int, height: int, rotation: int, anchor: str
) -> None:
    target = spec_of(fit="letterbox", anchor=anchor, width=416, height=256).input
    placed = place(width, height, rotation, target)
    assert placed.left >= 0
    assert placed.top >= 0
    assert placed.left + placed.width <= 416
    assert placed.top + placed.height <= 256
    assert placed.width == 416 or placed.height == 256
    upright = (height, width) if rotation in (90, 270) else (width, height)
    ratio = min(416 / upright[0], 256 / upright[1])
    assert abs(placed.width - upright[0] * ratio) <= 1
    assert abs(placed.height - upright[1] * ratio) <= 1
    assert (placed.frame_width, placed.frame_height) == (width, height)


@given(st.integers(2, 70), st.integers(2, 70))
def test_every_small_and_odd_size_is_scaled(width: int, height: int) -> None:
    batch = run([rgb_frame(plain((90, 90, 90), width, height))])
    np.testing.assert_allclose(batch.tensor, 90, atol=2)


def test_close_is_safe_at_any_time() -> None:
    stage = SwscalePreprocess(spec_of())
    stage.close()
    stage.open()
    stage.close()
    stage.close()
