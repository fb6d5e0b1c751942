from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from plugins.frames import frames_of_clip
from plugins.painted import drawn_on_cpu, drawn_on_gpu, planes, surface_of, tagged
from plugins.to_draw import CLASSES, CROWD, DOG, PERSON, VIEWS, WALL, boxes, frame_like, noise, person, person_and_dog

from vrseg.frame import Segmentation
from vrseg.models.spec import ResolvedClass
from vrseg.postprocess.class_map import NOTHING
from vrseg.render.cuda import PaintStyle

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.painted import Yuv420

    from vrseg.config.schema import View
    from vrseg.frame import Frame, Result
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.surface import Matrix


def both(
    gpu: Gpu, frame: Frame, result: Result, view: View, classes: tuple[ResolvedClass, ...], opacity: float = 0.5
) -> tuple[Yuv420, Yuv420]:
    """The picture of the GPU path, and that of the CPU path."""
    carried = replace(frame, result=result)
    style = PaintStyle(view=view, opacity=opacity, classes=classes)
    (drawn,) = drawn_on_gpu(gpu, [carried], {frame.stream: style})
    return drawn, drawn_on_cpu(carried, view, opacity, classes)


def assert_alike(drawn: Yuv420, expected: Yuv420, view: View = "overlay", mean: float = 0.05, most: int = 4) -> None:
    # The blur passes through two scalers, each of which rounds in its own way.
    assert drawn.off(expected) <= (max(mean, 0.5) if view == "blur" else mean)
    assert drawn.most(expected) <= (max(most, 8) if view == "blur" else most)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("result", [person(), person_and_dog()], ids=["one class", "several classes"])
@pytest.mark.parametrize(("matrix", "full_range"), [("bt601", False), ("bt709", True), ("bt2020", False)])
def test_a_view_is_that_of_the_cpu(
    any_gpu: Gpu, view: View, result: Segmentation, matrix: Matrix, *, full_range: bool
) -> None:
    classes = CLASSES if len(result.class_ids) > 1 else (PERSON,)
    drawn, expected = both(any_gpu, frame_like(matrix=matrix, full_range=full_range), result, view, classes)
    assert_alike(drawn, expected, view)


@pytest.mark.parametrize("view", VIEWS)
def test_sixteen_bits_become_the_eight_that_encoders_want(any_gpu: Gpu, view: View) -> None:
    drawn, expected = both(any_gpu, frame_like(pixel_format="p010le"), person_and_dog(), view, CLASSES)
    # The CPU's scaler dithers: a sample may come out next to what it would be rounded to.
    assert_alike(drawn, expected, view, mean=0.5, most=6)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("width", "height"), [(322, 182), (62, 34), (34, 62), (130, 514)])
def test_sizes_need_no_common_factor(any_gpu: Gpu, view: View, width: int, height: int) -> None:
    for result in (person(19, 23, softness=0.3), person_and_dog(31, 17, softness=0.3)):
        classes = CLASSES if len(result.class_ids) > 1 else (PERSON,)
        drawn, expected = both(any_gpu, frame_like(width, height), result, view, classes)
        # The CPU enlarges only the area that matters, which moves samples by a fraction of the little that is left.
        assert_alike(drawn, expected, view, mean=0.6, most=12)


