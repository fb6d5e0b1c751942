from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from plugins.frames import rgb_frame
from plugins.networks import color_network, save_network
from plugins.onnx_on_cpu import Sessions, Stream, pretended_gpu

import vrseg.infer.cuda_program
from vrseg.config.schema import Model
from vrseg.errors import DeviceError, ModelError
from vrseg.frame import Batch, Placement
from vrseg.gpu.device import Gpu, open_gpu
from vrseg.gpu.lane import Lane
from vrseg.gpu.tensor import DeviceTensor
from vrseg.infer.cuda_session import CHANNELS_LAST, is_short_of_memory, open_session, provider_options
from vrseg.infer.gate import compare, compare_foreseeing
from vrseg.infer.onnx import OnnxEngine
from vrseg.infer.onnx_cuda import OnnxCudaEngine, batch_sizes
from vrseg.infer.output_block import lay_out
from vrseg.models.convert import as_fp16, convert, varied, write
from vrseg.models.load import load_spec
from vrseg.models.trial import trial_tensor

if TYPE_CHECKING:
    from vrseg.models.spec import ModelSpec

    Array = np.ndarray[Any, Any]

DESCRIPTIONS = Path(__file__).resolve().parents[2] / "configs" / "models"
COLORS = [[1.0, 2.0, -1.0], [0.5, -1.0, 0.25]]
MODELS = [
    "mediapipe_selfie_segmentation_256x256",
    "mediapipe_selfie_segmentation_256x256_dynbatch",
    "mediapipe_selfie_segmentation_landscape_144x256",
    "pp_humanseg_v1_lite_portrait_398x224",
    "pp_humanseg_v1_lite_portrait_398x224_dynbatch",
    "yolox_nano_416",
]


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Gpu:
    """A GPU: pretended, and where there is one also a real one."""
    if request.param == "real":
        return open_gpu()
    request.getfixturevalue("onnx_on_cpu")
    return pretended_gpu()


def network(tmp_path: Path, **keys: Any) -> Path:
    return color_network(tmp_path / "body.onnx", COLORS, [0.1, -0.2], last="Sigmoid", **keys)


def spec_of(path: Path, **keys: Any) -> ModelSpec:
    return load_spec("body", Model.model_validate({"path": str(path), **keys}), path.parent)


def pictures(spec: ModelSpec, count: int, seed: int = 0) -> Array:
    random = np.random.default_rng((seed, count)).random((count, *spec.input.shape))
    return (random * 255).astype(np.uint8) if spec.input.dtype == "uint8" else random.astype(spec.input.dtype)


def batch_of(lane: Lane, tensor: Array) -> Batch:
    """Put a batch where preprocessing would."""
    import cupy

    stream, runtime = lane.open(), cupy.cuda.runtime
    lease = lane.inputs.lend(stream)
    host = np.ascontiguousarray(tensor)
    runtime.memcpyAsync(lease.address, host.ctypes.data, host.nbytes, runtime.memcpyHostToDevice, stream.ptr)
    stream.synchronize()
    placement = Placement(left=0, top=0, width=48, height=32, frame_width=16, frame_height=16)
    frames = tuple(rgb_frame(np.zeros((16, 16, 3), np.uint8), index=number) for number in range(len(tensor)))
    device = DeviceTensor(lease=lease, shape=tensor.shape, dtype=tensor.dtype.name)
    return Batch(frames=frames, placements=(placement,) * len(tensor), tensor=device)


def answers_of(lane: Lane, engine: OnnxCudaEngine, tensor: Array) -> dict[str, Array]:
    """Infer a batch and fetch what came out, as a head would."""
    import cupy

    stream, runtime = lane.open(), cupy.cuda.runtime
    (inference,) = engine.process(batch_of(lane, tensor))
    assert [frame.index for frame in inference.frames] == list(range(len(tensor)))
    answers = {}
    for name, output in inference.outputs.items():
        assert output.offset_bytes % 256 == 0
        answers[name] = np.empty(output.shape, output.dtype)
        target, source = answers[name].ctypes.data, output.address
        runtime.memcpyAsync(target, source, output.size_bytes, runtime.memcpyDeviceToHost, stream.ptr)
    stream.synchronize()
    for output in inference.outputs.values():
        output.lease.release()
    return answers


def on_the_cpu(spec: ModelSpec, tensor: Array) -> dict[str, Array]:
    engine = OnnxEngine(spec)
    engine.open()
    frames = tuple(rgb_frame(np.zeros((16, 16, 3), np.uint8)) for _ in tensor)
    (inference,) = engine.process(Batch(frames=frames, placements=(), tensor=tensor))
    engine.close()
    return inference.outputs


