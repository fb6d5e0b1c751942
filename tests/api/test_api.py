from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import vrseg
from vrseg.api import PipelineClosedError
from vrseg.demo.scene import Scene
from vrseg.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from pathlib import Path

SCENE = Scene(seed=7, width=640, height=360)


def images(count: int) -> list[Any]:
    return [SCENE.render(index * 10).image_hwc for index in range(count)]


def test_predictions_come_in_order_one_for_each_frame() -> None:
    with vrseg.Pipeline("demo", batch=3) as pipeline:
        found = list(pipeline.map(images(20)))
        assert [one.index for one in found] == list(range(20))
        frames = pipeline.stats()["streams"][0]["frames"]
        assert frames["delivered"] == 20
        assert frames["unaccounted"] == 0


def test_a_mask_has_the_frame_s_size_and_finds_the_people() -> None:
    truth = SCENE.render(30)
    with vrseg.Pipeline("demo") as pipeline:
        pipeline.submit(truth.image_hwc)
        pipeline.finish()
        (found,) = pipeline.results()
    mask = found.mask() > 0
    assert mask.shape == (360, 640)
    true = truth.mask > 0
    assert (mask & true).sum() / (mask | true).sum() > 0.8
    assert (found.classes() == 0).sum() == mask.sum()
    with pytest.raises(TypeError, match="masks, not boxes"):
        _ = found.detections


def test_frames_of_different_sizes_go_together() -> None:
    sizes = [(90, 160), (360, 640), (200, 100)]
    frames = [np.full((*size, 3), 128, np.uint8) for size in sizes]
    with vrseg.Pipeline("demo") as pipeline:
        assert [one.mask().shape for one in pipeline.map(frames)] == sizes


def test_submit_waits_while_there_is_no_room_and_goes_on_when_results_are_taken() -> None:
    async def main() -> None:
        async with vrseg.AsyncPipeline("demo", batch=2) as pipeline:
            frame = images(1)[0]

            async def submit_many() -> None:
                for _ in range(1000):
                    await pipeline.submit(frame)

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(submit_many(), 2)
            under_way = pipeline.stats()["streams"][0]["frames"]["under_way"]
            assert 0 < under_way <= 12
            taken = 0
            pipeline.finish()
            async for _ in pipeline.results():
                taken += 1
            assert taken == under_way

    asyncio.run(main())


def test_a_finished_pipeline_takes_no_frame() -> None:
    async def main() -> None:
        async with vrseg.AsyncPipeline("demo") as pipeline:
            pipeline.finish()
            with pytest.raises(PipelineClosedError):
                await pipeline.submit(images(1)[0])
            assert pipeline.stats()["streams"][0]["frames"]["unaccounted"] == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)]
)
def test_an_array_of_another_kind_is_refused(wrong: Any) -> None:
    with vrseg.Pipeline("demo") as pipeline, pytest.raises(ValueError, match="expected uint8"):
        pipeline.submit(wrong)


def test_leaving_early_loses_nothing_but_what_was_not_asked_for() -> None:
    with vrseg.Pipeline("demo") as pipeline:
        predictions = pipeline.map(images(30))
        assert next(predictions).index == 0
        assert next(predictions).index == 1


def test_a_model_that_does_not_load_is_told_on_entering(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"), vrseg.Pipeline(tmp_path / "none.onnx"):
        pass
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"broken\.onnx"), vrseg.Pipeline(broken):
        pass


def test_an_error_in_the_images_ends_the_iteration_with_it() -> None:
    def broken() -> Any:
        yield images(1)[0]
        raise RuntimeError("camera unplugged")

    with vrseg.Pipeline("demo") as pipeline, pytest.raises(RuntimeError, match="camera unplugged"):
        list(pipeline.map(broken()))
