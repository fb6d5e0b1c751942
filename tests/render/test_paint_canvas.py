"""What the CPU tells the drawing kernels, without running any."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from plugins.painted import device_result, surface_of
from plugins.to_draw import CLASSES, CROWD, frame_like, person

from vrseg.gpu.memory import Pool
from vrseg.render.canvas import Canvas, Kinds, PaintStyle
from vrseg.render.painting import LABELLING, LABELLINGS, PAINTING, PAINTINGS, labellings, paintings, sketch_of

if TYPE_CHECKING:
    from vrseg.frame import Result
    from vrseg.gpu.device import Gpu

STYLE = PaintStyle(view="overlay", opacity=0.5, classes=CLASSES)


def canvas_of(gpu: Gpu, result: Result) -> Canvas:
    frame = frame_like(64, 48)
    target = Pool(gpu, "device", 64 * 48 * 3 // 2, limit=1, name="target").lend()
    return Canvas(
        source=surface_of(gpu, frame.picture),
        rotation_deg=0,
        found=device_result(gpu, result),
        style=STYLE,
        target=target,
    )


def test_the_structures_fit_into_the_parameters_of_a_kernel() -> None:
    assert PAINTINGS.itemsize <= 4096 - 128
    assert LABELLINGS.itemsize <= 4096
    assert PAINTING.itemsize % 8 == LABELLING.itemsize % 8 == 0


def test_addresses_are_each_frames_own(gpu_on_cpu: Gpu) -> None:
    masks = [canvas_of(gpu_on_cpu, person()) for _ in range(2)]
    batch = paintings(masks, [sketch_of(one, palette=77) for one in masks], 4096, present=5, stamp=6)
    frames = batch["frames"][0, :2]
    assert frames["source"]["luma"].tolist() == [one.source.luma_address for one in masks]
    assert frames["source"]["chroma"].tolist() == [one.source.chroma_address for one in masks]
    assert frames["luma"].tolist() == [one.target.address for one in masks]
    assert frames["palette"].tolist() == [77, 77]
    assert (int(batch["present"][0]), int(batch["stamp"][0])) == (5, 6)
    boxes = [canvas_of(gpu_on_cpu, CROWD) for _ in range(2)]
    marked = bytes(range(1, 200))[: LABELLING.itemsize - 64]
    labelled = labellings(boxes, [marked] * 2)["frames"][0]
    assert labelled["source"]["luma"].tolist()[:3] == [*(one.source.luma_address for one in boxes), 0]
    assert labelled["source"]["chroma"].tolist()[:2] == [one.source.chroma_address for one in boxes]
    assert labelled[1].tobytes()[64:] == marked


def test_a_batch_is_not_written_again_by_the_next(gpu_on_cpu: Gpu) -> None:
    mask = canvas_of(gpu_on_cpu, person())
    sketch = sketch_of(mask, palette=0)
    first, second = (paintings([mask], [sketch], 0, present=0, stamp=stamp) for stamp in (1, 2))
    assert (int(first["stamp"][0]), int(second["stamp"][0])) == (1, 2)
    assert not first.flags.writeable
    assert not labellings([canvas_of(gpu_on_cpu, CROWD)], [b""]).flags.writeable


def test_kinds_are_forgotten_when_there_are_many(gpu_on_cpu: Gpu) -> None:
    kinds: Kinds[object] = Kinds()
    mask = canvas_of(gpu_on_cpu, person())
    assert kinds.of(mask, lambda: 1) == kinds.of(mask, lambda: 2) == 1
    for width in range(2, 600, 2):
        other = replace(mask, source=replace(mask.source, width=width))
        assert (kinds.of(other, object) == 1) is (width == 64)
    assert kinds.of(mask, lambda: 3) == 3
    kinds.clear()
    assert kinds.of(mask, lambda: 4) == 4
