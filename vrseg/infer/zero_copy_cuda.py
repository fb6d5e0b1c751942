"""Tensors of your own on an NVIDIA GPU: from pointers that others made, to pointers that others may use."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.gpu.device import open_gpu
from vrseg.gpu.guard import failing_as_device
from vrseg.gpu.lane import Lane
from vrseg.gpu.memory import recorded
from vrseg.gpu.tensor import DeviceTensor
from vrseg.gpu.transfer import copy_to_device, copy_to_host
from vrseg.infer.onnx_cuda import OnnxCudaEngine
from vrseg.infer.zero_copy import Buffers, check

if TYPE_CHECKING:
    import cupy
    import numpy.typing as npt

    from vrseg.gpu.memory import Lease
    from vrseg.models.spec import ModelSpec

    Array = npt.NDArray[Any]


class CudaRunner:
    """See `Runner`."""

    def __init__(self, spec: ModelSpec, batch: int, device_index: int) -> None:
        self._spec = spec
        self._batch = batch
        self._device_index = device_index
        self.stream: cupy.cuda.Stream | None = None
        self._engine: OnnxCudaEngine | None = None
        self._held: Lease | None = None
        self._borrowed: deque[tuple[cupy.cuda.Event, cupy.ndarray]] = deque()

    def open(self) -> None:
        gpu = open_gpu(self._device_index)
        self._gpu = gpu
        self._lane = Lane(gpu, self._spec, max_batch=self._batch)
        with failing_as_device(f"cuda:{gpu.index}"):
            self._stream = self.stream = self._lane.open()
            self._engine = OnnxCudaEngine(self._lane)
            self._engine.open()
            shape = (self._batch, *self._spec.input.shape)
            self._tensor = DeviceTensor(
                lease=self._lane.inputs.lend(self._stream), shape=shape, dtype=self._spec.input.dtype
            )
            self._input = self._tensor.as_cupy()
            # The addresses are the same in every run, so these views stay good.
            self._outputs = self.run(self._batch)

    def buffers(self) -> Buffers:
        return Buffers(input=self._input, outputs=dict(self._outputs))

    def upload(self, host: Array) -> None:
        dense = np.ascontiguousarray(host)
        with failing_as_device("copy in"):
            copy_to_device(self._gpu, self._tensor.address, dense.ctypes.data, dense.nbytes, self._stream)

    def take(self, array: Any) -> int:
        with failing_as_device("copy in"):
            pictures = self._ordered(array)
            check(self._spec, pictures.shape, str(pictures.dtype), self._batch)
            if pictures.data.ptr != self._tensor.address or not pictures.flags.c_contiguous:
                with self._stream:
                    self._input[: len(pictures)] = pictures
                self._keep(pictures)
        return len(pictures)

    def run(self, frames: int) -> dict[str, Any]:
        assert self._engine is not None  # noqa: S101 -- open has made it
        self._release()
        with failing_as_device("inference"):
            tensor = DeviceTensor(
                lease=self._tensor.lease, shape=(frames, *self._spec.input.shape), dtype=self._tensor.dtype
            )
            outputs = self._engine.enqueue(tensor, frames)
        self._held = next(iter(outputs.values())).lease
        return {name: output.as_cupy() for name, output in outputs.items()}

    def download(self, outputs: dict[str, Any]) -> dict[str, Array]:
        with failing_as_device("copy out"):
            hosts = {}
            for name, output in outputs.items():
                hosts[name] = np.empty(output.shape, output.dtype)
                copy_to_host(self._gpu, hosts[name].ctypes.data, output.data.ptr, output.nbytes, self._stream)
            self._stream.synchronize()
            self._gpu.counts.add(host_waits=1)
        return hosts

    def close(self) -> None:
        if self.stream is None:
            return
        self._release()
        with failing_as_device("close"):
            self._stream.synchronize()
        if self._engine is not None:
            self._engine.close()
        self._lane.inputs.close()
        self._borrowed.clear()
        self._engine = self.stream = None

    def _keep(self, read: cupy.ndarray) -> None:
        """Let the caller's later work come after the reading of an array, which lives until then."""
        import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

        done = recorded(self._stream)
        cupy.cuda.get_current_stream().wait_event(done)
        while self._borrowed and self._borrowed[0][0].done:
            self._borrowed.popleft()
        self._borrowed.append((done, read))

    def _release(self) -> None:
        """Let the next run have the outputs' memory; it comes after all on the same stream."""
        if self._held is not None:
            self._held.release()
        self._held = None

    def _ordered(self, array: Any) -> cupy.ndarray:
        """View a foreign array, and put what made it before the engine's work."""
        import cupy  # noqa: PLC0415 -- as above

        self._stream.wait_event(recorded(cupy.cuda.get_current_stream()))
        if isinstance(array, cupy.ndarray):
            return array
        if hasattr(array, "__dlpack__"):
            with self._stream:
                return cupy.from_dlpack(array)
        interface = array.__cuda_array_interface__
        if interface.get("stream"):
            made = cupy.cuda.Event(disable_timing=True)
            cupy.cuda.runtime.eventRecord(made.ptr, interface["stream"])
            self._stream.wait_event(made)
        return _viewed(array, interface)


def _viewed(owner: Any, interface: dict[str, Any]) -> cupy.ndarray:
    """View memory as its interface tells. `cupy.asarray` would let the host wait for its stream."""
    import cupy  # noqa: PLC0415 -- as above

    dtype, shape = np.dtype(interface["typestr"]), tuple(interface["shape"])
    strides = interface.get("strides")
    dense = tuple(int(np.prod(shape[axis + 1 :])) * dtype.itemsize for axis in range(len(shape)))
    extent = dtype.itemsize + sum((size - 1) * step for size, step in zip(shape, strides or dense, strict=True))
    memory = cupy.cuda.UnownedMemory(interface["data"][0], extent, owner)
    return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0), strides=strides)
