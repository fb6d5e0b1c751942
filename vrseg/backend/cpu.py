"""The CPU: PyAV, swscale, ONNX Runtime or OpenVINO, NumPy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vrseg.backend.backend import Backend, ModelWork, ViewStyle
from vrseg.decode.cpu import PyavDecoder
from vrseg.encode.cpu import PyavEncoder, choose_encoder
from vrseg.encode.still import JpegStill
from vrseg.infer.choose import engine_name, make_engine
from vrseg.postprocess.choose import make_head
from vrseg.preprocess.cpu import SwscalePreprocess
from vrseg.render.cpu import make_render
from vrseg.render.stand_in import StandInCard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vrseg.config.schema import Model
    from vrseg.models.spec import ModelSpec
    from vrseg.stage import Render


def cpu_backend(reason: str) -> Backend:
    """Make the stages of the CPU."""
    make_decoder = partial(PyavDecoder, threads=0)
    return Backend(
        device="cpu",
        reason=reason,
        make_decoder=make_decoder,
        make_file_decoder=make_decoder,
        make_model=_make_model,
        engine_name=engine_name,
        make_render=_make_render,
        make_encoder=PyavEncoder,
        encoder_name=choose_encoder,
        make_still=JpegStill,
        make_stand_in=StandInCard,
        batches_under_way=2,  # one in the model, one being gathered
        wants_whole_batches=False,
    )


def _make_model(
    spec: ModelSpec, model: Model, *, max_batch: int, styles: Mapping[str, ViewStyle], host_results: bool
) -> ModelWork:
    del max_batch, styles, host_results  # views have a stage of their own, and all memory is the host's
    return ModelWork(preprocess=SwscalePreprocess(spec), infer=make_engine(spec, model), postprocess=make_head(spec))


def _make_render(style: ViewStyle) -> Render:
    return make_render(style.view, opacity=style.opacity, classes=style.classes)
