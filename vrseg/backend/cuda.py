"""An NVIDIA GPU: NVDEC, kernels of our own, ONNX Runtime or TensorRT, NVENC. A frame never leaves it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vrseg.backend.backend import Backend, ModelWork, ViewStyle
from vrseg.config.places import cache_folder
from vrseg.decode.choose import CudaDecoder
from vrseg.encode.choose import make_cuda_encoder, name_cuda_encoder
from vrseg.encode.still_cuda import DownloadedStill
from vrseg.gpu.device import open_gpu
from vrseg.gpu.guard import Guarded, GuardedTogether
from vrseg.gpu.lane import Lane
from vrseg.gpu.timing import Timed
from vrseg.infer.choose_cuda import cuda_engine_name, make_cuda_engine
from vrseg.infer.gate import compare_foreseeing
from vrseg.models.convert import as_fp16
from vrseg.postprocess.cuda import make_cuda_head
from vrseg.preprocess.cuda import CudaPreprocess
from vrseg.render.cuda import Paint, PaintStyle
from vrseg.render.stand_in_cuda import DeviceStandInCard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vrseg.config.schema import Model
    from vrseg.encode.settings import EncodeSettings
    from vrseg.frame import Batch, Inference
    from vrseg.gpu.device import Gpu
    from vrseg.models.spec import ModelSpec
    from vrseg.stage import Decode, Encode


def cuda_backend(index: int, reason: str) -> Backend:
    """Make the stages of a GPU.

    Raises:
        DeviceError: it is not there, or does not work.
    """
    gpu = open_gpu(index)
    return Backend(
        device=f"cuda:{index}",
        reason=f"{reason}: {gpu.name}",
        make_decoder=partial(_make_decoder, gpu, 1),
        make_file_decoder=partial(_make_decoder, gpu, 0),
        make_model=partial(_make_model, gpu),
        engine_name=partial(cuda_engine_name, gpu=gpu),
        make_render=None,
        make_encoder=partial(_make_encoder, gpu),
        encoder_name=partial(name_cuda_encoder, gpu=gpu),
        make_still=lambda: Guarded(DownloadedStill(gpu), "picture for viewers"),
        make_stand_in=lambda kind: Guarded(DeviceStandInCard(gpu, kind), "picture in place of a source's"),
        batches_under_way=4,  # one being handed on, one on the GPU, one enqueued behind it, one being gathered
        wants_whole_batches=True,
        gpu=gpu,
    )


def _make_decoder(gpu: Gpu, lanes: int, stream: str, *, live: bool, first_index: int) -> Decode:
    decoder = CudaDecoder(stream, gpu=gpu, live=live, first_index=first_index, lanes=lanes)
    guarded: Any = GuardedTogether(decoder, f"decoder of {stream}")
    return guarded  # type: ignore[no-any-return] # has what the decoder has


def _make_model(
    gpu: Gpu,
    spec: ModelSpec,
    model: Model,
    *,
    max_batch: int,
    styles: Mapping[str, ViewStyle],
    host_results: bool,
) -> ModelWork:
    if model.precision == "fp16":
        spec = as_fp16(spec, cache_folder() / "fp16", compare_foreseeing)
    lane = Lane(gpu, spec, max_batch=max_batch)
    paint = None
    if styles:
        paint = Paint(
            gpu,
            {
                stream: PaintStyle(view=one.view, opacity=one.opacity, classes=one.classes)
                for stream, one in styles.items()
            },
        )
    return ModelWork(
        preprocess=Guarded(Timed(CudaPreprocess(lane), lane, _input_begun), f"preprocessing for {spec.name}"),
        infer=Guarded(Timed(make_cuda_engine(lane, model), lane, _output_begun), f"engine of {spec.name}"),
        postprocess=Guarded(make_cuda_head(lane, paint=paint, host_results=host_results), f"head of {spec.name}"),
    )


def _input_begun(batch: Batch) -> Any:
    return batch.tensor.lease.begun


def _output_begun(inference: Inference) -> Any:
    return next(iter(inference.outputs.values())).lease.begun


def _make_encoder(gpu: Gpu, settings: EncodeSettings) -> Encode:
    return Guarded(make_cuda_encoder(settings, gpu, gpu.counts.encoder_fell_back), "encoder")