@pytest.mark.parametrize("opacity", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("threshold", [0, 50, 127, 250, 255])
def test_opacity_and_threshold_decide_as_on_the_cpu(any_gpu: Gpu, opacity: float, threshold: int) -> None:
    result = person(softness=0.5, threshold=threshold)
    drawn, expected = both(any_gpu, frame_like(), result, "overlay", (PERSON,), opacity)
    assert_alike(drawn, expected)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("seed", [1, 2])
def test_many_classes_that_hardly_lead_are_told_apart_as_on_the_cpu(any_gpu: Gpu, view: View, seed: int) -> None:
    classes = (
        WALL,
        *(ResolvedClass(name=f"c{n}", color_rgb=(9 * n, 250 - 11 * n, n * 67 % 256)) for n in range(1, 20)),
    )
    drawn, expected = both(any_gpu, frame_like(), noise(20, seed), view, classes)
    assert_alike(drawn, expected, view, mean=0.2, most=14)


@pytest.mark.parametrize("view", VIEWS)
def test_the_plane_that_stands_for_nothing_has_no_colour(any_gpu: Gpu, view: View) -> None:
    some = person_and_dog().scores[1:]
    result = Segmentation(scores=np.concatenate([np.full_like(some[:1], 32767), some]), class_ids=(NOTHING, 0, 1))
    frame = frame_like()
    drawn, expected = both(any_gpu, frame, result, view, (PERSON, DOG))
    assert_alike(drawn, expected, view)
    if view == "overlay":
        (untouched,) = [planes(surface_of(any_gpu, frame.picture))]
        assert (drawn.y[:20] == untouched.y[:20]).all()


@pytest.mark.parametrize("view", ["mask", "matte"])
def test_the_masks_edge_is_the_cpus(any_gpu: Gpu, view: View) -> None:
    drawn, expected = both(any_gpu, frame_like(640, 360), person(90, 160), view, (PERSON,))
    middle = (int(expected.y.max()) + int(expected.y.min())) / 2
    ours, theirs = drawn.y > middle, expected.y > middle
    assert (ours & theirs).sum() / (ours | theirs).sum() >= 0.995


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("pixel_format", ["nv12", "p010le"])
def test_boxes_and_their_labels_are_those_of_the_cpu(
    any_gpu: Gpu, view: View, rotation_deg: int, pixel_format: str
) -> None:
    frame = frame_like(pixel_format=pixel_format, rotation_deg=rotation_deg)
    drawn, expected = both(any_gpu, frame, CROWD, view, CLASSES)
    # Text is put together from two pieces: it may lie a pixel beside where it would in one.
    if view == "overlay":
        assert drawn.off(expected) <= 1.0
        return
    assert_alike(drawn, expected, view, mean=0.5 if pixel_format == "p010le" else 0.05, most=6)


def test_outlines_are_the_cpus_to_the_pixel(any_gpu: Gpu) -> None:
    alone = boxes((50.0, 80.0, 251.3, 151.7, 0.9, 1))
    drawn, expected = both(any_gpu, frame_like(), alone, "overlay", CLASSES)
    assert (drawn.y[80:] == expected.y[80:]).all()
    assert (drawn.u[40:] == expected.u[40:]).all()
    assert (drawn.v[40:] == expected.v[40:]).all()
    below = np.abs(drawn.y[60:80] - expected.y[60:80])
    assert (below > 0).mean() < 0.01, "the label's ink"


def test_a_picture_where_nothing_was_found_is_a_copy(any_gpu: Gpu) -> None:
    frame = frame_like()
    drawn, expected = both(any_gpu, frame, boxes(), "overlay", CLASSES)
    assert drawn.most(expected) == 0
    drawn, expected = both(
        any_gpu, frame, Segmentation(scores=np.zeros((1, 8, 8), np.uint16), class_ids=(0,)), "overlay", (PERSON,)
    )
    assert drawn.most(expected) == 0


@pytest.mark.material
@pytest.mark.parametrize("view", VIEWS)
def test_a_real_clip_looks_as_on_the_cpu(any_gpu: Gpu, media_dir: Path, view: View) -> None:
    (frame,) = frames_of_clip(media_dir / "person_walking_768x432_10fps.mp4", [10])
    full_range = frame.picture.color_range == 2
    frame = replace(frame, picture=tagged(frame.picture, "nv12", "bt709", full_range=full_range))
    drawn, expected = both(any_gpu, frame, person_and_dog(96, 160), view, CLASSES)
    assert_alike(drawn, expected, view)
