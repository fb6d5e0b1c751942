from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from plugins.painted import device_result, drawn_on_gpu, on_gpu, planes, surface_of
from plugins.to_draw import CLASSES, CROWD, VIEWS, frame_like, noise, person, person_and_dog

from vrseg.errors import ConfigError
from vrseg.models.spec import ResolvedClass
from vrseg.render.cuda import Paint, PaintStyle

if TYPE_CHECKING:
    from vrseg.config.schema import View
    from vrseg.frame import Result
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.surface import Surface


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


def test_what_is_remembered_of_one_frame_serves_no_other(any_gpu: Gpu) -> None:
    plain = frame_like(64, 48)
    pictures = [
        plain,
        frame_like(64, 48, matrix="bt601"),
        frame_like(64, 48, full_range=True),
        frame_like(64, 48, pixel_format="p010le"),
        frame_like(64, 48, rotation_deg=180),
        frame_like(48, 64),
    ]
    results: list[Result] = [person(), person(threshold=90), person(30, 40), person_and_dog(), CROWD]
    frames = [replace(frame, result=person(), stream="overlay") for frame in pictures]
    frames += [replace(frame, result=CROWD, stream="overlay") for frame in pictures]
    frames += [replace(plain, result=result, stream=view) for view in VIEWS for result in results]
    batches = Batches(any_gpu, STYLES)
    for frame in 2 * frames:
        (kept,) = on_gpu(any_gpu, [frame], batches.paint, batches.stream)
        (fresh,) = drawn_on_gpu(any_gpu, [frame], STYLES)
        assert planes(kept.picture).most(fresh) == 0
    batches.paint.close()


@pytest.mark.parametrize("result", [person(), CROWD], ids=["mask", "boxes"])
def test_a_style_that_changes_leaves_nothing_of_the_one_before(any_gpu: Gpu, result: Result) -> None:
    styles = {"door": style("overlay")}
    batches = Batches(any_gpu, styles)
    frame = replace(frame_like(64, 48), stream="door", result=result)
    for number in range(3):
        other = tuple(replace(one, color_rgb=(80 * number, 200, 40)) for one in CLASSES)
        styles["door"] = style("overlay", other)
        (kept,) = on_gpu(any_gpu, [frame], batches.paint, batches.stream)
        (fresh,) = drawn_on_gpu(any_gpu, [frame], styles)
        assert planes(kept.picture).most(fresh) == 0
    batches.paint.close()


@pytest.mark.parametrize("result", [person(), CROWD], ids=["mask", "boxes"])
def test_a_style_that_comes_back_finds_its_colours_again(any_gpu: Gpu, result: Result) -> None:
    styles = {"door": style("overlay")}
    gone = dict(styles)
    batches = Batches(any_gpu, styles)
    frame = replace(frame_like(64, 48), stream="door", result=result)
    (first,) = drawn_on_gpu(any_gpu, [frame], styles)
    on_gpu(any_gpu, [frame], batches.paint, batches.stream)
    before = any_gpu.counts.snapshot()
    styles.clear()
    batches.draw(("door", result))
    styles.update(gone)
    (again,) = on_gpu(any_gpu, [frame], batches.paint, batches.stream)
    assert planes(again.picture).most(first) == 0
    assert (any_gpu.counts.snapshot() - before).to_device_bytes > 0
    batches.paint.close()


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
