from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.clips import moving_picture
from plugins.frames import frame_of, frames_of_clip
from plugins.painted import (
    device_result,
    drawn_on_cpu,
    drawn_on_gpu,
    on_gpu,
    planes,
    surface_of,
    tagged,
)

from vrseg.errors import ConfigError
from vrseg.frame import Detections, Segmentation
from vrseg.gpu.device import open_gpu
from vrseg.gpu.kernels import Kernels
from vrseg.gpu.memory import elapsed_s, recorded, wait_for
from vrseg.models.spec import ResolvedClass
from vrseg.postprocess.class_map import NOTHING
from vrseg.render.cuda import Paint, PaintStyle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from plugins.painted import Yuv420

    from vrseg.config.schema import View
    from vrseg.frame import U8, Frame, Result
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.surface import Matrix, Surface

VIEWS: tuple[View, ...] = ("overlay", "mask", "matte", "green", "blur")
PERSON = ResolvedClass(name="person", color_rgb=(230, 30, 40))
DOG = ResolvedClass(name="dog", color_rgb=(30, 60, 220))
WALL = ResolvedClass(name="wall", color_rgb=(0, 0, 0), background=True)
CLASSES = (WALL, PERSON, DOG)


def disc(rows: int, columns: int, left: float, radius: float, softness: float) -> U8:
    down, across = np.mgrid[0:rows, 0:columns]
    distance = np.hypot((across + 0.5) / columns - left, ((down + 0.5) / rows - 0.5) * 0.7)
    scores: U8 = np.clip((radius - distance) / softness * 255 + 128, 0, 255).astype(np.uint8)
    return scores


def person(rows: int = 45, columns: int = 80, softness: float = 0.04, threshold: int = 127) -> Segmentation:
    scores = disc(rows, columns, 0.45, 0.2, softness)[None]
    return Segmentation(scores=scores, class_ids=(0,), threshold=threshold)


def person_and_dog(rows: int = 45, columns: int = 80, softness: float = 0.04) -> Segmentation:
    one, other = disc(rows, columns, 0.35, 0.2, softness), disc(rows, columns, 0.6, 0.2, softness)
    return Segmentation(scores=np.stack([255 - np.maximum(one, other), one, other]), class_ids=(0, 1, 2))


