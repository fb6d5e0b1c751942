from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.networks import color_network, fixed_network

import vrseg
from vrseg.errors import ConfigError, ModelError
from vrseg.infer.zero_copy import EngineClosedError

if TYPE_CHECKING:
    from pathlib import Path

COLORS = [[1.0, 2.0, -1.0], [0.5, -1.0, 0.25]]
BIAS = [0.1, -0.2]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
Array = np.ndarray[Any, Any]


def network(tmp_path: Path, **keys: Any) -> Path:
    return color_network(tmp_path / "body.onnx", COLORS, BIAS, **keys)


def pictures(count: int, dtype: str = "float32") -> Array:
    random = np.random.default_rng(count).random((count, 3, 32, 48))
    return (random * 255).astype(np.uint8) if dtype == "uint8" else random.astype(dtype)


def expected(tensor: Array) -> Array:
    sums: Array = np.einsum("kc,nchw->nkhw", COLORS, tensor.astype(np.float64))
    sums += np.array(BIAS)[:, None, None]
    return sums


def near(answer: Array, tensor: Array) -> bool:
    # A GPU multiplies float32 in TF32, which has a mantissa of 10 bits.
    return bool(np.allclose(answer, expected(tensor), rtol=2e-3, atol=2e-3 * float(tensor.max())))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fixed", [1, 3, "N"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_arrays_go_in_and_answers_come_out(tmp_path: Path, device: str, fixed: int | str, count: int) -> None:
    with vrseg.Engine(network(tmp_path, batch=fixed), device=device, batch=5) as engine:
        answers = engine.run(pictures(count))
        assert answers["scores"].shape == (count, 2, 32, 48)
        assert near(answers["scores"], pictures(count))
        again = engine.run(pictures(5))
        assert near(again["scores"], pictures(5))
        assert near(answers["scores"], pictures(count)), "answers on the host are the caller's own"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_inputs_of_every_type(tmp_path: Path, device: str, dtype: str) -> None:
    with vrseg.Engine(network(tmp_path, dtype=dtype), device=device, batch=2) as engine:
        assert near(engine.run(pictures(2, dtype))["scores"], pictures(2, dtype))


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_written_to_the_input_buffer_is_not_copied(tmp_path: Path, device: str) -> None:
    with vrseg.Engine(network(tmp_path), device=device, batch=4) as engine:
        buffers = engine.buffers()
        assert buffers.input.shape == (4, 3, 32, 48)
        assert buffers.outputs["scores"].shape == (4, 2, 32, 48)
        engine.copy_in(pictures(3))
        outputs = engine.run_device(buffers.input[:3])
        assert address(outputs["scores"]) == address(buffers.outputs["scores"])
        assert outputs["scores"].shape == (3, 2, 32, 48)
        assert near(engine.copy_out(outputs)["scores"], pictures(3))


def address(array: Any) -> int:
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)


def test_on_the_cpu_numpy_arrays_and_whatever_speaks_dlpack_are_taken(tmp_path: Path) -> None:
    class Foreign:
        def __init__(self, array: Array) -> None:
            self._array = array

        def __dlpack__(self, **keys: Any) -> object:
            return self._array.__dlpack__(**keys)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self._array.__dlpack_device__()

    with vrseg.Engine(network(tmp_path), batch=4) as engine:
        assert near(engine.run_device(pictures(2))["scores"], pictures(2))
        assert near(engine.run_device(Foreign(pictures(3)))["scores"], pictures(3))
        assert engine.stream is None


@pytest.mark.parametrize("device", DEVICES)
def test_what_the_network_does_not_take_is_refused(tmp_path: Path, device: str) -> None:
    with vrseg.Engine(network(tmp_path), device=device, batch=2) as engine:
        good = pictures(2)
        for bad in (good.astype(np.float64), good[:, :2], pictures(3), good[:0]):
            with pytest.raises(ValueError, match=r"expected float32 \(1 to 2, 3, 32, 48\), got "):
                engine.run(bad)
        assert near(engine.run(good)["scores"], good)


