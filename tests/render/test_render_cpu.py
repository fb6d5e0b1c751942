from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
import pytest
from plugins.clips import moving_picture
from plugins.frames import frame_of, frames_of_clip, rgb_frame
from plugins.scores import in_16_bits

from vrseg.errors import ConfigError
from vrseg.frame import Detections, Segmentation
from vrseg.models.spec import ResolvedClass
from vrseg.postprocess.class_map import class_map, foreground_mask
from vrseg.render.cpu import make_render
from vrseg.render.picture import planes_of, yuv_of

if TYPE_CHECKING:
    from pathlib import Path

    from vrseg.config.schema import View
    from vrseg.frame import U8, Frame, Result

RED = ResolvedClass(name="person", color_rgb=(230, 30, 40))
BLUE = ResolvedClass(name="dog", color_rgb=(30, 60, 220))
NOTHING = ResolvedClass(name="nothing", color_rgb=(0, 0, 0), background=True)
DRAWN: tuple[View, ...] = ("overlay", "mask", "matte", "green", "blur")


def disc(size: int = 64, *, left: float = 0.5, top: float = 0.5, radius: float = 0.25) -> U8:
    """Scores of a round thing with an edge two pixels wide."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    distance = np.hypot(columns - left, rows - top)
    scores: U8 = np.clip((radius - distance) * size * 64 + 128, 0, 255).astype(np.uint8)
    return scores


def one_class(scores: U8) -> Segmentation:
    return Segmentation(scores=in_16_bits(scores[None]), class_ids=(0,))


def three_classes() -> Segmentation:
    person, dog = disc(left=0.3, radius=0.2), disc(left=0.7, radius=0.2)
    return Segmentation(scores=in_16_bits(np.stack([255 - np.maximum(person, dog), person, dog])), class_ids=(0, 1, 2))


def frame_like(pixel_format: str = "yuv420p", width: int = 320, height: int = 240) -> Frame:
    picture = moving_picture(width, height, 3).reformat(format=pixel_format)
    picture.pts = 5
    return frame_of(picture)


def draw(frame: Frame, result: Result | None, view: View, *classes: ResolvedClass, opacity: float = 0.5) -> Frame:
    render = make_render(view, opacity=opacity, classes=classes or (RED,))
    render.open()
    (drawn,) = render.process(replace(frame, result=result))
    assert list(render.flush()) == []
    render.close()
    render.close()
    return drawn


def rgb(frame: Frame) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    picture: av.VideoFrame = frame.picture
    return picture.to_ndarray(format="rgb24").astype(np.int16)


@pytest.mark.parametrize("view", [*DRAWN, "none"])
def test_a_frame_without_result_is_passed_through_untouched(view: View) -> None:
    frame = frame_like()
    assert draw(frame, None, view).picture is frame.picture


def test_the_plain_view_and_a_frame_where_nothing_was_found_need_no_copy() -> None:
    frame = frame_like()
    nobody = one_class(np.zeros((64, 64), np.uint8))
    assert draw(frame, nobody, "overlay").picture is frame.picture
    assert draw(frame, one_class(disc()), "none").picture is frame.picture
    no_boxes = Detections(
        boxes_xyxy=np.empty((0, 4), np.float32), scores=np.empty(0, np.float32), class_ids=np.empty(0, np.int64)
    )
    assert draw(frame, no_boxes, "overlay").picture is frame.picture


@pytest.mark.parametrize("view", DRAWN)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "nv12", "yuv420p10le", "yuv422p", "rgb24"])
def test_the_decoders_picture_is_never_written_to(view: View, pixel_format: str) -> None:
    frame = frame_like(pixel_format)
    before = [bytes(plane) for plane in frame.picture.planes]
    drawn = draw(frame, one_class(disc()), view)
    assert drawn.picture is not frame.picture
    assert [bytes(plane) for plane in frame.picture.planes] == before
    assert (drawn.picture.width, drawn.picture.height) == (320, 240)
    assert drawn.picture.format.name in {"yuv420p", "yuvj420p", "nv12"}


def test_a_picture_too_small_to_be_shrunken_is_not_written_to_either() -> None:
    frame = frame_like("nv12", width=64, height=48)
    before = [bytes(plane) for plane in frame.picture.planes]
    assert draw(frame, one_class(disc()), "blur").picture is not frame.picture
    assert [bytes(plane) for plane in frame.picture.planes] == before


def test_the_plane_that_stands_for_nothing_has_no_colour_and_is_no_foreground() -> None:
    frame, person = frame_like(), disc(radius=0.2)
    nothing = np.full_like(person, 127)
    for result in (
        Segmentation(scores=in_16_bits(np.stack([nothing, person])), class_ids=(255, 0)),
        Segmentation(scores=in_16_bits(nothing[None]), class_ids=(255,)),
    ):
        shown = rgb(draw(frame, result, "overlay"))
        assert (shown[:30] == rgb(frame)[:30]).all()
        grey = rgb(draw(frame, result, "green"))[:30]
        assert np.ptp(grey[..., 0]) <= 1, "nothing but the screen"


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "nv12", "yuv420p10le", "rgb24"])
def test_an_overlay_equals_the_same_mix_in_rgb(pixel_format: str) -> None:
    frame = frame_like(pixel_format)
    drawn, given = rgb(draw(frame, one_class(disc()), "overlay")), rgb(frame)
    inside = foreground_mask(one_class(disc()), 320, 240)[..., None] == 255
    expected = np.where(inside, (given + np.array(RED.color_rgb)) / 2, given)
    difference = np.abs(drawn - expected)
    assert difference.mean() < 2.0
    assert np.percentile(difference, 97) < 6, "but for soft edges and the rounding of chroma"


def test_opacity_is_what_it_says() -> None:
    frame = rgb_frame(np.full((64, 64, 3), 100, np.uint8))
    everywhere = one_class(np.full((8, 8), 255, np.uint8))
    for opacity in (0.0, 0.25, 0.75, 1.0):
        drawn = rgb(draw(frame, everywhere, "overlay", opacity=opacity))
        expected = 100 + (np.array(RED.color_rgb) - 100) * opacity
        assert np.abs(drawn - expected).max() <= 5


def test_outside_of_the_mask_not_a_bit_changes() -> None:
    frame = frame_like()
    drawn = draw(frame, one_class(disc(left=0.25, radius=0.1)), "overlay")
    before, after = planes_of(frame.picture), planes_of(drawn.picture)
    np.testing.assert_array_equal(after.y[:, 130:], before.y[:, 130:])
    np.testing.assert_array_equal(after.u[:, 65:], before.u[:, 65:])
    np.testing.assert_array_equal(after.v[:, 65:], before.v[:, 65:])
    assert (after.y[:, :130] != before.y[:, :130]).any()


def test_background_classes_are_not_coloured_and_each_other_class_has_its_colour() -> None:
    frame = frame_like()
    shown = rgb(draw(frame, three_classes(), "mask", NOTHING, RED, BLUE))
    classes = class_map(three_classes(), 320, 240)
    for class_id, style in enumerate((NOTHING, RED, BLUE)):
        inside = classes == class_id
        inside[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        difference = np.abs(shown[inside] - np.array(style.color_rgb))
        assert np.percentile(difference, 95) <= 6


@pytest.mark.parametrize(("width", "height"), [(320, 240), (321, 241), (100, 250), (17, 9), (398, 224)])
def test_the_mask_view_is_the_mask(width: int, height: int) -> None:
    frame = frame_like(width=width, height=height)
    shown = (
        planes_of(draw(frame, one_class(disc()), "mask").picture).y
        > 16 + (yuv_of(RED.color_rgb, frame.picture)[0] - 16) / 2
    )
    mask = foreground_mask(one_class(disc()), width, height) == 255
    assert (shown & mask).sum() / (shown | mask).sum() > 0.99


def test_the_matte_is_the_probability_as_grey() -> None:
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    frame = frame_like(width=64, height=64)
    drawn = planes_of(draw(frame, one_class(ramp), "matte").picture)
    np.testing.assert_allclose(drawn.y, 16 + ramp * (219 / 255), atol=1)
    assert set(np.unique(drawn.u)) | set(np.unique(drawn.v)) == {128}


def test_the_matte_of_a_full_range_picture_is_full_range() -> None:
    frame = frame_like("yuvj420p", width=64, height=64)
    drawn = planes_of(draw(frame, one_class(np.full((8, 8), 255, np.uint8)), "matte").picture)
    assert int(drawn.y.min()) == 255


@pytest.mark.parametrize("view", ["green", "blur"])
def test_the_foreground_is_kept_and_the_background_replaced(view: Literal["green", "blur"]) -> None:
    frame = frame_like()
    drawn, given = rgb(draw(frame, one_class(disc()), view)), rgb(frame)
    assert np.abs(drawn[100:140, 140:180] - given[100:140, 140:180]).max() <= 3, "the middle of the disc"
    if view == "green":
        red, green, blue = drawn[5, 5]
        assert green > 150 > max(red, blue) + 50
    else:
        sharp, soft = (np.abs(np.diff(image[:, :60], axis=1)).max() for image in (given, drawn))
        assert soft < sharp / 3


def test_the_blur_takes_nothing_from_the_foreground() -> None:
    image = np.full((240, 320, 3), 40, np.uint8)
    rows, columns = np.mgrid[0:240, 0:320]
    image[np.hypot((columns - 160) / 320, (rows - 120) / 240) < 0.25] = 255
    drawn = rgb(draw(rgb_frame(image), one_class(disc(radius=0.26)), "blur"))
    ring = np.hypot((columns - 160) / 320, (rows - 120) / 240) > 0.30
    assert int(drawn[ring].max()) < 60, "no light around it"


@pytest.mark.parametrize(
    ("colorspace", "color_range", "expected"),
    [
        (1, 1, (63, 102, 240)),  # BT.709, limited
        (5, 1, (81, 90, 240)),  # BT.601, limited
        (1, 2, (54, 99, 255)),  # BT.709, full
        (5, 2, (76, 85, 255)),  # BT.601, full
    ],
)
def test_pure_red_in_the_matrix_and_range_of_the_picture(
    colorspace: int, color_range: int, expected: tuple[int, int, int]
) -> None:
    picture = av.VideoFrame(64, 64, "yuv420p")
    picture.colorspace, picture.color_range = colorspace, color_range
    assert yuv_of((255, 0, 0), picture) == expected


def test_colour_tags_are_kept() -> None:
    frame = frame_like()
    frame.picture.colorspace, frame.picture.color_range = 1, 1
    frame.picture.color_primaries, frame.picture.color_trc = 1, 1
    for view in DRAWN:
        drawn = draw(frame, one_class(disc()), view).picture
        tags = (drawn.colorspace, drawn.color_range, drawn.color_primaries, drawn.color_trc)
        assert tags == (1, 1, 1, 1), view


def boxes_at(*edges: tuple[float, float, float, float]) -> Detections:
    count = len(edges)
    return Detections(
        boxes_xyxy=np.array(edges, np.float32),
        scores=np.linspace(0.9, 0.5, count, dtype=np.float32),
        class_ids=np.zeros(count, np.int64),
    )


def is_red(image: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray((image[..., 0] > 180) & (image[..., 1] < 90) & (image[..., 2] < 100))


def test_boxes_are_outlined_in_the_class_colour_with_a_label_above() -> None:
    frame = rgb_frame(np.full((240, 320, 3), 128, np.uint8))
    shown = rgb(draw(frame, boxes_at((100, 80, 200, 180)), "overlay"))
    red = is_red(shown)
    assert red[80:180, 100].all()
    assert red[80:180, 199].all()
    assert red[81, 100:200].all()
    assert red[178, 100:200].all()
    assert (np.abs(shown[100:160, 110:190] - 128) <= 2).all(), "the inside is as it was"
    label = shown[60:80, 100:180]
    assert is_red(label).any(axis=1).sum() >= 10
    assert (label.min(axis=-1) > 200).sum() > 30, "white letters on red"


@pytest.mark.parametrize(
    "edges",
    [(-5, -5, 20, 20), (300, 0, 330, 30), (0, 230, 10, 245), (310, 230, 320, 240), (0, 0, 320, 240), (50, 50, 50, 50)],
)
def test_labels_and_boxes_stay_inside_the_picture(edges: tuple[float, float, float, float]) -> None:
    frame = rgb_frame(np.full((240, 320, 3), 128, np.uint8))
    shown = rgb(draw(frame, boxes_at(edges), "overlay"))
    assert (shown.min(axis=-1) > 200).sum() > 30, "the whole label is there"


@pytest.mark.parametrize("size", [(16, 16), (8, 200), (33, 21)])
def test_tiny_pictures_are_survived(size: tuple[int, int]) -> None:
    frame = frame_like(width=size[0], height=size[1])
    for view in DRAWN:
        draw(frame, boxes_at((1, 1, 7, 7), (-3, 4, 60, 50)), view)
        draw(frame, one_class(disc(8)), view)


@pytest.mark.parametrize("rotation_deg", [90, 180, 270])
def test_labels_are_upright_when_the_picture_is_shown_turned(rotation_deg: int) -> None:
    upright = rgb_frame(np.full((240, 320, 3), 128, np.uint8))
    expected = rgb(draw(upright, boxes_at((100, 80, 200, 180)), "overlay"))
    # The same scene by a camera that was held otherwise: turning its picture clockwise shows it upright.
    edges = {90: (80, 120, 180, 220), 180: (120, 60, 220, 160), 270: (60, 100, 160, 200)}[rotation_deg]
    coded_shape = (240, 320, 3) if rotation_deg == 180 else (320, 240, 3)
    turned = rgb_frame(np.full(coded_shape, 128, np.uint8), rotation_deg=rotation_deg)
    shown = np.rot90(rgb(draw(turned, boxes_at(edges), "overlay")), -rotation_deg // 90)
    assert (np.abs(shown - expected).max(axis=-1) > 12).mean() < 0.002


def test_boxes_have_a_meaning_in_every_view() -> None:
    frame = rgb_frame(np.full((240, 320, 3), 128, np.uint8))
    boxes = boxes_at((100, 80, 200, 180), (220, 40, 300, 60))
    mask = rgb(draw(frame, boxes, "mask"))
    assert is_red(mask[90:170, 110:190]).all()
    assert (mask[:30] < 8).all()
    assert (rgb(draw(frame, boxes, "matte"))[90:170, 110:190] > 250).all()
    assert (np.abs(rgb(draw(frame, boxes, "green"))[90:170, 110:190] - 128) <= 2).all()
    assert (np.abs(rgb(draw(frame, boxes, "blur"))[90:170, 110:190] - 128) <= 2).all()


def test_a_class_without_a_name_is_shown_by_its_number() -> None:
    frame = rgb_frame(np.full((240, 320, 3), 128, np.uint8))
    unknown = replace(boxes_at((100, 80, 200, 180)), class_ids=np.array([41]))
    assert (np.abs(rgb(draw(frame, unknown, "overlay")) - 128) > 20).any()


def test_a_view_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="view alpha-pack is not in this version; choose one of overlay, mask"):
        make_render("alpha-pack", opacity=0.5, classes=(RED,))


def test_an_overlay_of_full_hd_costs_little() -> None:
    frame = frame_like(width=1920, height=1080)
    render = make_render("overlay", opacity=0.5, classes=(RED,))
    frame = replace(frame, result=one_class(disc(256, radius=0.3)))
    costs_s = []
    for _ in range(15):
        began_s = time.process_time()
        list(render.process(frame))
        costs_s.append(time.process_time() - began_s)
    # A plain RGB mix costs 60 ms; the measured 1 ms leaves room for a slow machine.
    assert min(costs_s) < 0.008


@pytest.mark.material
def test_a_real_clip_in_every_view(media_dir: Path) -> None:
    (frame,) = frames_of_clip(media_dir / "person_walking_768x432_10fps.mp4", {0})
    for view in DRAWN:
        drawn = draw(frame, one_class(disc()), view)
        assert drawn.picture.colorspace == frame.picture.colorspace
        assert (drawn.width, drawn.height) == (768, 432)