def noise(classes: int, seed: int) -> Segmentation:
    """Classes that lead here and there, often hardly, and one that leads nowhere."""
    rng = np.random.default_rng(seed)
    scores = np.kron(rng.integers(60, 250, (classes, 9, 16)), np.ones((1, 5, 5)))
    scores[-1] = scores[:-1].max(axis=0) - 3
    return Segmentation(scores=scores.astype(np.uint8), class_ids=tuple(range(classes)))


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """x0, y0, x1, y1, score, class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        boxes_xyxy=table[:, :4].astype(np.float32),
        scores=table[:, 4].astype(np.float32),
        class_ids=table[:, 5].astype(np.int64),
    )


CROWD = boxes(
    (30.4, 60.2, 131.7, 170.5, 0.93, 1),
    (101.0, 40.0, 201.0, 139.0, 0.871, 2),
    (90.6, 3.0, 160.2, 60.5, 0.61, 1),
    (250.0, 150.0, 319.9, 179.8, 0.555, 0),
    (0.0, 0.0, 20.0, 9.0, 0.5, 2),
    (310.0, 60.0, 320.0, 70.0, 0.47, 7),
    (130.0, 100.0, 131.0, 101.0, 0.4, 1),
)


def frame_like(
    width: int = 320,
    height: int = 180,
    pixel_format: str = "nv12",
    matrix: Matrix = "bt709",
    *,
    full_range: bool = False,
    rotation_deg: int = 0,
) -> Frame:
    picture = tagged(moving_picture(width, height, 3), pixel_format, matrix, full_range=full_range)
    return frame_of(picture, rotation_deg=rotation_deg)


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
    result = Segmentation(scores=np.concatenate([np.full_like(some[:1], 127), some]), class_ids=(NOTHING, 0, 1))
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
        any_gpu, frame, Segmentation(scores=np.zeros((1, 8, 8), np.uint8), class_ids=(0,)), "overlay", (PERSON,)
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


class Batches:
    """A paint that is kept, as in a daemon."""

    def __init__(self, gpu: Gpu, styles: dict[str, PaintStyle]) -> None:
        self.gpu = gpu
        self.stream = gpu.new_stream()
        self.paint = Paint(gpu, styles)
        self.paint.open(self.stream)

    def draw(self, *carried: tuple[str, Result | None]) -> list[Surface]:
        frames = [replace(frame_like(64, 48), stream=name, result=result) for name, result in carried]
        return [frame.picture for frame in on_gpu(self.gpu, frames, self.paint, self.stream)]

    def launches(self, *carried: tuple[str, Result | None]) -> int:
        before = self.gpu.counts.snapshot()
        self.draw(*carried)
        return (self.gpu.counts.snapshot() - before).launches


def style(view: View, classes: tuple[ResolvedClass, ...] = CLASSES) -> PaintStyle:
    return PaintStyle(view=view, opacity=0.5, classes=classes)


STYLES: dict[str, PaintStyle] = {str(view): style(view) for view in (*VIEWS, "none")}


def test_a_batch_of_many_views_is_painted_in_a_handful_of_launches(any_gpu: Gpu) -> None:
    batches = Batches(any_gpu, STYLES)
    assert batches.launches(*[("overlay", person())] * 8) == 1
    assert batches.launches(("overlay", person()), ("mask", person()), ("green", person()), ("matte", person())) == 1
    assert batches.launches(*[("overlay", person_and_dog())] * 16) == 2
    assert batches.launches(*[(view, person_and_dog()) for view in VIEWS]) == 4
    assert batches.launches(*[("blur", person())] * 8) == 3
    assert batches.launches(*[("overlay", CROWD)] * 16) == 1
    assert batches.launches(*[("overlay", CROWD)] * 17) == 2
    assert batches.launches(*[("mask", CROWD), ("overlay", CROWD)]) == 2
    assert batches.launches(("none", person()), ("overlay", None), ("unknown", person())) == 0
    assert batches.launches() == 0
    batches.paint.close()


def test_each_frame_of_a_batch_gets_what_it_would_get_alone(any_gpu: Gpu) -> None:
    wide, tall = frame_like(128, 64, pixel_format="p010le"), frame_like(64, 128, full_range=True)
    found: list[Result | None] = [person(), CROWD, None, person_and_dog(), noise(9, 3)]
    names = (*VIEWS, "none")
    frames = [
        replace(frame, stream=name, result=result) for frame in (wide, tall) for name in names for result in found
    ]
    together = drawn_on_gpu(any_gpu, frames, STYLES)
    alone = [one for frame in frames for one in drawn_on_gpu(any_gpu, [frame], STYLES)]
    assert len(together) == len(alone) == 2 * 5 * 4
    assert [ours.most(theirs) for ours, theirs in zip(together, alone, strict=True)] == [0] * len(alone)


def test_frames_that_are_not_drawn_keep_their_own_picture(any_gpu: Gpu) -> None:
    batches = Batches(any_gpu, STYLES)
    frames = [replace(frame_like(64, 48), stream=name) for name in ("none", "overlay", "unknown", "mask")]
    carried = [replace(frame, picture=surface_of(any_gpu, frame.picture)) for frame in frames]
    found = [device_result(any_gpu, person()) for _ in carried]
    pictures = batches.paint.enqueue(carried, [found[0], None, found[2], found[3]], batches.stream)
    assert [picture is None for picture in pictures] == [True, True, True, False]
    batches.paint.close()


def test_once_warm_nothing_is_allocated_uploaded_or_waited_for(any_gpu: Gpu) -> None:
    batches = Batches(any_gpu, STYLES)
    frames = [
        replace(frame_like(64, 48), stream=view, picture=surface_of(any_gpu, frame_like(64, 48).picture))
        for view in VIEWS
        for _ in range(3)
    ]
    found = [device_result(any_gpu, one) for _ in VIEWS for one in (person(), person_and_dog(), CROWD)]
    batches.paint.enqueue(frames, found, batches.stream)
    before = any_gpu.counts.snapshot()
    for _ in range(3):
        assert None not in batches.paint.enqueue(frames, found, batches.stream)
    after = any_gpu.counts.snapshot() - before
    assert (after.device_allocations, after.pinned_allocations, after.to_device_bytes, after.to_host_bytes) == (0,) * 4
    assert after.host_waits == 0
    assert after.launches == 3 * 5
    batches.paint.close()


def test_closing_gives_all_memory_back_but_for_pictures_still_held(any_gpu: Gpu) -> None:
    frames = [replace(frame_like(64, 48), stream=view) for view in VIEWS]
    carried = [replace(frame, picture=surface_of(any_gpu, frame.picture)) for frame in frames]
    found = [device_result(any_gpu, one) for one in (CROWD, person(), person_and_dog(), CROWD, person())]
    before = any_gpu.counts.snapshot().device_bytes
    batches = Batches(any_gpu, STYLES)
    pictures: Any = batches.paint.enqueue(carried, found, batches.stream)
    batches.paint.close()
    batches.paint.close()
    assert any_gpu.counts.snapshot().device_bytes - before == len(VIEWS) * 64 * 48 * 3 // 2
    del pictures
    assert any_gpu.counts.snapshot().device_bytes == before


@pytest.mark.gpu
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("several", [False, True])
def test_eight_pictures_are_painted_in_a_thirtieth_of_what_a_network_takes(
    view: View, monkeypatch: pytest.MonkeyPatch, *, several: bool
) -> None:
    """DeepLabV3 takes 8.3 ms for a batch of 8 on an H200."""
    gpu = open_gpu()
    result = noise(20, 1) if several else person(512, 512)
    if several:
        result = replace(result, scores=np.kron(result.scores, np.ones((1, 11, 6), np.uint8)))
    batches = Batches(gpu, {"door": style(view)})
    source = surface_of(gpu, frame_like(1920, 1080).picture)
    frames = [replace(frame_like(64, 48), picture=source) for _ in range(8)]
    found = [device_result(gpu, result) for _ in frames]
    batches.paint.enqueue(frames, found, batches.stream)
    launches: list[Callable[[], None]] = []
    launch = Kernels.launch
    monkeypatch.setattr(Kernels, "launch", lambda *given: launches.append(lambda: launch(*given)))
    pictures = batches.paint.enqueue(frames, found, batches.stream)
    rounds = 50
    begun = recorded(batches.stream, timed=True)
    for _ in range(rounds):
        for one in launches:
            one()
    done = recorded(batches.stream, timed=True)
    wait_for(gpu, done)
    batch_us = elapsed_s(begun, done) / rounds * 1e6
    print(f"{view}, {len(result.class_ids)} classes: {batch_us:.0f} us for {len(pictures)} pictures of 1080p")  # noqa: T201 -- for who tunes the kernels
    assert batch_us < 280
    batches.paint.close()


def test_streams_that_come_and_go_leave_nothing_behind(gpu_on_cpu: Gpu) -> None:
    styles = dict(STYLES)
    batches = Batches(gpu_on_cpu, styles)
    batches.draw(("overlay", CROWD))
    held = []
    for number in range(5):
        name = f"guest{number}"
        styles[name] = style("overlay")
        batches.draw((name, CROWD), (name, person()))
        del styles[name]
        batches.draw(("overlay", CROWD))
        held.append(
            len(batches.paint._tables._held) + len(batches.paint._pools) + len(batches.paint._labels._letterings)
        )
    assert len(set(held)) == 1
    batches.paint.close()


def test_a_style_that_cannot_be_drawn_is_refused_by_name(gpu_on_cpu: Gpu) -> None:
    stream = gpu_on_cpu.new_stream()
    paint = Paint(gpu_on_cpu, {"door": style("alpha-pack")})
    with pytest.raises(ConfigError, match=r"streams\.door\.view: alpha-pack is not in this version"):
        paint.open(stream)
    paint.close()
    many = tuple(ResolvedClass(name=str(n), color_rgb=(0, 0, 0)) for n in range(256))
    paint = Paint(gpu_on_cpu, {"door": style("mask", many)})
    with pytest.raises(ConfigError, match="256 classes"):
        paint.open(stream)
    paint.close()


def test_closing_what_was_never_opened_is_harmless(gpu_on_cpu: Gpu) -> None:
    Paint(gpu_on_cpu, STYLES).close()
