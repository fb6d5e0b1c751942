"""One clip through the stages of a device, in this process: what the model found, and what was drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.backend.backend import ViewStyle
from vrseg.config.schema import Model
from vrseg.frame import Detections, Segmentation
from vrseg.gpu.surface import Surface
from vrseg.models.load import load_spec
from vrseg.postprocess.class_map import foreground_mask
from vrseg.render.picture import planes_of
from vrseg.source.file import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vrseg.backend.backend import Backend
    from vrseg.config.schema import View
    from vrseg.frame import U8, Frame

BATCH = 8
STREAM = "both"


def frames_through(backend: Backend, clip: Path, model_path: Path, description: Path, view: View) -> Iterator[Frame]:
    """Decode, infer, read and draw every frame of a clip, as the pipeline does it."""
    section = Model(path=str(model_path), description=str(description))
    spec = load_spec("both", section, Path.cwd())
    style = ViewStyle(view=view, opacity=0.5, classes=spec.classes)
    work = backend.make_model(spec, section, max_batch=BATCH, styles={STREAM: style}, host_results=True)
    render = backend.make_render(style) if backend.make_render is not None else None
    decoder = backend.make_decoder(STREAM, live=False, first_index=0)
    stages: list[Any] = [decoder, work.preprocess, work.infer, work.postprocess, *([render] if render else [])]
    for stage in stages:
        stage.open()
    try:
        waiting: list[Frame] = []
        for frame in decoded(decoder, clip):
            waiting.append(frame)
            if len(waiting) == BATCH:
                yield from _finished(work, render, tuple(waiting))
                waiting.clear()
        if waiting:
            yield from _finished(work, render, tuple(waiting))
    finally:
        for stage in reversed(stages):
            stage.close()


def mask_of_frame(frame: Frame) -> U8:
    """(height, width): 255 where there is somebody."""
    assert isinstance(frame.result, Segmentation)
    return foreground_mask(frame.result, frame.width, frame.height)


def boxes_of_frame(frame: Frame) -> list[tuple[int, float, list[float]]]:
    """Class, score and corners of each box."""
    found = frame.result
    assert isinstance(found, Detections)
    return [
        (int(kind), float(score), box.tolist())
        for kind, score, box in zip(found.class_ids, found.scores, found.boxes_xyxy, strict=True)
    ]


def luma_of(picture: Any) -> U8:
    """(height, width) uint8 of a drawn picture, wherever it lies."""
    if not isinstance(picture, Surface):
        return np.asarray(planes_of(picture).y)
    import cupy

    picture.ready.synchronize()
    luma = np.empty((picture.height, picture.width), np.uint8)
    runtime = cupy.cuda.runtime
    runtime.memcpy(luma.ctypes.data, picture.luma_address, luma.nbytes, runtime.memcpyDeviceToHost)
    return luma


def decoded(decoder: Any, clip: Path) -> Iterator[Frame]:
    source = FileSource(str(clip))
    source.open()
    try:
        while packets := source.read():
            for packet in packets:
                yield from decoder.process(packet)
        yield from decoder.flush()
    finally:
        source.close()


def _finished(work: Any, render: Any, frames: tuple[Frame, ...]) -> Iterator[Frame]:
    (batch,) = work.preprocess.process(frames)
    (inference,) = work.infer.process(batch)
    for frame in work.postprocess.process(inference):
        yield from render.process(frame) if render else (frame,)
