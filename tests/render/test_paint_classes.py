from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.painted import drawn_on_cpu, drawn_on_gpu
from plugins.scores import in_16_bits
from plugins.to_draw import disc, frame_like

from vrseg.frame import Segmentation
from vrseg.gpu.kernels import Kernels
from vrseg.models.spec import ResolvedClass
from vrseg.render.cuda import PaintStyle
from vrseg.render.painting import PAINTINGS

if TYPE_CHECKING:
    from plugins.painted import Yuv420

    from vrseg.config.schema import View
    from vrseg.gpu.device import Gpu


def classes(count: int) -> tuple[ResolvedClass, ...]:
    return tuple(
        ResolvedClass(name=f"c{n}", color_rgb=(n * 37 % 256, n * 91 % 256, n * 67 % 256), background=n == 0)
        for n in range(count)
    )


def uniform(count: int, rows: int = 48, columns: int = 64) -> Segmentation:
    """What a network says that knows nothing: all classes come close everywhere."""
    scores = np.random.default_rng(3).integers(255 // count, 255 // count + 3, (count, rows // 4, columns // 4))
    return segmentation(np.kron(scores, np.ones((1, 4, 4))))


def decided(count: int, rows: int = 48, columns: int = 64) -> Segmentation:
    """What a trained network says: one class leads by far, but for soft borders between two."""
    shown = [disc(rows, columns, left, 0.12, 0.05).astype(int) for left in (0.2, 0.5, 0.8)]
    scores = np.full((count, rows, columns), 1)
    for index, one in zip((1, count // 2, count - 1), shown, strict=True):
        scores[index] = np.maximum(one, 1)
    scores[0] = 255 - scores[1:].max(axis=0)
    return segmentation(scores)


def segmentation(scores: Any) -> Segmentation:
    return Segmentation(scores=in_16_bits(scores), class_ids=tuple(range(len(scores))))


def drawn(gpu: Gpu, result: Segmentation, view: View, width: int = 320, height: int = 180) -> Yuv420:
    frame = replace(frame_like(width, height), result=result)
    style = PaintStyle(view=view, opacity=0.5, classes=classes(len(result.class_ids)))
    (shown,) = drawn_on_gpu(gpu, [frame], {frame.stream: style})
    return shown


@pytest.mark.parametrize("view", ["overlay", "mask", "green"])
@pytest.mark.parametrize("count", [2, 3, 21, 33, 70, 255])
@pytest.mark.parametrize("scores", [uniform, decided])
def test_any_number_of_classes_is_drawn_as_on_the_cpu(any_gpu: Gpu, view: View, count: int, scores: Any) -> None:
    result = scores(count)
    frame = replace(frame_like(), result=result)
    shown, expected = drawn(any_gpu, result, view), drawn_on_cpu(frame, view, 0.5, classes(count))
    assert shown.off(expected) <= 0.01
    assert shown.most(expected) <= 4


def test_planes_that_are_not_read_four_at_a_time_are_drawn_alike(any_gpu: Gpu) -> None:
    result = decided(21, 45, 61)
    frame = replace(frame_like(244, 180), result=result)
    expected = drawn_on_cpu(frame, "overlay", 0.5, classes(21))
    assert drawn(any_gpu, result, "overlay", 244, 180).off(expected) <= 0.1


@pytest.mark.parametrize("height", [182, 178])
def test_heights_need_not_be_whole_piles(any_gpu: Gpu, height: int) -> None:
    expected = drawn_on_cpu(replace(frame_like(320, height), result=decided(5)), "mask", 1.0, classes(5))
    shown = drawn(any_gpu, decided(5), "mask", 320, height)
    assert shown.y.shape == (height, 320)
    assert shown.off(expected) <= 0.5


@pytest.fixture
def planes_lost(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overwrite the planes of scores once they are ranked; only where the GPU is a pretence."""
    launched: list[str] = []
    launch = Kernels.launch

    def overwritten(kernels: Kernels, name: str, *rest: Any) -> None:
        launched.append(name)
        if name == "paint":
            batch = rest[-1][0]
            assert batch.dtype == PAINTINGS
            one = batch["frames"][0, 0]
            ctypes.memset(int(one["scores"]), 0, int(one["classes"] * one["rows"] * one["columns"]))
        launch(kernels, name, *rest)

    monkeypatch.setattr(Kernels, "launch", overwritten)
    return launched


def test_of_decided_scores_only_the_ranks_are_read(gpu_on_cpu: Gpu, request: pytest.FixtureRequest) -> None:
    assert difference_without_planes(gpu_on_cpu, decided(21), request) == 0


def test_of_uniform_scores_the_planes_are_read(gpu_on_cpu: Gpu, request: pytest.FixtureRequest) -> None:
    scores = np.random.default_rng(0).integers(100, 120, (21, 48, 64))
    assert difference_without_planes(gpu_on_cpu, segmentation(scores), request) > 0


def difference_without_planes(gpu: Gpu, result: Segmentation, request: pytest.FixtureRequest) -> int:
    whole = drawn(gpu, result, "overlay")
    launched = request.getfixturevalue("planes_lost")
    without = drawn(gpu, result, "overlay")
    assert launched == ["rank", "paint"]
    return without.most(whole)
