"""The engine that a model's configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.errors import ConfigError

if TYPE_CHECKING:
    from vrseg.config.schema import Model
    from vrseg.models.spec import ModelSpec
    from vrseg.stage import Infer


def engine_name(model: Model) -> str:
    """Tell which engine `auto` means."""
    if model.engine == "openvino" or model.precision == "bf16":
        return "openvino"
    return "onnxruntime"


def make_engine(spec: ModelSpec, model: Model) -> Infer:
    """Construct the engine for the CPU; nothing is loaded before it is opened.

    Raises:
        ConfigError: no engine of the CPU computes in this precision.
    """
    if model.engine.startswith("tensorrt"):
        raise ConfigError(
            f"models.{spec.name}.engine: {model.engine} runs on NVIDIA GPUs, and the device here is the CPU; "
            "write engine: auto"
        )
    if model.precision not in ("fp32", "bf16"):
        raise ConfigError(
            f"models.{spec.name}.precision: the CPU does not compute {model.precision}; "
            "write fp32, or bf16 with OpenVINO"
        )
    if model.precision == "bf16" and model.engine == "onnxruntime":
        raise ConfigError(
            f"models.{spec.name}.precision: ONNX Runtime does not compute bf16 on the CPU; write engine: openvino"
        )
    if engine_name(model) == "openvino":
        from vrseg.infer.openvino import OpenVinoEngine  # noqa: PLC0415 - an extra that few install

        return OpenVinoEngine(spec, precision=model.precision, threads=model.threads)
    from vrseg.infer.onnx import OnnxEngine  # noqa: PLC0415 - takes a tenth of a second that OpenVINO's users save

    return OnnxEngine(spec, threads=model.threads)
