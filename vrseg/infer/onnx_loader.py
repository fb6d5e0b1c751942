"""Gets a network ready for one batch size on a GPU: loaded, warm, recorded, and seen to say the same when replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from vrseg.gpu.memory import Pool, lent
from vrseg.gpu.transfer import clear, copy_to_device, copy_to_host
from vrseg.infer.cuda_program import Program, agree
from vrseg.infer.cuda_session import failing_as_model, open_session
from vrseg.infer.output_block import lay_out
from vrseg.models.batching import free_batch
from vrseg.models.fp16 import is_fp16
from vrseg.models.trial import trial_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import cupy
    import numpy.typing as npt

    from vrseg.gpu.lane import Lane
    from vrseg.infer.output_block import OutputBlock

    Array = npt.NDArray[Any]


class Loader:
    """Makes the programs of one model, which all read and write the same memory. Waits for the GPU, freely."""

    def __init__(self, lane: Lane, stream: cupy.cuda.Stream, remark: Callable[[str], None]) -> None:
        self._lane = lane
        self._spec = lane.spec
        self._stream = stream
        self._remark = remark
        graph = free_batch(lane.spec)
        self.exact_batch = lane.spec.batch if graph is None else None
        """Frames that one run must take; None when any number will do."""
        self._source = graph or str(lane.spec.path)
        # fp32 means fp32: with the ten bits of TF32 masks differ from those of the CPU, and for speed there is fp16.
        # An FP16 network must not hear of it: it ran at two thirds of its speed.
        self._exactness = {} if is_fp16(onnx.load(lane.spec.path)) else {"use_tf32": "0"}
        self._batch_name = batch_name(graph or lane.spec.path.read_bytes(), lane.spec.input.name)
        self._block: OutputBlock | None = None
        self._outputs: Pool | None = None

    @property
    def block(self) -> OutputBlock:
        """Where outputs lie; known since the first program."""
        assert self._block is not None  # noqa: S101 -- see above
        return self._block

    @property
    def outputs(self) -> Pool:
        """Lends the one block that programs write to."""
        assert self._outputs is not None  # noqa: S101 -- as above
        return self._outputs

    def new_pool(self, what: str) -> Pool:
        """Make a pool of one block for the outputs of a full batch."""
        return Pool(
            self._lane.gpu, "device", self.block.size_bytes, limit=1, name=f"{self._spec.name}.{what}", timed=True
        )

    def load(self, size: int, variant: Mapping[str, str]) -> Program:
        """Make a program for `size` frames.

        Raises:
            BatchTooLargeError: no memory for it.
            ModelError: ONNX Runtime cannot use the model.
            DeviceError: it has no CUDA provider, or the GPU failed.
        """
        fixed = {self._batch_name: size} if self._batch_name else {}
        with failing_as_model(self._spec.path, "cannot use this model", self._stream):
            session = open_session(
                self._source, self._lane.gpu, self._stream, variant={**self._exactness, **variant}, fixed=fixed
            )
            program = Program(session, self._spec, self._lane.gpu.index, self._stream, size)
            self._bind(program)
            program.warm_up()
            expected = self.answers(program)
        reason = program.capture()
        if reason is None:
            with failing_as_model(self._spec.path, "failed in a CUDA graph", self._stream):
                self._clear_outputs()
                if not agree(expected, self.answers(program)):
                    program.forget_graph()
                    reason = "the replay gave other numbers"
        if reason is not None:
            self._remark(f"batches of {size} run without a CUDA graph: {reason}")
        return program

    def answers(self, program: Program) -> list[Array]:
        """Run once and fetch the outputs."""
        with lent(self.outputs, self._stream) as lease:
            program.enqueue()
            answers = [np.empty((program.size, *place.frame_shape), place.dtype) for place in self.block.places]
            for place, answer in zip(self.block.places, answers, strict=True):
                source = lease.address + place.offset_bytes
                copy_to_host(self._lane.gpu, answer.ctypes.data, source, answer.nbytes, self._stream)
            self._stream.synchronize()
        return answers

    def close(self) -> None:
        """Free the outputs. Safe to call twice."""
        if self._outputs is not None:
            self._outputs.close()

    def _bind(self, program: Program) -> None:
        """Tie a program to the lane's input, which then holds pictures to try it on, and to the outputs."""
        pictures = np.resize(trial_tensor(self._spec.input), (program.size, *self._spec.input.shape))
        with lent(self._lane.inputs, self._stream) as lease:
            program.bind_input(lease.address)
            copy_to_device(self._lane.gpu, lease.address, pictures.ctypes.data, pictures.nbytes, self._stream)
            self._stream.synchronize()
        outputs = program.discover_outputs()
        if self._outputs is None:
            self._block = lay_out(outputs, self._lane.max_batch)
            self._outputs = self.new_pool("output")
        with lent(self._outputs, self._stream) as lease:
            program.bind_outputs(self.block, lease.address)

    def _clear_outputs(self) -> None:
        with lent(self.outputs, self._stream) as lease:
            clear(lease.address, self.outputs.block_bytes, self._stream)


def batch_name(model: bytes, input_name: str) -> str | None:
    """Return what a model calls its free batch dimension, if it is free and has a name."""
    graph = onnx.load_model_from_string(model).graph
    sizes = next(one for one in graph.input if one.name == input_name).type.tensor_type.shape.dim
    return sizes[0].dim_param or None
