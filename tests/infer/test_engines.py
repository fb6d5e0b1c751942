from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper
from plugins.frames import rgb_frame
from plugins.networks import color_network, save_network

from vrseg.config.schema import Model
from vrseg.errors import ConfigError, DeviceError, ModelError
from vrseg.frame import Batch, Placement
from vrseg.infer.choose import make_engine
from vrseg.infer.gate import compare
from vrseg.infer.onnx import OnnxEngine
from vrseg.infer.openvino import OpenVinoEngine
from vrseg.models.load import load_spec

if TYPE_CHECKING:
    from pathlib import Path

    from vrseg.models.spec import ModelSpec

COLORS = [[1.0, 2.0, -1.0], [0.5, -1.0, 0.25]]
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
ENGINES = [
    "onnxruntime",
    pytest.param("openvino", marks=pytest.mark.skipif(not HAS_OPENVINO, reason="the extra openvino is not installed")),
]


def network(tmp_path: Path, **keys: Any) -> Path:
    return color_network(tmp_path / "body.onnx", COLORS, [0.1, -0.2], **keys)


def spec_of(path: Path, **keys: Any) -> ModelSpec:
    return load_spec("body", Model.model_validate({"path": path.name, **keys}), path.parent)


def engine_of(path: Path, engine: str, **keys: Any) -> Any:
    model = Model.model_validate({"path": path.name, "engine": engine, **keys})
    return make_engine(load_spec("body", model, path.parent), model)


def batch_of(count: int, shape: tuple[int, ...], dtype: str = "float32") -> Batch:
    pictures = np.random.default_rng(count).random((count, *shape))
    tensor = (pictures * 255).astype(np.uint8) if dtype == "uint8" else pictures.astype(dtype)
    frames = tuple(rgb_frame(np.zeros((16, 16, 3), np.uint8), index=n) for n in range(count))
    placement = Placement(left=0, top=0, width=48, height=32, frame_width=16, frame_height=16)
    return Batch(frames=frames, placements=(placement,) * count, tensor=tensor)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fixed", [1, 4, "N"])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_frames_is_inferred_in_order(
    tmp_path: Path, engine: str, fixed: int | str, count: int, threads: int
) -> None:
    path = network(tmp_path, batch=fixed)
    batch = batch_of(count, (3, 32, 48))
    stage = engine_of(path, engine, threads=threads)
    stage.open()
    (inference,) = stage.process(batch)
    stage.close()
    weights = np.array(COLORS, np.float32)
    expected = np.einsum("kc,nchw->nkhw", weights, batch.tensor) + np.array([0.1, -0.2]).reshape(1, 2, 1, 1)
    np.testing.assert_allclose(inference.outputs["scores"], expected, atol=1e-4)
    assert (inference.frames, inference.placements) == (batch.frames, batch.placements)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_inputs_of_every_type_and_layout(tmp_path: Path, engine: str, dtype: str, layout: str) -> None:
    path = network(tmp_path, dtype=dtype, layout=layout)
    batch = batch_of(2, (3, 32, 48) if layout == "nchw" else (32, 48, 3), dtype)
    stage = engine_of(path, engine)
    stage.open()
    (inference,) = stage.process(batch)
    stage.close()
    (expected,) = ort.InferenceSession(path).run(None, {"picture": batch.tensor})
    np.testing.assert_allclose(inference.outputs["scores"], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_results_outlive_the_next_batch(tmp_path: Path, engine: str) -> None:
    stage = engine_of(network(tmp_path), engine)
    stage.open()
    first = batch_of(2, (3, 32, 48))
    (inference,) = stage.process(first)
    kept = inference.outputs["scores"].copy()
    for count in (2, 1, 2):
        stage.process(Batch(frames=first.frames, placements=first.placements, tensor=np.ones((count, 3, 32, 48), "f4")))
    np.testing.assert_array_equal(inference.outputs["scores"], kept)
    stage.close()


def test_a_slow_network_gets_all_threads_for_a_single_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrseg.infer.onnx._SLOW_S", 0.0)
    stage = OnnxEngine(spec_of(network(tmp_path)), threads=2)
    stage.open()
    batch = batch_of(1, (3, 32, 48))
    (wide,) = stage.process(batch)
    (several,) = stage.process(batch_of(4, (3, 32, 48)))
    stage.close()
    (expected,) = ort.InferenceSession(tmp_path / "body.onnx").run(None, {"picture": batch.tensor})
    np.testing.assert_allclose(wide.outputs["scores"], expected, atol=1e-5)
    assert len(several.outputs["scores"]) == 4


def test_a_fixed_batch_is_freed_where_the_graph_allows(tmp_path: Path) -> None:
    stage = OnnxEngine(spec_of(network(tmp_path, batch=1)))
    before = stage.batch
    stage.open()
    assert (before, stage.batch) == (1, None)
    stage.close()


def unknown_operator(tmp_path: Path) -> Path:
    nodes = [helper.make_node("Frobnicate", ["picture"], ["scores"], domain="com.example")]
    return save_network(tmp_path / "body.onnx", nodes, takes=("N", 3, 32, 48), gives={"scores": ("N", 1, 32, 48)})


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_the_engine_cannot_run_gets_one_line(tmp_path: Path, engine: str) -> None:
    stage = engine_of(unknown_operator(tmp_path), engine)
    with pytest.raises(ModelError, match=r"body\.onnx: .* cannot use this model: .+") as caught:
        stage.open()
    assert "\n" not in str(caught.value)
    stage.close()
    stage.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_failure_on_a_batch_is_a_model_error_of_one_line(tmp_path: Path, engine: str) -> None:
    stage = engine_of(network(tmp_path), engine)
    stage.open()
    with pytest.raises(ModelError, match="failed on a batch") as caught:
        stage.process(batch_of(2, (3, 32, 49)))
    assert "\n" not in str(caught.value)
    stage.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_is_not_open_says_so(tmp_path: Path, engine: str) -> None:
    stage = engine_of(network(tmp_path), engine)
    stage.close()
    with pytest.raises(ModelError, match="not open"):
        stage.process(batch_of(1, (3, 32, 48)))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_precisions_of_other_devices_are_refused(tmp_path: Path, precision: str) -> None:
    with pytest.raises(ConfigError, match=rf"models\.body\.precision: the CPU does not compute {precision}"):
        engine_of(network(tmp_path), "auto", precision=precision)
    with pytest.raises(ConfigError, match="write engine: openvino"):
        engine_of(network(tmp_path), "onnxruntime", precision="bf16")


def test_a_missing_extra_names_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DeviceError, match=r"pip install 'vrseg\[openvino\]'"):
        OpenVinoEngine(spec_of(network(tmp_path))).open()