def close(found: dict[str, Array], wanted: dict[str, Array]) -> bool:
    # A GPU multiplies float32 in TF32, which has a mantissa of 10 bits.
    return found.keys() == wanted.keys() and all(
        np.allclose(found[name].astype(np.float64), wanted[name].astype(np.float64), rtol=5e-3, atol=5e-3)
        for name in wanted
    )


def opened(lane: Lane) -> OnnxCudaEngine:
    engine = OnnxCudaEngine(lane)
    engine.open()
    return engine


@pytest.mark.parametrize("fixed", ["N", 1, 3])
def test_any_number_of_frames_is_inferred_in_order(tmp_path: Path, gpu: Gpu, fixed: int | str) -> None:
    spec = spec_of(network(tmp_path, batch=fixed))
    lane = Lane(gpu, spec, max_batch=6)
    engine = opened(lane)
    for count in (1, 2, 3, 4, 5, 6, 1):
        tensor = pictures(spec, count)
        assert close(answers_of(lane, engine, tensor), on_the_cpu(spec, tensor))
    assert not [remark for remark in engine.remarks if "CUDA graph" in remark]
    engine.close()
    lane.inputs.close()
    assert gpu.counts.snapshot().device_bytes == 0


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_inputs_of_every_type_and_layout(tmp_path: Path, gpu: Gpu, dtype: str, layout: str) -> None:
    spec = spec_of(network(tmp_path, dtype=dtype, layout=layout))
    lane = Lane(gpu, spec, max_batch=2)
    engine = opened(lane)
    tensor = pictures(spec, 2)
    assert close(answers_of(lane, engine, tensor), on_the_cpu(spec, tensor))
    engine.close()


def rows_network(path: Path) -> Path:
    """Three outputs of three types: the first columns as boxes, the largest value of a row, and its whole part."""
    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["plane"], axes=[1], keepdims=0),
        helper.make_node("Slice", ["plane", "first", "last", "axis"], ["boxes"]),
        helper.make_node("ReduceMax", ["plane"], ["scores"], axes=[2], keepdims=0),
        helper.make_node("Floor", ["scores"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["classes"], to=TensorProto.INT64),
    ]
    ends = {"first": [0], "last": [4], "axis": [2]}
    return save_network(
        path,
        nodes,
        takes=("N", 3, 32, 48),
        gives={"boxes": ("N", 32, 4), "scores": ("N", 32), "classes": ("N", 32)},
        weights={name: np.array(value, np.int64) for name, value in ends.items()},
        integer_outputs=("classes",),
    )


def test_several_outputs_lie_apart(tmp_path: Path, gpu: Gpu) -> None:
    spec = spec_of(rows_network(tmp_path / "body.onnx"), output={"decode": "end2end"})
    assert set(spec.outputs) == {"boxes", "scores", "classes"}
    lane = Lane(gpu, spec, max_batch=3)
    engine = opened(lane)
    tensor = pictures(spec, 3) * 9
    found = answers_of(lane, engine, tensor)
    wanted = on_the_cpu(spec, tensor)
    assert {name: answer.dtype for name, answer in found.items()} == {
        "boxes": np.float32,
        "scores": np.float32,
        "classes": np.int64,
    }
    assert close(found, wanted)
    assert len(np.unique(found["classes"])) > 1
    engine.close()


def test_a_batch_costs_neither_memory_nor_waiting(tmp_path: Path, gpu: Gpu) -> None:
    spec = spec_of(network(tmp_path))
    lane = Lane(gpu, spec, max_batch=4)
    engine = opened(lane)
    tensors = [pictures(spec, count) for count in (4, 1, 3)]
    before = gpu.counts.snapshot()
    for tensor in tensors:
        batch = batch_of(lane, tensor)
        (inference,) = engine.process(batch)
        next(iter(inference.outputs.values())).lease.release()
    spent = gpu.counts.snapshot() - before
    assert (spent.device_allocations, spent.pinned_allocations, spent.host_waits) == (0, 0, 0)
    assert (spent.to_device_bytes, spent.to_host_bytes) == (0, 0)
    engine.close()


