"""Scores of a segmentation network, as scores that cover exactly the frame, on a CUDA device.

What draws gets 8 bits of each, what leaves the device 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
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
from vrseg.postprocess.segment import in_steps, window

if TYPE_CHECKING:
    from collections.abc import Sequence

    import cupy
    import numpy.typing as npt

    from vrseg.frame import U8, U16, Inference, Placement
    from vrseg.gpu.lane import Lane
    from vrseg.gpu.memory import Lease
    from vrseg.models.spec import ModelSpec

SCORES = np.dtype(
    [
        ("address", np.uint64),
        ("frame_stride", np.uint64),
        ("channel_stride", np.uint64),
        ("pixel_stride", np.uint64),
        ("width", np.int32),
        ("channels", np.int32),
        ("half_floats", np.int32),
    ],
    align=True,
)
WINDOW = np.dtype(
    [
        ("offset", np.uint64),
        ("frame", np.int32),
        ("left", np.int32),
        ("top", np.int32),
        ("width", np.int32),
        ("height", np.int32),
        ("quarter_turns", np.int32),
    ],
    align=True,
)
FRAMES_PER_LAUNCH = 64  # their windows are 2 KiB of the 4 that a kernel's parameters may have
WINDOWS = np.dtype([("of", WINDOW, (FRAMES_PER_LAUNCH,))], align=True)
_THREADS = 256
_PIXELS_OF_THREAD = {"one_class": 1, "several_classes": 2}
_ALIGNMENT = 256  # of each frame's planes, in scores: what a memory transaction likes, in bytes too
_LENT = 2  # one batch that is drawn, one that is read; a second is made only if drawing keeps the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What the channels of a network stand for."""

    class_ids: tuple[int, ...]
    """Of the planes that come out; `NOTHING` in front when no channel stands for it."""
    something: int = 0
    """The channel that becomes the plane, when there is one plane."""
    nothing: int = -1
    """The channel that it must beat; -1 when there is none."""


def meaning_of(channels: int, spec: ModelSpec) -> Meaning:
    """Choose by the number of channels, as `SegmentHead` does."""
    background = spec.background_ids
    if channels == 1:
        return Meaning(class_ids=(0,))
    if channels == 2 and len(background) == 1:
        (nothing,) = background
        return Meaning(class_ids=(1 - nothing,), something=1 - nothing, nothing=nothing)
    # Independent scores, none of them for nothing: nothing wins where no score passes the threshold.
    leading = (NOTHING,) if spec.decode == "probability" and not background else ()
    return Meaning(class_ids=(*leading, *range(channels)))


def scores_fields(tensor: DeviceTensor, *, channels_last: bool) -> tuple[tuple[int, ...], int]:
    """Describe (N, C, h, w), (N, h, w, C) with `channels_last`, or (N, h, w): the fields of SCORES, and h."""
    shape = tensor.shape if len(tensor.shape) == 4 else (tensor.shape[0], 1, *tensor.shape[1:])
    if channels_last:
        _, height, width, channels = shape
        channel_stride, pixel_stride = 1, channels
    else:
        _, channels, height, width = shape
        channel_stride, pixel_stride = height * width, 1
    frame_stride = channels * height * width
    half_floats = int(tensor.dtype == "float16")
    return (tensor.address, frame_stride, channel_stride, pixel_stride, width, channels, half_floats), height


