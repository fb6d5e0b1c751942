"""What a batch costs when all is warm, by the program's own counters: no memory, one wait, a handful of launches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from plugins.both_devices import BATCH, STREAM, decoded
from plugins.reference import CLOSEUP, DESCRIPTIONS, PORTRAIT, SELFIE, YOLOX

from vrseg.backend.backend import ViewStyle
from vrseg.backend.choose import choose_backend
from vrseg.config.schema import Model
from vrseg.models.load import load_spec

if TYPE_CHECKING:
    from pathlib import Path

    from vrseg.config.schema import View
    from vrseg.frame import Frame

pytestmark = [pytest.mark.gpu, pytest.mark.material]
WARM_BATCHES = 6


@pytest.mark.parametrize("view", ["overlay", "mask", "green", "blur"])
@pytest.mark.parametrize("name", [SELFIE, PORTRAIT, YOLOX])
def test_a_warm_batch_takes_no_memory_one_wait_and_six_launches(
    media_dir: Path, models_dir: Path, name: str, view: View
) -> None:
    backend = choose_backend("cuda")
    section = Model(path=str(models_dir / f"{name}.onnx"), description=str(DESCRIPTIONS / f"{name}.yaml"))
    spec = load_spec("steady", section, models_dir)
    style = ViewStyle(view=view, opacity=0.5, classes=spec.classes)
    work = backend.make_model(spec, section, max_batch=BATCH, styles={STREAM: style}, host_results=False)
    decoder = backend.make_decoder(STREAM, live=False, first_index=0)
    stages: list[Any] = [decoder, work.preprocess, work.infer, work.postprocess]
    for stage in stages:
        stage.open()
    waiting: list[Frame] = []
    spent = []
    for frame in decoded(decoder, media_dir / f"{CLOSEUP}.mp4"):
        waiting.append(frame)
        if len(waiting) < BATCH:
            continue
        before = backend.gpu.counts.snapshot()
        (batch,) = work.preprocess.process(tuple(waiting))
        (inference,) = work.infer.process(batch)
        finished = list(work.postprocess.process(inference))
        spent.append(backend.gpu.counts.snapshot() - before)
        assert len(finished) == BATCH
        waiting.clear()
        del batch, inference, finished, frame
    for stage in reversed(stages):
        stage.close()
    for one in spent[WARM_BATCHES:]:
        assert (one.device_allocations, one.pinned_allocations) == (0, 0)
        assert one.host_waits == 1
        assert one.launches <= 6
        assert one.to_device_bytes == 0
        assert one.to_host_bytes <= (BATCH * (4 + 24 * 300) if name == YOLOX else 0)