def test_a_batch_that_does_not_fit_any_more_is_run_in_pieces(tmp_path: Path, gpu: Gpu) -> None:
    spec = spec_of(network(tmp_path))
    lane = Lane(gpu, spec, max_batch=7)
    engine = opened(lane)
    engine.largest_batch = 2
    for seed in range(3):
        tensor = pictures(spec, 7, seed)
        assert close(answers_of(lane, engine, tensor), on_the_cpu(spec, tensor))
    engine.close()


def test_closing_is_safe_at_any_time(tmp_path: Path, gpu: Gpu) -> None:
    engine = OnnxCudaEngine(Lane(gpu, spec_of(network(tmp_path)), max_batch=2))
    engine.close()
    engine.open()
    engine.close()
    engine.close()
    with pytest.raises(ModelError, match="the engine is not open"):
        list(engine.process(Batch(frames=(), placements=(), tensor=None)))


def test_an_fp16_model_has_fp16_on_both_sides(tmp_path: Path, gpu: Gpu) -> None:
    spec = as_fp16(spec_of(network(tmp_path)), tmp_path / "cache", compare)
    lane = Lane(gpu, spec, max_batch=4)
    assert lane.input_bytes == 4 * 3 * 32 * 48 * 2
    engine = opened(lane)
    tensor = pictures(spec, 3)
    found = answers_of(lane, engine, tensor)
    assert found["scores"].dtype == np.float16
    assert close(found, on_the_cpu(spec, tensor))
    engine.close()


@pytest.mark.gpu
@pytest.mark.material
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_model_says_the_same_on_the_gpu(tmp_path: Path, models_dir: Path, name: str, precision: str) -> None:
    exact = spec_of(models_dir / f"{name}.onnx", description=str(DESCRIPTIONS / f"{name}.yaml"))
    spec = exact if precision == "fp32" else as_fp16(exact, tmp_path, compare_foreseeing)
    lane = Lane(open_gpu(), spec, max_batch=4)
    engine = opened(lane)
    assert not [remark for remark in engine.remarks if "CUDA graph" in remark], engine.remarks
    tensor = np.resize(trial_tensor(spec.input), (4, *spec.input.shape))
    found = answers_of(lane, engine, tensor)
    wanted = on_the_cpu(exact, np.resize(trial_tensor(exact.input), (4, *exact.input.shape)))
    answers = [[one[output] for output in exact.outputs] for one in (wanted, found)]
    verdict = compare(exact, *answers)
    assert verdict.passed, verdict.text
    engine.close()


@pytest.mark.gpu
@pytest.mark.material
@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_is_as_good_on_the_gpu_as_was_foreseen(tmp_path: Path, models_dir: Path, name: str) -> None:
    exact = spec_of(models_dir / f"{name}.onnx", description=str(DESCRIPTIONS / f"{name}.yaml"))
    done = convert(exact, compare_foreseeing)
    write(done, tmp_path / "coarse.onnx")
    spec = spec_of(tmp_path / "coarse.onnx", description=str(DESCRIPTIONS / f"{name}.yaml"))
    pictures = varied(trial_tensor(exact.input), exact.input.layout)
    wanted = on_the_cpu(exact, pictures)
    found: dict[str, list[Array]] = {output: [] for output in exact.outputs}
    engine = opened(lane := Lane(open_gpu(), spec, max_batch=4))
    for start in range(0, len(pictures), 4):
        answers = answers_of(lane, engine, pictures[start : start + 4].astype(spec.input.dtype))
        for output, parts in found.items():
            parts.append(answers[output])
    full = opened(Lane(open_gpu(), exact, max_batch=4))
    size = max(engine._programs)
    fp32_ms, fp16_ms = (one._programs[size].duration_ms() for one in (full, engine))
    verdict = compare(exact, [wanted[one] for one in found], [np.concatenate(parts) for parts in found.values()])
    print(  # noqa: T201 -- figures, for whoever runs with -s
        f"\n{name}: on the GPU {verdict.text}\n  foreseen {done.measured}; {len(done.kept)} of {done.nodes} nodes FP32"
        f"\n  gate when opened {engine.verdict and engine.verdict.text}"
        f"\n  {size} frames in {fp32_ms:.3f} ms FP32, {fp16_ms:.3f} ms FP16, channels last {engine.channels_last}"
    )
    full.close()
    engine.close()
    assert verdict.passed, verdict.text


