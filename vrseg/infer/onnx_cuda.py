"""ONNX Runtime on an NVIDIA GPU: frames come in and go out in device memory, and nobody waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import structlog

from vrseg.errors import ModelError
from vrseg.frame import Inference
from vrseg.gpu.tensor import DeviceTensor
from vrseg.gpu.transfer import copy_on_device, copy_to_device
from vrseg.infer.cuda_session import CHANNELS_LAST, USUAL, BatchTooLargeError, failing_as_model
from vrseg.infer.fp16_gate import Fp16Gate
from vrseg.infer.gate import compare
from vrseg.infer.onnx_loader import Loader
from vrseg.models.fp16_steps import multiplies_fp32
from vrseg.models.trial import trial_tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from vrseg.frame import Batch
    from vrseg.gpu.lane import Lane
    from vrseg.gpu.memory import Lease, Pool
    from vrseg.infer.cuda_program import Program
    from vrseg.infer.gate import Verdict

    Array = npt.NDArray[Any]

_log = structlog.get_logger(__name__)


class OnnxCudaEngine:
    """Runs the lane's model with ONNX Runtime's CUDA provider. An `Infer` stage.

    One program for each batch size 1, 2, 4, ...: a batch runs in the smallest that holds it, as one CUDA graph. The
    type that it computes in is the model's own; for fp16 give the lane the spec of a converted model. In FP16 each
    program must pass `gate`; without one the engine makes its own.
    """

    def __init__(self, lane: Lane, gate: Fp16Gate | None = None) -> None:
        self._lane = lane
        self._gate = gate or Fp16Gate(lane.spec)
        self._loader: Loader | None = None
        self._programs: dict[int, Program] = {}
        self._gathered: Pool | None = None
        self._exactness: dict[str, str] = {}
        self.verdict: Verdict | None = None
        """What the accuracy gate measured with the largest batch; None for a network that is not FP16."""
        self.largest_batch = lane.max_batch
        """Frames of one run at most; larger batches are run in pieces. Falls when memory is short."""
        self.channels_last = False
        """True when the network runs faster with its channels last, and so it does. Known after `open`."""
        self.remarks: list[str] = []
        """What went otherwise than best, and why. Logged too."""

    def open(self) -> None:
        """Load the model for each batch size, run it, choose the faster layout, and record the runs.

        Raises:
            DeviceError: ONNX Runtime has no working CUDA provider, or the GPU failed.
            ModelError: ONNX Runtime cannot use the model, it does not fit into memory even for one frame, or it is not
                accurate enough in FP16 on this GPU.
        """
        path = self._lane.spec.path
        self._stream = self._lane.open()
        self._loader = Loader(self._lane, self._stream, self._remark)
        exact = self._loader.exact_batch
        if exact is not None and exact > self._lane.max_batch:
            raise ModelError(f"{path}: takes exactly {exact} frames at once; write batch.max_size: {exact}")
        sizes = batch_sizes(self._lane.max_batch) if exact is None else [exact]
        self._look_at_types()
        variant = self._open_largest(self._loader, sizes)
        for size in reversed(sizes[:-1]):
            try:
                program = self._loader.load(size, variant)
            except BatchTooLargeError:
                self._remark(f"batches of {size} run padded: no memory for a program of their own")
                continue
            self._measure(size, self._answers(self._loader, program))
            self._programs[size] = program
        if self.verdict is not None:
            _log.info("FP16 measured on this GPU", model=self._lane.spec.name, result=self.verdict.text)

    def process(self, item: Batch, /) -> Iterable[Inference]:
        """Put the inference of a batch on the lane's stream.

        Raises:
            DeviceError: the GPU failed.
            ModelError: ONNX Runtime failed on the batch.
        """
        outputs = self.enqueue(item.tensor, len(item.frames))
        item.tensor.lease.release()
        return (Inference(frames=item.frames, placements=item.placements, outputs=dict(outputs)),)

    def enqueue(self, tensor: DeviceTensor, frames: int) -> Mapping[str, DeviceTensor]:
        """Put the inference of `frames` frames, which are the lane's input, on the lane's stream.

        Returns:
            The outputs by name, (frames, ...), all in one lease: to be released before the next call can be served.

        Raises:
            DeviceError: the GPU failed.
            ModelError: ONNX Runtime failed on the batch.
        """
        path = self._lane.spec.path
        if self._loader is None:
            raise ModelError(f"{path}: the engine is not open")
        lease: Lease | None = None
        while lease is None:
            try:
                with failing_as_model(path, "failed on a batch", self._stream):
                    lease = self._run(self._loader, tensor, frames)
            except BatchTooLargeError:
                if len(self._programs) == 1:
                    raise
                del self._programs[max(self._programs)]
                self._shrink_to(max(self._programs))
        return {
            place.name: DeviceTensor(
                lease=lease, shape=(frames, *place.frame_shape), dtype=place.dtype, offset_bytes=place.offset_bytes
            )
            for place in self._loader.block.places
        }

    def flush(self) -> Iterable[Inference]:
        return ()

    def close(self) -> None:
        for program in self._programs.values():
            program.forget_graph()
        self._programs.clear()
        if self._gathered is not None:
            self._gathered.close()
        if self._loader is not None:
            self._loader.close()
        self._gathered = self._loader = None

    def _open_largest(self, loader: Loader, sizes: list[int]) -> Mapping[str, str]:
        """Make the program of the largest size that memory allows; drop larger ones from `sizes`."""
        while True:
            try:
                return self._choose(loader, sizes[-1])
            except BatchTooLargeError:
                if len(sizes) == 1:
                    raise
                sizes.pop()
                self._shrink_to(sizes[-1])

    def _remark(self, text: str) -> None:
        self.remarks.append(text)
        _log.warning("onnxruntime", model=self._lane.spec.name, reason=text)

    def _shrink_to(self, size: int) -> None:
        self._remark(f"not enough GPU memory for {self.largest_batch} frames at once: going on with {size}")
        self.largest_batch = size

    def _look_at_types(self) -> None:
        """Find out whether FP16 has to be measured, and against what; and whether TF32 would spoil what is FP32."""
        path = self._lane.spec.path
        with failing_as_model(path, "cannot use this model", self._stream):
            self._exactness = {"use_tf32": "0"} if multiplies_fp32(onnx.load(path)) else {}
        self._gate.prepare()
        if self._gate.remark:
            self.remarks.append(self._gate.remark)  # the gate has logged it

    def _choose(self, loader: Loader, size: int) -> Mapping[str, str]:
        """Try both layouts and keep the faster, if it says the same."""
        spec = self._lane.spec
        variants = [{**self._exactness, **layout} for layout in (USUAL, CHANNELS_LAST)]
        usual = loader.load(size, variants[0])
        answers, usual_ms = self._answers(loader, usual), usual.duration_ms()
        self.largest_batch = size
        self._measure(size, answers)
        self._programs[size] = usual
        try:
            other = loader.load(size, variants[1])
            found, other_ms = self._answers(loader, other), other.duration_ms()
        except ModelError as error:
            self._remark(f"channels stay first: {error}")
            return variants[0]
        verdict = self._gate.verdict(found) or compare(spec, answers, found)
        if not verdict.passed:
            self._remark(f"channels stay first: last would change the result: {verdict.text}")
        if not verdict.passed or other_ms >= usual_ms:
            return variants[0]
        self._measure(size, found)
        self._programs[size] = other
        self.channels_last = True
        return variants[1]

    def _answers(self, loader: Loader, program: Program) -> list[Array]:
        """Run a program on all trial pictures and fetch the outputs."""
        lane, runs = self._lane, []
        pictures = trial_tensor(lane.spec.input)
        with failing_as_model(lane.spec.path, "failed on trial pictures", self._stream):
            for start in range(0, len(pictures), program.size):
                filled = np.resize(pictures[start : start + program.size], (program.size, *lane.spec.input.shape))
                lease = lane.inputs.lend(self._stream)
                try:
                    copy_to_device(lane.gpu, lease.address, filled.ctypes.data, filled.nbytes, self._stream)
                    self._stream.synchronize()
                finally:
                    lease.release()
                runs.append(loader.answers(program))
        return [np.concatenate(parts)[: len(pictures)] for parts in zip(*runs, strict=True)]

    def _measure(self, size: int, answers: list[Array]) -> None:
        """Let FP16 pass only where it is accurate enough."""
        advice = "; use the FP32 network, with precision: fp32"
        verdict = self._gate.check(answers, f"in batches of {size}", advice=advice)
        if size == self.largest_batch:
            self.verdict = verdict

    def _run(self, loader: Loader, tensor: DeviceTensor, frames: int) -> Lease:
        """Enqueue all frames; return the block that holds the outputs."""
        lease = loader.outputs.lend(self._stream)
        if frames <= self.largest_batch:
            self._program_for(frames).enqueue()
            return lease
        return self._run_pieces(loader, tensor, frames, lease)

    def _run_pieces(self, loader: Loader, tensor: DeviceTensor, frames: int, lease: Lease) -> Lease:
        """Bring each piece to where programs read, and what they wrote to a block for the whole batch."""
        self._gathered = self._gathered or loader.new_pool("gathered")
        whole = self._gathered.lend(self._stream)
        frame_bytes = tensor.size_bytes // frames
        for first in range(0, frames, self.largest_batch):
            count = min(self.largest_batch, frames - first)
            if first:
                piece = tensor.address + first * frame_bytes
                copy_on_device(tensor.address, piece, count * frame_bytes, self._stream)
            self._program_for(count).enqueue()
            for place in loader.block.places:
                written = lease.address + place.offset_bytes
                target = whole.address + place.offset_bytes + first * place.frame_bytes
                copy_on_device(target, written, count * place.frame_bytes, self._stream)
        lease.release()
        return whole

    def _program_for(self, frames: int) -> Program:
        return self._programs[min(size for size in self._programs if size >= frames)]


def batch_sizes(max_batch: int) -> list[int]:
    """Return the sizes that have programs: powers of two, and the largest batch."""
    sizes = [1]
    while sizes[-1] * 2 < max_batch:
        sizes.append(sizes[-1] * 2)
    return sizes if max_batch == 1 else [*sizes, max_batch]
