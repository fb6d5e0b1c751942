"""The engines that models run on, each tried on a network of one layer."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

from vrseg.doctor.finding import Finding, pip


def look_at_inference() -> list[Finding]:
    """Report the engines and the embedded model."""
    return [_onnxruntime(), _openvino(), _demo_model()]


def _onnxruntime() -> Finding:
    repair = pip("--force-reinstall", "onnxruntime")
    try:
        import onnxruntime as ort  # noqa: PLC0415 - it is what is being looked at: it may be broken

        session = ort.InferenceSession(_one_layer(), providers=["CPUExecutionProvider"])
        answer = session.run(None, {"x": _ramp()})[0]
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no base class, and any of them is the finding
        return Finding("ONNX Runtime", "missing", f"does not work: {_first_line(error)}", repair)
    if not (answer == _ramp()).all():
        return Finding("ONNX Runtime", "missing", "computes wrongly on this processor", repair)
    # Azure's provider is in every build, and computes elsewhere.
    local = [name.removesuffix("ExecutionProvider") for name in ort.get_available_providers() if "Azure" not in name]
    return Finding("ONNX Runtime", "ok", f"{ort.__version__}, computes on {', '.join(local)}")


def _openvino() -> Finding:
    try:
        installed = version("openvino")
    except PackageNotFoundError:
        return Finding("OpenVINO", "optional", "not there; faster on processors with bf16", pip("vrseg[openvino]"))
    try:
        import openvino  # noqa: PLC0415 - as above

        abilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except Exception as error:  # noqa: BLE001 - as above
        repair = pip("--force-reinstall", "openvino")
        return Finding("OpenVINO", "optional", f"{installed} does not work: {_first_line(error)}", repair)
    precision = "fp32 and bf16" if "BF16" in abilities else "fp32; this processor has no bf16"
    return Finding("OpenVINO", "ok", f"{installed}, computes {precision}")


def _demo_model() -> Finding:
    model = files("vrseg.demo").joinpath("person.onnx")
    if not model.is_file():
        return Finding(
            "demo model", "missing", "not within the package; install vrseg again", pip("--force-reinstall", "vrseg")
        )
    return Finding("demo model", "ok", f"{len(model.read_bytes()) / 1e6:.1f} MB, within the package")


def _one_layer() -> bytes:
    """Make the network `y = relu(x)`."""
    from onnx import TensorProto, helper  # noqa: PLC0415 - as above

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", ends[:1], ends[1:])
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return model


def _ramp() -> Any:
    import numpy as np  # noqa: PLC0415 - as above

    return np.arange(4, dtype=np.float32)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