def test_each_size_has_a_session_of_its_own_and_is_replayed(tmp_path: Path, onnx_on_cpu: Sessions) -> None:
    spec = spec_of(network(tmp_path))
    lane = Lane(pretended_gpu(), spec, max_batch=4)
    engine = opened(lane)
    # Equal times: the usual layout stays, and smaller sizes are loaded with it alone.
    assert onnx_on_cpu.opened == [(4, False), (4, True), (2, False), (1, False)]
    assert not engine.channels_last
    launches = [program._graph.launches for program in engine._programs.values() if program._graph is not None]
    answers_of(lane, engine, pictures(spec, 2))
    after = [program._graph.launches for program in engine._programs.values() if program._graph is not None]
    assert [new - old for new, old in zip(after, launches, strict=True)] == [0, 1, 0]
    engine.close()


@pytest.mark.usefixtures("onnx_on_cpu")
def test_the_faster_layout_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([8.0, 2.0])
    monkeypatch.setattr(vrseg.infer.cuda_program.Program, "duration_ms", lambda _: next(times))
    engine = opened(Lane(pretended_gpu(), spec_of(network(tmp_path)), max_batch=2))
    assert engine.channels_last
    engine.close()


def test_a_layout_that_says_something_else_is_not(
    tmp_path: Path, onnx_on_cpu: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_on_cpu.other_layout_is_wrong = True
    times = iter([8.0, 2.0])
    monkeypatch.setattr(vrseg.infer.cuda_program.Program, "duration_ms", lambda _: next(times))
    engine = opened(Lane(pretended_gpu(), spec_of(network(tmp_path)), max_batch=2))
    assert not engine.channels_last
    assert any("last would change the result: mask IoU" in remark for remark in engine.remarks)
    engine.close()


def test_what_cannot_be_captured_runs_plainly_and_says_why(tmp_path: Path, onnx_on_cpu: Sessions) -> None:
    onnx_on_cpu.waits = True
    spec = spec_of(network(tmp_path))
    lane = Lane(pretended_gpu(), spec, max_batch=2)
    engine = opened(lane)
    assert [remark for remark in engine.remarks if "batches of 1 run without a CUDA graph: CUDA failure 900" in remark]
    tensor = pictures(spec, 2)
    assert close(answers_of(lane, engine, tensor), on_the_cpu(spec, tensor))
    engine.close()


@pytest.mark.usefixtures("onnx_on_cpu")
def test_an_older_onnx_runtime_is_not_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vrseg.infer.cuda_program, "CAPTURABLE_SINCE", (99, 0))
    engine = opened(Lane(pretended_gpu(), spec_of(network(tmp_path)), max_batch=1))
    assert any("cannot be captured safely" in remark for remark in engine.remarks)
    engine.close()


@pytest.mark.parametrize("most_frames", [1, 2, 5])
def test_short_memory_lowers_the_batch_and_goes_on(tmp_path: Path, onnx_on_cpu: Sessions, most_frames: int) -> None:
    onnx_on_cpu.most_frames = most_frames
    spec = spec_of(network(tmp_path))
    lane = Lane(pretended_gpu(), spec, max_batch=6)
    engine = opened(lane)
    assert engine.largest_batch == {1: 1, 2: 2, 5: 4}[most_frames]
    assert any(f"going on with {engine.largest_batch}" in remark for remark in engine.remarks)
    for count in (1, 5, 6):
        tensor = pictures(spec, count)
        assert close(answers_of(lane, engine, tensor), on_the_cpu(spec, tensor))
    engine.close()


def test_memory_that_gets_short_later_lowers_the_batch_too(tmp_path: Path, onnx_on_cpu: Sessions) -> None:
    onnx_on_cpu.waits = True  # graphs need no more memory, plain runs may
    spec = spec_of(network(tmp_path))
    lane = Lane(pretended_gpu(), spec, max_batch=4)
    engine = opened(lane)
    onnx_on_cpu.most_frames = 2
    tensor = pictures(spec, 4)
    assert close(answers_of(lane, engine, tensor), on_the_cpu(spec, tensor))
    assert engine.largest_batch == 2
    onnx_on_cpu.most_frames = 0
    with pytest.raises(ModelError, match=r"not enough GPU memory; write a smaller batch\.max_size"):
        answers_of(lane, engine, tensor)
    engine.close()


def test_a_model_that_does_not_fit_even_alone_is_an_error(tmp_path: Path, onnx_on_cpu: Sessions) -> None:
    onnx_on_cpu.most_frames = 0
    engine = OnnxCudaEngine(Lane(pretended_gpu(), spec_of(network(tmp_path)), max_batch=4))
    with pytest.raises(ModelError, match="not enough GPU memory"):
        engine.open()
    engine.close()