def test_several_outputs_keep_their_names_and_types(tmp_path: Path) -> None:
    boxes = np.arange(24, dtype=np.float32).reshape(6, 4)
    scores: Array = np.linspace(0, 1, 6, dtype=np.float32)
    answers: dict[str, Array] = {"boxes": boxes, "scores": scores, "classes": np.arange(6)}
    with vrseg.Engine(fixed_network(tmp_path / "body.onnx", answers), batch=2) as engine:
        found = engine.run(np.zeros((2, 3, 64, 64), np.float32))
    for name, answer in answers.items():
        assert found[name].dtype == answer.dtype
        assert np.array_equal(found[name], np.stack([answer, answer]))


def test_an_engine_that_is_not_open_says_so(tmp_path: Path) -> None:
    engine = vrseg.Engine(network(tmp_path))
    with pytest.raises(EngineClosedError, match="not open"):
        engine.run(pictures(1))
    engine.close()
    with engine:
        engine.run(pictures(1))
    engine.close()
    with pytest.raises(EngineClosedError, match="not open"):
        engine.buffers()


def test_mistakes_of_the_caller_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch 0: write 1 or more"):
        vrseg.Engine(network(tmp_path), batch=0).open()
    with pytest.raises(ConfigError, match="device 'gpu': write cpu, cuda or cuda:N"):
        vrseg.Engine(network(tmp_path), device="gpu").open()
    with pytest.raises(ConfigError, match="no such file"):
        vrseg.Engine(tmp_path / "nothing.onnx").open()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not an ONNX file"):
        vrseg.Engine(broken).open()


def test_importing_vrseg_loads_no_engine() -> None:
    code = "import sys, vrseg; sys.exit('numpy' in sys.modules or 'onnxruntime' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.gpu
def test_device_memory_of_others_is_read_in_order_and_the_host_never_waits(tmp_path: Path) -> None:
    import cupy

    class Foreign:
        """Memory that a stream of its own is still writing."""

        def __init__(self, array: Any, stream: Any) -> None:
            interface = dict(array.__cuda_array_interface__)
            interface["stream"] = stream.ptr
            self.__cuda_array_interface__ = interface
            self._array = array

    host = pictures(4)
    with vrseg.Engine(network(tmp_path), device="cuda", batch=4) as engine:
        gpu = engine._opened._gpu  # type: ignore[attr-defined] # of the GPU's runner alone
        before = gpu.counts.snapshot()
        made = cupy.cuda.Stream(non_blocking=True)
        with made:
            late = cupy.zeros(host.shape, np.float32)
            for _ in range(200):
                late += 1e-6
            late[...] = cupy.asarray(host)
        outputs = engine.run_device(Foreign(late, made))
        mirrored = engine.copy_out(outputs)["scores"]
        assert near(mirrored, host)

        with made:
            doubled = late * 2
            outputs = engine.run_device(doubled)
            engine.order(made)
            summed = outputs["scores"] + outputs["scores"]
        made.synchronize()
        assert near(summed.get() / 2, host * 2)

        spent = gpu.counts.snapshot() - before
        assert spent.host_waits == 1, "copy_out alone waits"
        assert spent.device_allocations == 0
        assert spent.to_host_bytes == mirrored.nbytes


@pytest.mark.gpu
def test_a_slice_that_is_not_dense_is_taken_too(tmp_path: Path) -> None:
    import cupy

    host = pictures(4)
    with vrseg.Engine(network(tmp_path), device="cuda", batch=4) as engine:
        wide = cupy.zeros((4, 3, 32, 96), np.float32)
        wide[..., ::2] = cupy.asarray(host)
        assert near(engine.copy_out(engine.run_device(wide[..., ::2]))["scores"], host)
