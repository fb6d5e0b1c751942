"""How plans are run, over a fake that fails as the real library does; and the real lean runtime where it is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.fake_tensorrt import FRAME, OUTPUTS, PLAN, CUDARuntimeError, Machine, answers, array_at, module
from structlog.testing import capture_logs

from vrseg.errors import DeviceError, ModelError
from vrseg.frame import Batch, Frame, Inference
from vrseg.gpu.device import Gpu, open_gpu
from vrseg.gpu.lane import Lane
from vrseg.gpu.tensor import DeviceTensor
from vrseg.infer import fp16_gate
from vrseg.infer.fp16_gate import Fp16Gate
from vrseg.infer.tensorrt import PlanRefusedError, TensorRtEngine
from vrseg.models.spec import InputSpec, ModelSpec, ThresholdSpec
from vrseg.models.trial import trial_tensor

if TYPE_CHECKING:
    import numpy.typing as npt

SPEC = ModelSpec(
    name="toy",
    path=Path("toy.onnx"),
    task="segment",
    input=InputSpec(
        name="picture",
        width=FRAME[2],
        height=FRAME[1],
        layout="nchw",
        color="rgb",
        dtype="float32",
        scale=1 / 255,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        fit="stretch",
        anchor="center",
        pad=114,
    ),
    batch=None,
    outputs=("scores",),
    decode="logits",
    channels_last=False,
    classes=(),
    thresholds=ThresholdSpec(mask=0.5, score=0.5, iou=0.5, max_boxes=10),
    licence=None,
    title="toy",
)


class Unmeasured(Fp16Gate):
    """A gate for a network that is not FP16."""

    def prepare(self) -> None:
        pass


class Bench:
    """An engine on a lane, and somebody who feeds it as preprocessing does."""

    def __init__(self, gpu: Gpu, folder: Path, *, max_batch: int = 8, plan: bytes = PLAN, **options: Any) -> None:
        self.lane = Lane(gpu, SPEC, max_batch=max_batch)
        path = folder / "toy.plan"
        path.write_bytes(plan)
        options = {"gate": Unmeasured(SPEC)} | options
        self.engine = TensorRtEngine(self.lane, trt=module(), plan_path=path, **options)

    def batch(self, pictures: npt.NDArray[np.float32]) -> Batch:
        lease = self.lane.inputs.lend(self.lane.open())
        array_at(lease.address, pictures.shape)[...] = pictures
        frame = Frame(
            stream="a", index=0, pts=0, time_base=Fraction(1, 30), picture=None, width=16, height=8, decoded_s=0.0
        )
        tensor = DeviceTensor(lease=lease, shape=pictures.shape, dtype="float32")
        return Batch(frames=(frame,) * len(pictures), placements=(), tensor=tensor)

    def infer(self, pictures: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        (inference,) = self.engine.process(self.batch(pictures))
        return taken(inference)


def taken(inference: Inference) -> dict[str, npt.NDArray[np.float32]]:
    """Copy the outputs and give their memory back, as a head does."""
    copies = {name: array_at(one.address, one.shape).copy() for name, one in inference.outputs.items()}
    for one in inference.outputs.values():
        one.lease.release()
    return copies


def pictures(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).random((count, *FRAME), np.float32)


@pytest.fixture
def bench(gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path) -> Bench:
    assert machine
    made = Bench(gpu_on_cpu, tmp_path)
    made.engine.open()
    return made


def test_batches_of_every_size_are_answered_as_the_network_says(bench: Bench) -> None:
    for seed, count in enumerate((1, 2, 3, 8, 5, 4, 1, 7, 6)):
        given = pictures(count, seed)
        said = bench.infer(given)
        np.testing.assert_array_equal(said["scores"], answers(given)["scores"])
        assert list(said) == ["scores"], "outputs that the model's spec does not name stay where they are"
    bench.engine.close()


def test_a_batch_is_one_replay_of_the_smallest_graph_that_holds_it(bench: Bench, machine: Machine) -> None:
    bench.infer(pictures(3))
    assert bench.engine.captured
    assert machine.enqueued == [1, 2, 4, 8], "each size is tried once, before it is recorded"
    for count in (1, 2, 3, 8):
        bench.infer(pictures(count))
    assert machine.replayed == [4, 1, 2, 4, 8]
    assert machine.enqueued == [1, 2, 4, 8]


def test_nobody_waits_and_nothing_is_allocated_once_the_first_batch_is_done(bench: Bench, gpu_on_cpu: Gpu) -> None:
    bench.infer(pictures(2))
    before = gpu_on_cpu.counts.snapshot()
    for count in (1, 8, 3):
        bench.infer(pictures(count))
    spent = gpu_on_cpu.counts.snapshot() - before
    assert (spent.host_waits, spent.device_allocations, spent.device_bytes) == (0, 0, 0)


def test_contexts_share_one_block_of_scratch_memory(bench: Bench, machine: Machine) -> None:
    assert bench.engine.largest_batch == 8
    assert len(machine.contexts) == 4
    assert len(machine.scratch) == 1


def test_the_input_is_given_back_before_the_next_batch_is_asked_for(bench: Bench) -> None:
    (first,) = bench.engine.process(bench.batch(pictures(1)))
    again = bench.lane.inputs.lend()  # would not come back while the engine kept it
    again.release()
    taken(first)


def test_an_engine_that_cannot_be_recorded_runs_plainly(gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path) -> None:
    machine.capturable = False
    bench = Bench(gpu_on_cpu, tmp_path)
    bench.engine.open()
    given = pictures(3)
    np.testing.assert_array_equal(bench.infer(given)["scores"], answers(given)["scores"])
    assert not bench.engine.captured
    assert machine.enqueued == [1, 2, 4, 8, 4]
    assert machine.replayed == []


def test_rtx_compiles_for_a_size_before_it_is_recorded(gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path) -> None:
    machine.rtx = True
    bench = Bench(gpu_on_cpu, tmp_path)
    bench.engine.open()
    given = pictures(5)
    np.testing.assert_array_equal(bench.infer(given)["scores"], answers(given)["scores"])
    assert bench.engine.captured


def test_graphs_can_be_switched_off(gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path) -> None:
    bench = Bench(gpu_on_cpu, tmp_path, cuda_graphs=False)
    bench.engine.open()
    bench.infer(pictures(2))
    assert machine.replayed == []


def test_a_graph_is_recorded_anew_when_the_input_lies_elsewhere(bench: Bench) -> None:
    bench.infer(pictures(2))
    given = pictures(2, 5)
    elsewhere = Lane(bench.lane.gpu, SPEC, max_batch=8)
    lease = elsewhere.inputs.lend(bench.lane.open())
    array_at(lease.address, given.shape)[...] = given
    frames = bench.batch(pictures(2)).frames
    tensor = DeviceTensor(lease=lease, shape=given.shape, dtype="float32")
    (inference,) = bench.engine.process(Batch(frames=frames, placements=(), tensor=tensor))
    np.testing.assert_array_equal(taken(inference)["scores"], answers(given)["scores"])
    assert bench.engine.captured


@pytest.mark.parametrize("fixed", [1, 2])
def test_a_graph_with_a_fixed_batch_is_run_piece_by_piece(
    fixed: int, gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path
) -> None:
    machine.batches = (fixed, fixed)
    bench = Bench(gpu_on_cpu, tmp_path, max_batch=4)
    # brightness is 4 bytes to a frame: the next piece would begin at an address that TensorRT refuses
    with pytest.raises(ModelError, match=f"multiple of 256 bytes, as TensorRT wants; write batch.max_size: {fixed}"):
        bench.engine.open()
    bench.engine.close()


def test_pieces_that_lie_well_are_answered_in_order(
    gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.fake_tensorrt.OUTPUTS", {"scores": (2, 8, 16)})
    monkeypatch.setattr("plugins.fake_tensorrt.answers", lambda given: {"scores": given[:, :2] * 3})
    machine.batches = (2, 2)
    bench = Bench(gpu_on_cpu, tmp_path, max_batch=6)
    bench.engine.open()
    for count in (6, 3, 1, 4):
        given = pictures(count, count)
        np.testing.assert_array_equal(bench.infer(given)["scores"], given[:, :2] * 3)
    assert machine.replayed == [2, 2, 2, 2, 2, 2, 2, 2]


def test_a_fixed_batch_that_does_not_divide_the_lane_s_is_refused(
    gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path
) -> None:
    machine.batches = (3, 3)
    with pytest.raises(ModelError, match=r"takes exactly 3 frames at once; write a multiple of it as batch\.max_size"):
        Bench(gpu_on_cpu, tmp_path).engine.open()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"takes": "image"}, r"its engine takes image float32 \(-1, 3, 8, 16\), the model picture float32"),
        ({"batches": (1, 4)}, "built for batches of 1 to 4, not for 8"),
        ({"batches": (2, 8)}, "built for batches of 2 to 8, not for 8"),
        ({"extra": {"kept": (-1, 7, -1)}}, r"'kept' is \(1, 7, -1\) .* none may depend on the data"),
        ({"extra": {"rows": (100, 7)}}, r"'rows' is \(100, 7\) for 1 frames; its first dimension must be the frame"),
        ({"without_contexts": True}, "not enough GPU memory for its engine"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused_when_it_is_opened(
    settings: dict[str, Any], message: str, gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path
) -> None:
    for name, value in settings.items():
        setattr(machine, name, value)
    bench = Bench(gpu_on_cpu, tmp_path)
    with pytest.raises(ModelError, match=message):
        bench.engine.open()
    bench.engine.close()
    bench.engine.close()


def test_a_plan_that_is_refused_says_why_and_how_to_mend_it(gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path) -> None:
    assert machine
    bench = Bench(gpu_on_cpu, tmp_path, plan=b"of another time")
    with pytest.raises(
        PlanRefusedError, match=r"11\.4\.0\.106 does not load it: the plan is of another version; build"
    ):
        bench.engine.open()
    bench.engine.close()


def test_a_plan_that_is_gone_counts_as_refused(gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path) -> None:
    assert machine
    bench = Bench(gpu_on_cpu, tmp_path)
    (tmp_path / "toy.plan").unlink()
    with pytest.raises(PlanRefusedError, match="cannot be read"):
        bench.engine.open()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Error Code 1: Cuda Runtime (an illegal memory access was encountered)", DeviceError),
        ("Error Code 3: API usage error", ModelError),
    ],
)
def test_a_failed_enqueue_is_the_device_s_or_the_model_s(
    said: str, kind: type[Exception], bench: Bench, machine: Machine
) -> None:
    bench.infer(pictures(1))
    machine.capturable = False
    machine.failing = said
    batch = bench.batch(pictures(1))
    bench.engine._calls[0]._graph = None  # as of an engine that could not be recorded
    with pytest.raises(kind, match="TensorRT failed on 1 frames"):
        bench.engine.process(batch)
    batch.tensor.lease.release()
    machine.failing = None
    assert bench.infer(pictures(1)), "the outputs came back to their pool"


def test_too_little_memory_is_told_apart(gpu_on_cpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cupy

    def full(size: int) -> None:
        raise CUDARuntimeError(f"cudaErrorMemoryAllocation: out of memory for {size} bytes")

    bench = Bench(gpu_on_cpu, tmp_path)
    monkeypatch.setattr(cupy.cuda, "Memory", full)
    with pytest.raises(ModelError, match=r"not enough GPU memory for its engine; write a smaller batch\.max_size"):
        bench.engine.open()
    bench.engine.close()


def test_more_frames_than_the_lane_holds_are_refused(bench: Bench) -> None:
    batch = bench.batch(pictures(1))
    with pytest.raises(ModelError, match="9 frames at once, where 8 are the most"):
        bench.engine.process(Batch(frames=batch.frames * 9, placements=(), tensor=batch.tensor))


def test_a_closed_engine_holds_nothing_and_refuses_batches(bench: Bench, gpu_on_cpu: Gpu) -> None:
    batch = bench.batch(pictures(1))
    taken(*bench.engine.process(batch))
    held = gpu_on_cpu.counts.snapshot().device_bytes
    bench.engine.close()
    bench.engine.close()
    assert gpu_on_cpu.counts.snapshot().device_bytes == bench.lane.input_bytes < held
    with pytest.raises(ModelError, match="not open"):
        bench.engine.process(batch)


def gate_of(monkeypatch: pytest.MonkeyPatch, wanted: npt.NDArray[np.float32] | None) -> Fp16Gate:
    """A gate that wants these scores of the trial pictures; None: the network is not FP16."""
    monkeypatch.setattr(fp16_gate, "unrounded_answers", lambda _: None if wanted is None else [wanted])
    return Fp16Gate(SPEC)


def trial_scores() -> npt.NDArray[np.float32]:
    return answers(trial_tensor(SPEC.input))["scores"]


@pytest.mark.parametrize("batches", [(1, 8), (2, 2)])
def test_fp16_that_is_good_enough_serves_and_that_is_told_in_one_line(
    batches: tuple[int, int], gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.fake_tensorrt.OUTPUTS", {"scores": OUTPUTS["scores"]})  # pieces must lie well
    monkeypatch.setattr("plugins.fake_tensorrt.answers", lambda given: {"scores": answers(given)["scores"]})
    machine.batches = batches
    bench = Bench(gpu_on_cpu, tmp_path, gate=gate_of(monkeypatch, trial_scores()))
    under_way = bench.batch(pictures(3))  # a batch lies in the lane's input while a new plan is opened
    with capture_logs() as logs:
        bench.engine.open()
    told = [one for one in logs if one["event"] == "FP16 measured on this GPU"]
    assert [(one["model"], one["engine"]) for one in told] == [("toy", "TensorRT")]
    np.testing.assert_array_equal(array_at(under_way.tensor.address, (3, *FRAME)), pictures(3))
    (inference,) = bench.engine.process(under_way)
    np.testing.assert_array_equal(taken(inference)["scores"], answers(pictures(3))["scores"])
    bench.engine.close()


def test_fp16_is_measured_in_memory_that_is_given_back(
    gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine
    held = []
    for wanted in (None, trial_scores()):
        bench = Bench(gpu_on_cpu, tmp_path, gate=gate_of(monkeypatch, wanted))
        before = gpu_on_cpu.counts.snapshot()
        bench.engine.open()
        held.append((gpu_on_cpu.counts.snapshot() - before).device_bytes)
        bench.engine.close()
    assert held[0] == held[1]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_fp16_that_is_wrong_in_any_batch_is_refused(
    size: int, gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine
    wanted = trial_scores()
    monkeypatch.setattr(
        "plugins.fake_tensorrt.answers",
        lambda given: {name: one * (len(given) != size) for name, one in answers(given).items()},
    )
    bench = Bench(gpu_on_cpu, tmp_path, gate=gate_of(monkeypatch, wanted))
    said = rf"toy\.onnx: FP16 is not accurate enough on this GPU, with TensorRT in batches of {size}: mask IoU 0\.\d+"
    with pytest.raises(ModelError, match=said) as caught:
        bench.engine.open()
    assert "precision: fp32" not in str(caught.value), "ONNX Runtime's FP16 may well be good enough"
    bench.engine.close()
    assert gpu_on_cpu.counts.snapshot().device_bytes == 0


def test_fp16_that_cannot_be_measured_serves_and_that_is_told(
    gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: ModelSpec) -> None:
        raise ModelError("it has control flow")

    monkeypatch.setattr(fp16_gate, "unrounded_answers", failing)
    bench = Bench(gpu_on_cpu, tmp_path, gate=Fp16Gate(SPEC))
    with capture_logs() as logs:
        bench.engine.open()
    assert [(one["model"], one["log_level"]) for one in logs] == [("toy", "warning")]
    assert "nobody knows how good it is: it has control flow" in logs[0]["reason"]
    assert not machine.enqueued
    bench.engine.close()


def test_fp32_is_not_measured(
    gpu_on_cpu: Gpu, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(gpu_on_cpu, tmp_path, gate=gate_of(monkeypatch, None))
    bench.engine.open()
    assert not machine.enqueued
    bench.engine.close()


@pytest.mark.gpu
@pytest.mark.parametrize("plan", [b"ptrt" + bytes(60), bytes(4096)], ids=["cut off", "rubbish"])
@pytest.mark.parametrize("library", ["tensorrt_lean", "tensorrt_rtx"])
def test_a_real_runtime_refuses_what_is_no_plan(library: str, plan: bytes, tmp_path: Path) -> None:
    trt: Any = pytest.importorskip(library)
    path = tmp_path / "toy.plan"
    path.write_bytes(plan)
    engine = TensorRtEngine(Lane(open_gpu(), SPEC, max_batch=2), trt=trt, plan_path=path, gate=Unmeasured(SPEC))
    with pytest.raises(PlanRefusedError, match="does not load it"):
        engine.open()
    engine.close()