@pytest.mark.usefixtures("onnx_on_cpu")
def test_a_fixed_batch_that_is_larger_than_asked_for_is_told(tmp_path: Path) -> None:
    engine = OnnxCudaEngine(Lane(pretended_gpu(), spec_of(network(tmp_path, batch=4)), max_batch=2))
    with pytest.raises(ModelError, match=r"takes exactly 4 frames at once; write batch\.max_size: 4"):
        engine.open()


@pytest.mark.usefixtures("onnx_on_cpu")
def test_a_model_that_cannot_be_used_gets_one_line(tmp_path: Path) -> None:
    path = save_network(
        tmp_path / "body.onnx",
        [helper.make_node("NoSuchThing", ["picture"], ["scores"])],
        takes=("N", 3, 32, 48),
        gives={"scores": ("N", 1, 32, 48)},
    )
    engine = OnnxCudaEngine(Lane(pretended_gpu(), spec_of(path), max_batch=2))
    with pytest.raises(ModelError, match=r"body\.onnx: ONNX Runtime cannot use this model: .*NoSuchThing") as caught:
        engine.open()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.usefixtures("onnx_on_cpu")
def test_an_error_of_the_gpu_itself_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(network(tmp_path))
    lane = Lane(pretended_gpu(), spec, max_batch=1)
    engine = opened(lane)
    batch = batch_of(lane, pictures(spec, 1))

    def fail(_: object) -> None:
        Stream.now.broken = True
        raise RuntimeError("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(vrseg.infer.cuda_program.Program, "enqueue", fail)
    with pytest.raises(DeviceError, match="illegal memory access"):
        list(engine.process(batch))
    Stream.now.broken = False
    engine.close()


@pytest.mark.parametrize(
    ("message", "short"),
    [
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 4", True),
        ("CUDA failure 2: out of memory ; GPU=0", True),
        ("CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0", True),
        ("CUDA failure 700: an illegal memory access was encountered", False),
    ],
)
def test_want_of_memory_is_told_from_other_errors(message: str, short: bool) -> None:
    assert is_short_of_memory(RuntimeError(message)) == short


def test_the_provider_gets_its_options_as_text() -> None:
    options = provider_options(1, 0x57, CHANNELS_LAST)
    assert options["device_id"] == "1"
    assert options["user_compute_stream"] == "87"
    assert options["prefer_nhwc"] == options["fuse_conv_bias"] == "1"
    assert "enable_cuda_graph" not in options
    assert all(isinstance(value, str) for value in options.values())


def test_the_cpu_build_of_onnx_runtime_is_named_with_what_mends_it(tmp_path: Path) -> None:
    import onnxruntime as ort

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this is the GPU's build")
    with pytest.raises(
        DeviceError, match=r"share one folder.*pip uninstall -y onnxruntime onnxruntime-gpu && pip inst"
    ):
        open_session(str(network(tmp_path)), pretended_gpu(), Stream(non_blocking=True), variant={}, fixed={})


@pytest.mark.parametrize("how", ["silently", "loudly"])
def test_missing_cuda_libraries_are_named_with_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    import onnxruntime as ort

    real = ort.InferenceSession

    def without_libraries(source: str, options: Any, **keys: Any) -> Any:
        assert keys["enable_fallback"] == 0
        assert [name for name, _ in keys["providers"]] == ["CUDAExecutionProvider"]
        if how == "loudly":
            raise RuntimeError("Failed to load library libonnxruntime_providers_cuda.so: libcudnn.so.9: cannot open")
        return real(source, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", without_libraries)
    with pytest.raises(DeviceError, match=r"pip install 'onnxruntime-gpu\[cuda,cudnn\]'"):
        open_session(str(network(tmp_path)), pretended_gpu(), Stream(non_blocking=True), variant={}, fixed={})


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])]
)
def test_there_is_a_program_for_each_power_of_two_and_the_largest_batch(largest: int, sizes: list[int]) -> None:
    assert batch_sizes(largest) == sizes


def test_outputs_do_not_overlap_and_are_aligned() -> None:
    block = lay_out([("a", (3,), "float32"), ("b", (5, 7), "float16"), ("c", (), "int64")], frames=5)
    ends = [place.offset_bytes + place.frame_bytes * 5 for place in block.places]
    assert [place.offset_bytes % 256 for place in block.places] == [0, 0, 0]
    assert all(end <= place.offset_bytes for end, place in zip(ends, block.places[1:], strict=False))
    assert ends[-1] <= block.size_bytes