def computes_bf16() -> bool:
    if not HAS_OPENVINO:
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.skipif(not computes_bf16(), reason="no OpenVINO, or a CPU without bf16")
def test_bf16_runs_where_it_agrees_with_fp32_and_is_refused_where_not(tmp_path: Path) -> None:
    steady = color_network(tmp_path / "steady.onnx", [[4.0, -1.0, -1.0]], [-0.5], last="Sigmoid", batch=1)
    engine = OpenVinoEngine(spec_of(steady), precision="bf16")
    engine.open()
    assert engine.verdict is not None
    assert "mask IoU" in engine.verdict.text
    engine.close()
    # The difference of two large numbers: bf16 keeps eight bits of each.
    nodes = [
        helper.make_node("Conv", ["picture", "first"], ["large"]),
        helper.make_node("Conv", ["large", "second"], ["small"]),
        helper.make_node("Sigmoid", ["small"], ["scores"]),
    ]
    first = np.array([[1, 1, 1], [1.01, 1, 0.99]], np.float32).reshape(2, 3, 1, 1) * 1000
    shaky = save_network(
        tmp_path / "shaky.onnx",
        nodes,
        takes=(1, 3, 32, 48),
        gives={"scores": (1, 1, 32, 48)},
        weights={"first": first, "second": np.array([-1, 1], np.float32).reshape(1, 2, 1, 1)},
    )
    refused = OpenVinoEngine(spec_of(shaky), precision="bf16")
    with pytest.raises(ModelError, match=r"bf16 is not accurate enough for this model: .*\d; write precision: fp32"):
        refused.open()
    refused.close()


def test_the_gate_measures_masks_by_their_overlap(tmp_path: Path) -> None:
    spec = spec_of(color_network(tmp_path / "body.onnx", [[1.0, 0.0, 0.0]], [0.0], last="Sigmoid"))
    exact = np.zeros((1, 1, 100, 100), np.float32)
    exact[..., :50] = 0.9
    coarse = exact.copy()
    coarse[..., 0, 0] = 0.1
    assert compare(spec, [exact], [coarse]).passed
    coarse[..., :2] = 0.1
    assert compare(spec, [exact], [coarse]).text == "mask IoU 0.9600, needed 0.99"
    assert not compare(spec, [exact], [coarse]).passed
    nothing = np.full_like(exact, 0.1)
    assert compare(spec, [nothing], [nothing + 0.01]).passed
    assert not compare(spec, [nothing], [nothing + 0.1]).passed
    assert not compare(spec, [exact], [np.full_like(exact, np.nan)]).passed


def test_the_gate_measures_detectors_by_their_scores(tmp_path: Path) -> None:
    from plugins.networks import fixed_network

    spec = spec_of(fixed_network(tmp_path / "body.onnx", {"output": np.zeros((84, 85), np.float32)}))
    exact = np.full((1, 84, 85), 0.5, np.float32)
    assert compare(spec, [exact], [exact + 0.01]).passed
    assert not compare(spec, [exact], [exact + 0.05]).passed


ASK_AT_ONCE = """
import faulthandler, sys, threading
from pathlib import Path
import openvino
from vrseg.config.schema import Model
from vrseg.infer.openvino import OpenVinoEngine
from vrseg.models.load import load_spec

def ask_at_once():
    together = threading.Barrier(4)
    threads = [threading.Thread(target=lambda: (together.wait(), openvino.Type.f32.to_dtype())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.exit("nobody waits")

faulthandler.dump_traceback_later(10, exit=True)
sys.setswitchinterval(1e-6)
openvino.Core = ask_at_once
path = Path(sys.argv[1])
OpenVinoEngine(load_spec("body", Model(path=path.name), path.parent)).open()
"""


@pytest.mark.skipif(not HAS_OPENVINO, reason="the extra openvino is not installed")
def test_threads_that_first_use_openvino_at_once_do_not_wait_for_each_other_for_ever(tmp_path: Path) -> None:
    """Its table of types must be filled before threads ask for it: without that, four of five runs hang here."""
    said = subprocess.run(
        [sys.executable, "-c", ASK_AT_ONCE, str(network(tmp_path))],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert said.stderr.strip() == "nobody waits"
