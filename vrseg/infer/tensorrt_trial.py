"""What a plan says of the trial pictures, before it serves."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from vrseg.gpu.memory import Pool, lent
from vrseg.gpu.transfer import copy_to_device, copy_to_host
from vrseg.models.trial import trial_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import cupy
    import numpy.typing as npt

    from vrseg.gpu.lane import Lane
    from vrseg.infer.fp16_gate import Fp16Gate
    from vrseg.infer.output_block import OutputBlock
    from vrseg.infer.tensorrt_call import Call

    Array = npt.NDArray[Any]
    Bind = Callable[[Sequence[Call], cupy.cuda.Stream, int, int], None]
    """Fixes calls to the addresses of input and output, and puts each on the stream once."""

_log = structlog.get_logger(__name__)


class Trial:
    """Infers the trial pictures in memory of its own, for a batch may lie in the lane's; waits for the GPU."""

    def __init__(self, lane: Lane, block: OutputBlock, outputs: Pool, bind: Bind) -> None:
        """Store what is given.

        Args:
            lane: whose model it is.
            block: what a run writes.
            outputs: lends room for `block`.
            bind: see `Bind`.
        """
        self._lane = lane
        self._block = block
        self._outputs = outputs
        self._bind = bind

    def measure(self, runs: Sequence[tuple[int, Sequence[Call]]], gate: Fp16Gate) -> None:
        """Try each run: so many frames, inferred by these calls. The last one has most frames.

        Raises:
            DeviceError: CUDA failed.
            ModelError: TensorRT refused, or what it says is not accurate enough.
        """
        gate.prepare()
        if not gate.measures:
            return
        verdict = None
        for frames, calls in runs:
            verdict = gate.check(self._answers(calls, frames), f"with TensorRT in batches of {frames}")
        if verdict is not None:
            name = self._lane.spec.name
            _log.info("FP16 measured on this GPU", model=name, engine="TensorRT", result=verdict.text)

    def _answers(self, calls: Sequence[Call], frames: int) -> list[Array]:
        """Return the outputs that the model's spec names, (pictures, ...) each."""
        lane, spec = self._lane, self._lane.spec
        stream, pictures = lane.open(), trial_tensor(spec.input)
        inputs = Pool(lane.gpu, "device", lane.input_bytes, limit=1, name=f"{spec.name}.trial")
        with closing(inputs), lent(inputs, stream) as image, lent(self._outputs, stream) as answer:
            self._bind(calls, stream, image.address, answer.address)
            runs = []
            for start in range(0, len(pictures), frames):
                filled = np.resize(pictures[start : start + frames], (frames, *spec.input.shape))
                copy_to_device(lane.gpu, image.address, filled.ctypes.data, filled.nbytes, stream)
                for call in calls:
                    call.enqueue(stream)
                runs.append(self._fetched(stream, answer.address, frames))
        return [np.concatenate(parts)[: len(pictures)] for parts in zip(*runs, strict=True)]

    def _fetched(self, stream: cupy.cuda.Stream, address: int, frames: int) -> list[Array]:
        gpu, places = self._lane.gpu, {place.name: place for place in self._block.places}
        wanted = [places[name] for name in self._lane.spec.outputs]
        answers = [np.empty((frames, *place.frame_shape), place.dtype) for place in wanted]
        for place, held in zip(wanted, answers, strict=True):
            copy_to_host(gpu, held.ctypes.data, address + place.offset_bytes, held.nbytes, stream)
        stream.synchronize()
        gpu.counts.add(host_waits=1)
        return answers
