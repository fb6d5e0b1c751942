"""The engine that a model's configuration asks for on an NVIDIA GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.errors import ConfigError, DeviceError
from vrseg.models.tensorrt_library import installed, library_for, rtx_fits

if TYPE_CHECKING:
    from vrseg.config.schema import Model
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.lane import Lane
    from vrseg.infer.fp16_gate import Fp16Gate
    from vrseg.models.tensorrt_library import LibraryName
    from vrseg.stage import Infer


def cuda_engine_name(model: Model, gpu: Gpu) -> str:
    """Tell which engine `auto` means: TensorRT where one that fits the card is installed, else ONNX Runtime."""
    return model.engine if model.engine != "auto" else _library(gpu) or "onnxruntime"


def make_cuda_engine(lane: Lane, model: Model) -> Infer:
    """Construct the engine; nothing is loaded before it is opened.

    Raises:
        ConfigError: no engine of GPUs computes in this precision, or the engine is not for GPUs.
        DeviceError: the engine that is asked for does not run on this card.
    """
    name = lane.spec.name
    if model.precision not in ("fp32", "fp16"):
        raise ConfigError(f"models.{name}.precision: {model.precision} is not for GPUs here; write fp32 or fp16")
    if model.engine == "openvino":
        raise ConfigError(f"models.{name}.engine: OpenVINO computes on CPUs; write engine: auto")
    from vrseg.infer.fp16_gate import Fp16Gate  # noqa: PLC0415 -- an engine's libraries load when it is chosen
    from vrseg.infer.onnx_cuda import OnnxCudaEngine  # noqa: PLC0415 -- as above

    gate = Fp16Gate(lane.spec)
    first = OnnxCudaEngine(lane, gate)
    engine = cuda_engine_name(model, lane.gpu)
    if engine == "onnxruntime":
        return first
    return _swapping(lane, first, gate, model, "tensorrt" if engine == "tensorrt" else "tensorrt-rtx")


def _library(gpu: Gpu) -> LibraryName | None:
    try:
        return library_for(gpu.compute_capability)
    except DeviceError:
        return None


def _swapping(lane: Lane, first: Infer, gate: Fp16Gate, model: Model, library: LibraryName) -> Infer:
    """Serve with ONNX Runtime until the plan is built."""
    from vrseg.infer.swapping import SwappingEngine  # noqa: PLC0415 -- as above
    from vrseg.infer.tensorrt import TensorRtEngine  # noqa: PLC0415 -- as above
    from vrseg.models.background_build import BackgroundBuild  # noqa: PLC0415 -- as above
    from vrseg.models.build_request import BuildRequest, Card  # noqa: PLC0415 -- as above
    from vrseg.models.engine_cache import EngineCache, engines_folder  # noqa: PLC0415 -- as above
    from vrseg.models.tensorrt_library import load_tensorrt  # noqa: PLC0415 -- as above

    gpu = lane.gpu
    if not installed(library):
        raise DeviceError(f"{library} is not installed; run: pip install 'vrseg[{library}]', or write engine: auto")
    if library == "tensorrt-rtx" and not rtx_fits(gpu.compute_capability):
        raise DeviceError(f"TensorRT-RTX does not run on {gpu.name}; write engine: auto")
    trt = load_tensorrt(library)
    request = BuildRequest(
        spec=lane.spec,
        precision=model.precision,
        library=library,
        library_version=trt.__version__,
        card=Card(
            compute_capability=gpu.compute_capability, name=gpu.name, memory_bytes=gpu.memory_bytes, index=gpu.index
        ),
        max_batch=lane.max_batch,
    )
    return SwappingEngine(
        first,
        build=BackgroundBuild(request, EngineCache(engines_folder())),
        load=lambda plan_path: TensorRtEngine(lane, trt=trt, plan_path=plan_path, gate=gate),
        model=lane.spec.name,
    )