def window_fields(
    placements: Sequence[Placement], width: int, height: int, planes: int, spec: ModelSpec
) -> tuple[npt.NDArray[Any], int]:
    """Lay the frames' planes one after the other: (N,) of WINDOW, and how many scores they take.

    Args:
        placements: of the frames.
        width: of the network's scores.
        height: as `width`.
        planes: of each frame.
        spec: of the network.
    """
    fields = np.zeros(len(placements), WINDOW)
    for index, placement in enumerate(placements):
        left, top, right, bottom = window(width, height, placement, spec)
        turns = placement.rotation_deg // 90
        fields[index] = (0, index, left, top, right - left, bottom - top, turns)
    sizes = [_aligned(planes * int(one["width"]) * int(one["height"])) for one in fields]
    ends = list(accumulate(sizes))
    fields["offset"] = [end - size for end, size in zip(ends, sizes, strict=True)]
    return fields, ends[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where the scores of one batch come from and go to.

    A block holds what crosses to the host, if anybody reads it there: the words of winning classes and planes of 16
    bits. Behind it lie the planes of 8 bits.
    """

    meaning: Meaning
    scores: npt.NDArray[Any]
    """(1,) of SCORES"""
    windows: npt.NDArray[Any]
    """(N,) of WINDOW"""
    win_words: int
    """For each frame; 0 when nobody asks which classes win somewhere, or there is one plane."""
    wins_bytes: int
    crossing_bytes: int
    """Of the words and the planes of 16 bits; 0 without host results."""
    block_bytes: int
    """Of the largest batch."""


def plan_of(item: Inference, spec: ModelSpec, *, max_batch: int, host_results: bool) -> Plan:
    """Lay out a batch. Only who reads results on the host asks which classes win."""
    scores, height = scores_fields(item.outputs[spec.outputs[0]], channels_last=spec.channels_last)
    width, channels = scores[4], scores[5]
    meaning = meaning_of(channels, spec)
    planes = len(meaning.class_ids)
    win_words = -(-channels // 32) if host_results and planes > 1 else 0
    wins_bytes = _aligned(max_batch * win_words * 4)
    windows, planes_scores = window_fields(item.placements, width, height, planes, spec)
    most_scores = max_batch * _aligned(planes * width * height)
    return Plan(
        meaning=meaning,
        scores=np.array([scores], SCORES),
        windows=windows,
        win_words=win_words,
        wins_bytes=wins_bytes,
        crossing_bytes=wins_bytes + 2 * planes_scores if host_results else 0,
        block_bytes=wins_bytes + (3 if host_results else 1) * most_scores,
    )


class SegmentReader:
    """Turns the answers of a batch into `DeviceSegmentation`, and into `Segmentation` if somebody reads those."""

    def __init__(self, lane: Lane, *, host_results: bool) -> None:
        self._lane = lane
        self._host_results = host_results
        self._threshold = int(in_steps(np.array([lane.spec.thresholds.mask], np.float32))[0])
        self._scores = LatePool(lane.gpu, "device", limit=_LENT, name=f"{lane.spec.name}.scores")
        self._crossing = LatePool(lane.gpu, "pinned", limit=1, name=f"{lane.spec.name}.scores")
        self._kernels: Kernels | None = None

    def open(self) -> None:
        self._kernels = Kernels(self._lane.gpu, "vrseg.postprocess", "segment.cu")

    def enqueue(self, item: Inference, stream: cupy.cuda.Stream) -> SegmentReading:
        """Put one launch on the stream; with host results also a copy to pinned memory."""
        lane = self._lane
        plan = plan_of(item, lane.spec, max_batch=lane.max_batch, host_results=self._host_results)
        lease = self._scores.lend(plan.block_bytes, stream)
        if plan.wins_bytes:
            clear(lease.address, plan.wins_bytes, stream)
        for start in range(0, len(plan.windows), FRAMES_PER_LAUNCH):
            self._launch(plan, plan.windows[start : start + FRAMES_PER_LAUNCH], lease.address, stream)
        crossing = None
        if self._host_results:
            crossing = self._crossing.lend(plan.block_bytes)
            copy_to_host(lane.gpu, crossing.address, lease.address, plan.crossing_bytes, stream)
        return SegmentReading(
            found=tuple(self._found(plan, one, lease) for one in plan.windows),
            crossing=crossing,
            plan=plan,
            threshold=self._threshold,
            background_ids=lane.spec.background_ids,
        )

    def close(self) -> None:
        self._scores.close()
        self._crossing.close()

    def _launch(self, plan: Plan, windows: npt.NDArray[Any], block: int, stream: cupy.cuda.Stream) -> None:
        assert self._kernels is not None  # noqa: S101 -- `open` comes first
        argument = np.zeros(1, WINDOWS)
        argument["of"][0, : len(windows)] = windows
        logits = np.int32(self._lane.spec.decode == "logits")
        out = np.uint64(block + plan.crossing_bytes), np.uint64(block + plan.wins_bytes if plan.crossing_bytes else 0)
        name, ids = "one_class", plan.meaning.class_ids
        arguments: tuple[Any, ...] = (np.int32(plan.meaning.something), np.int32(plan.meaning.nothing), logits, *out)
        if len(ids) > 1:
            name, steps = "several_classes", np.int32(self._threshold if ids[0] == NOTHING else -1)
            arguments = (logits, steps, *out, np.uint64(block if plan.win_words else 0), np.int32(plan.win_words))
        area = int((windows["width"] * windows["height"]).max())
        grid = (-(-area // (_THREADS * _PIXELS_OF_THREAD[name])), len(windows), 1)
        self._kernels.launch(name, stream, grid, (_THREADS, 1, 1), (plan.scores, *arguments, argument))

    def _found(self, plan: Plan, window: np.void, lease: Lease) -> DeviceSegmentation:
        width, height = int(window["width"]), int(window["height"])
        turned = (width, height) if window["quarter_turns"] % 2 else (height, width)
        scores = DeviceTensor(
            lease=lease,
            shape=(len(plan.meaning.class_ids), *turned),
            dtype="uint8",
            offset_bytes=plan.crossing_bytes + int(window["offset"]),
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
        start, ids = int(self.plan.windows[index]["offset"]), found.class_ids
        scores = planes[start : start + prod(found.scores.shape)].reshape(found.scores.shape)
        if not self.plan.win_words:
            return Segmentation(scores=scores.copy(), class_ids=ids, threshold=self.threshold)
        bits = np.unpackbits(wins[index * self.plan.win_words * 4 :][: self.plan.win_words * 4], bitorder="little")
        wanted = {*np.flatnonzero(bits).tolist(), *self.background_ids, NOTHING}
        kept = [place for place, one in enumerate(ids) if one in wanted]
        return Segmentation(
            scores=scores[kept], class_ids=tuple(ids[place] for place in kept), threshold=self.threshold
        )


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
