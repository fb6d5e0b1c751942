"""Building with the real TensorRT-RTX, which builds for cards that are not here."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper
from plugins.networks import color_network, save_network

from vrseg.errors import DeviceError, ModelError
from vrseg.models.build import BatchSizes, BuildCancelledError, Built, Graph, build_plan

if TYPE_CHECKING:
    from pathlib import Path

trt: Any = pytest.importorskip("tensorrt_rtx")

AMPERE = (8, 6)
BATCHES = BatchSizes(least=1, usual=4, most=8)
MODELS = [
    "mediapipe_selfie_segmentation_256x256",
    "mediapipe_selfie_segmentation_256x256_dynbatch",
    "mediapipe_selfie_segmentation_landscape_144x256",
    "movenet_singlepose_lightning_192",
    "pp_humanseg_v1_lite_portrait_398x224",
    "pp_humanseg_v1_lite_portrait_398x224_dynbatch",
    "yolox_nano_416",
]


def graph_of(path: Path, *, frame_shape: tuple[int, ...] | None = None, batch: BatchSizes = BATCHES) -> Graph:
    return Graph(title=path.name, onnx=path.read_bytes(), path=str(path), frame_shape=frame_shape, batch=batch)


def built(path: Path, **options: Any) -> Built:
    return build_plan(trt, graph_of(path), compute_capability=AMPERE, **options)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return color_network(tmp_path / "toy.onnx", np.eye(3).tolist(), [0, 0, 0], last="Softmax")


@pytest.mark.material
@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_built_and_progress_only_grows_to_the_end(name: str, models_dir: Path) -> None:
    fractions: list[float] = []
    engine = built(models_dir / f"{name}.onnx", report=fractions.append)
    assert engine.plan.startswith(b"vtrt")
    free = name.endswith("_dynbatch")
    assert engine.batch == (BATCHES if free else BatchSizes(least=1, usual=1, most=1))
    assert all(a < b for a, b in itertools.pairwise(fractions))
    assert len(fractions) > 50
    assert fractions[-1] == 1
    assert sum(0.01 < one < 0.9 for one in fractions) > 20, "progress that jumps tells nobody anything"


def test_a_network_with_a_free_batch_takes_what_its_profile_says(toy: Path) -> None:
    assert built(toy).batch == BATCHES
    narrow = BatchSizes(least=1, usual=2, most=2)
    assert build_plan(trt, graph_of(toy, batch=narrow), compute_capability=AMPERE).batch == narrow


def test_a_profile_that_contradicts_itself_is_refused(toy: Path) -> None:
    wrong = graph_of(toy, batch=BatchSizes(least=8, usual=4, most=2))
    with pytest.raises(ModelError, match=r"toy\.onnx: TensorRT refuses batches of 8 to 2"):
        build_plan(trt, wrong, compute_capability=AMPERE)


def test_the_size_of_the_picture_may_come_from_the_description(tmp_path: Path) -> None:
    path = color_network(tmp_path / "any.onnx", np.eye(3).tolist(), [0, 0, 0], size=("h", "w"))
    with pytest.raises(ModelError, match="leaves more open than the batch; export it with a fixed picture size"):
        build_plan(trt, graph_of(path), compute_capability=AMPERE)
    engine = build_plan(trt, graph_of(path, frame_shape=(3, 32, 48)), compute_capability=AMPERE)
    assert engine.batch == BATCHES


def test_cancelling_ends_the_build(toy: Path) -> None:
    fractions: list[float] = []
    with pytest.raises(BuildCancelledError, match=r"toy\.onnx: the build was cancelled"):
        built(toy, report=fractions.append, cancelled=lambda: len(fractions) >= 5)
    assert 5 <= len(fractions) < 10
    assert built(toy).plan, "a cancelled build leaves nothing behind that hinders the next"


def test_all_that_the_parser_says_is_told_with_the_names_of_nodes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Frobnicate", ["picture"], ["first"], name="odd_one"),
        helper.make_node("Mystify", ["first"], ["scores"], name="odder_one"),
    ]
    path = save_network(tmp_path / "odd.onnx", nodes, takes=("N", 3, 8, 8), gives={"scores": ("N", 3, 8, 8)})
    with pytest.raises(ModelError) as failed:
        built(path)
    said = str(failed.value)
    assert "\n" not in said
    assert said.startswith("odd.onnx: TensorRT cannot read it: node ")
    for word in ("odd_one", "Frobnicate", "odder_one", "Mystify"):
        assert word in said


def test_what_is_no_model_is_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "rubbish.onnx"
    path.write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match=r"rubbish\.onnx: TensorRT cannot read it: .+"):
        built(path)


def test_weights_in_a_file_of_their_own_are_found(tmp_path: Path) -> None:
    path = color_network(tmp_path / "toy.onnx", np.eye(3).tolist(), [0, 0, 0])
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert built(path).plan
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match="cannot read it"):
        built(path)


def test_a_card_that_the_library_does_not_know_is_a_device_error(toy: Path) -> None:
    with pytest.raises(DeviceError, match=r"TensorRT-RTX does not run on compute capability 9\.0; run: pip install"):
        build_plan(trt, graph_of(toy), compute_capability=(9, 0))


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
@pytest.mark.parametrize("known", ["nothing", "of before", "rubbish"])
def test_the_full_library_is_given_what_was_measured_before(known: str, toy: Path) -> None:
    # TensorRT-RTX under the other's name has the same calls, though its cache stays empty.
    full: Any = ModuleType("tensorrt")
    full.__dict__.update({name: value for name, value in vars(trt).items() if name != "__name__"})
    first = build_plan(full, graph_of(toy), compute_capability=AMPERE)
    assert first.timing_cache
    content = {"nothing": b"", "of before": first.timing_cache, "rubbish": b"rubbish"}[known]
    again = build_plan(full, graph_of(toy), compute_capability=(9, 0), timing_cache=content)
    assert again.timing_cache, "the full library is built for the device at hand, whatever it is"


@pytest.mark.gpu
def test_a_plan_for_another_card_is_refused_by_name(toy: Path, tmp_path: Path) -> None:
    from vrseg.config.schema import Model
    from vrseg.gpu.device import open_gpu
    from vrseg.gpu.lane import Lane
    from vrseg.infer.fp16_gate import Fp16Gate
    from vrseg.infer.tensorrt import PlanRefusedError, TensorRtEngine
    from vrseg.models.load import load_spec

    gpu = open_gpu()
    foreign = (7, 5) if gpu.compute_capability != (7, 5) else (8, 9)
    plan = tmp_path / "toy.plan"
    plan.write_bytes(build_plan(trt, graph_of(toy), compute_capability=foreign).plan)
    spec = load_spec("toy", Model(path=str(toy), task="segment"), tmp_path)
    engine = TensorRtEngine(Lane(gpu, spec, max_batch=8), trt=trt, plan_path=plan, gate=Fp16Gate(spec))
    with pytest.raises(PlanRefusedError, match=r"tensorrt_rtx .* does not load it"):
        engine.open()
    engine.close()
