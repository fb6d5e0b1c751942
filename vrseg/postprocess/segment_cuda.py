"""Scores of a segmentation network, as scores that cover exactly the frame, on a CUDA device.

What draws gets 8 bits of each, what leaves the device 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.frame import Segmentation
from vrseg.gpu.found import DeviceSegmentation
from vrseg.gpu.kernels import Kernels
from vrseg.gpu.late_pool import LatePool
from vrseg.gpu.memory import host_view
from vrseg.gpu.tensor import DeviceTensor
from vrseg.gpu.transfer import clear, copy_to_host
from vrseg.postprocess.class_map import NOTHING
from vrseg.postprocess.segment import in_steps
from vrseg.postprocess.segment_plan import plan_of

if TYPE_CHECKING:
    import cupy
    import numpy.typing as npt

    from vrseg.frame import U8, U16, Inference
    from vrseg.gpu.lane import Lane
    from vrseg.gpu.memory import Lease
    from vrseg.postprocess.segment_plan import Launch, Plan, Planes

_THREADS = 256
_PIXELS_OF_THREAD = {"one_class": 1, "several_classes": 2}
_LENT = 2  # one batch that is drawn, one that is read; a second is made only if drawing keeps the first
# To lay out a batch takes longer than to launch it. Cameras of one size need one plan for each size of a batch; those
# of two sizes take turns in many ways, in a daemon for months.
_MAX_PLANS = 256


class SegmentReader:
    """Turns the answers of a batch into `DeviceSegmentation`, and into `Segmentation` if somebody reads those."""

    def __init__(self, lane: Lane, *, host_results: bool) -> None:
        self._lane = lane
        self._host_results = host_results
        self._threshold = int(in_steps(np.array([lane.spec.thresholds.mask], np.float32))[0])
        self._scores = LatePool(lane.gpu, "device", limit=_LENT, name=f"{lane.spec.name}.scores")
        self._crossing = LatePool(lane.gpu, "pinned", limit=1, name=f"{lane.spec.name}.scores")
        self._plan = lru_cache(_MAX_PLANS)(
            partial(plan_of, spec=lane.spec, max_batch=lane.max_batch, host_results=host_results)
        )
        self._kernels: Kernels | None = None

    def open(self) -> None:
        self._kernels = Kernels(self._lane.gpu, "vrseg.postprocess", "segment.cu")

    def enqueue(self, item: Inference, stream: cupy.cuda.Stream) -> SegmentReading:
        """Put one launch on the stream; with host results also a copy to pinned memory."""
        lane = self._lane
        answer: DeviceTensor = item.outputs[lane.spec.outputs[0]]
        plan = self._plan(item.placements, answer.shape, answer.dtype)
        lease = self._scores.lend(plan.block_bytes, stream)
        if plan.wins_bytes:
            clear(lease.address, plan.wins_bytes, stream)
        scores = plan.scores.copy()
        scores["address"] = answer.address
        for launch in plan.launches:
            self._launch(plan, launch, scores, lease.address, stream)
        crossing = None
        if self._host_results:
            crossing = self._crossing.lend(plan.most_crossing_bytes)
            copy_to_host(lane.gpu, crossing.address, lease.address, plan.crossing_bytes, stream)
        return SegmentReading(
            found=tuple(self._found(plan, one, lease) for one in plan.frames),
            crossing=crossing,
            plan=plan,
            threshold=self._threshold,
            background_ids=lane.spec.background_ids,
        )

    def close(self) -> None:
        self._scores.close()
        self._crossing.close()

    def _launch(
        self, plan: Plan, launch: Launch, scores: npt.NDArray[Any], block: int, stream: cupy.cuda.Stream
    ) -> None:
        assert self._kernels is not None  # noqa: S101 -- `open` comes first
        logits = np.int32(self._lane.spec.decode == "logits")
        out = np.uint64(block + plan.crossing_bytes), np.uint64(block + plan.wins_bytes if plan.crossing_bytes else 0)
        name, ids = "one_class", plan.meaning.class_ids
        arguments: tuple[Any, ...] = (np.int32(plan.meaning.something), np.int32(plan.meaning.nothing), logits, *out)
        if len(ids) > 1:
            name, steps = "several_classes", np.int32(self._threshold if ids[0] == NOTHING else -1)
            arguments = (logits, steps, *out, np.uint64(block if plan.win_words else 0), np.int32(plan.win_words))
        grid = (-(-launch.area // (_THREADS * _PIXELS_OF_THREAD[name])), launch.frames, 1)
        self._kernels.launch(name, stream, grid, (_THREADS, 1, 1), (scores, *arguments, launch.windows))

    def _found(self, plan: Plan, planes: Planes, lease: Lease) -> DeviceSegmentation:
        scores = DeviceTensor(
            lease=lease, shape=planes.shape, dtype="uint8", offset_bytes=plan.crossing_bytes + planes.start
        )
        return DeviceSegmentation(scores=scores, class_ids=plan.meaning.class_ids, threshold=self._threshold >> 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReading:
    """What was put on the stream for one batch."""

    found: tuple[DeviceSegmentation, ...]
    crossing: Lease | None
    """Pinned, laid out as on the device. None without host results."""
    plan: Plan
    threshold: int
    """As in `Segmentation`."""
    background_ids: frozenset[int]

    def results(self) -> tuple[Segmentation | None, ...]:
        """Copy the scores out of pinned memory, once the stream has come here.

        Copies, because nobody knows how long a result is kept, and pinned memory is scarce: a list of results would
        hold every block of it. Classes that win nowhere stay behind, as on the CPU.
        """
        if self.crossing is None:
            return (None,) * len(self.found)
        held = host_view(self.crossing, (self.plan.crossing_bytes,), np.uint8)
        wins, planes = held[: self.plan.wins_bytes], held[self.plan.wins_bytes :].view(np.uint16)
        results = tuple(self._result(index, one, wins, planes) for index, one in enumerate(self.found))
        self.crossing.release()
        return results

    def _result(self, index: int, found: DeviceSegmentation, wins: U8, planes: U16) -> Segmentation:
        start, ids = self.plan.frames[index].start, found.class_ids
        scores = planes[start : start + prod(found.scores.shape)].reshape(found.scores.shape)
        if not self.plan.win_words:
            return Segmentation(scores=scores.copy(), class_ids=ids, threshold=self.threshold)
        bits = np.unpackbits(wins[index * self.plan.win_words * 4 :][: self.plan.win_words * 4], bitorder="little")
        wanted = {*np.flatnonzero(bits).tolist(), *self.background_ids, NOTHING}
        kept = [place for place, one in enumerate(ids) if one in wanted]
        return Segmentation(
            scores=scores[kept], class_ids=tuple(ids[place] for place in kept), threshold=self.threshold
        )
