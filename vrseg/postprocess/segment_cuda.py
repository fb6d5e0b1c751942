"""Scores of a segmentation network, as 8-bit scores that cover exactly the frame, on a CUDA device."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
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
from vrseg.postprocess.segment import to_bytes, window

if TYPE_CHECKING:
    from collections.abc import Sequence

    import cupy
    import numpy.typing as npt

    from vrseg.frame import Inference, Placement
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
_ALIGNMENT = 256  # of each frame's planes: what a memory transaction likes
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
    """Lay the frames' planes one after the other: (N,) of WINDOW, and how many bytes they take.

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


class SegmentReader:
    """Turns the answers of a batch into `DeviceSegmentation`, and into `Segmentation` if somebody reads those."""

    def __init__(self, lane: Lane, *, host_results: bool) -> None:
        self._lane = lane
        self._host_results = host_results
        self._threshold = int(to_bytes(np.array([lane.spec.thresholds.mask], np.float32))[0])
        self._scores = LatePool(lane.gpu, "device", limit=_LENT, name=f"{lane.spec.name}.scores")
        self._crossing = LatePool(lane.gpu, "pinned", limit=1, name=f"{lane.spec.name}.scores")
        self._kernels: Kernels | None = None

    def open(self) -> None:
        self._kernels = Kernels(self._lane.gpu, "vrseg.postprocess", "segment.cu")

    def enqueue(self, item: Inference, stream: cupy.cuda.Stream) -> SegmentReading:
        """Put one launch on the stream; with host results also a copy to pinned memory."""
        spec = self._lane.spec
        tensor: DeviceTensor = item.outputs[spec.outputs[0]]
        scores, height = scores_fields(tensor, channels_last=spec.channels_last)
        width, channels = scores[4], scores[5]
        meaning = meaning_of(channels, spec)
        planes = len(meaning.class_ids)
        # Which classes win somewhere is only asked by who reads on the host.
        win_words = -(-channels // 32) if self._host_results and planes > 1 else 0
        wins_bytes = _aligned(self._lane.max_batch * win_words * 4)
        windows, planes_bytes = window_fields(item.placements, width, height, planes, spec)
        largest = wins_bytes + self._lane.max_batch * _aligned(planes * width * height)
        lease = self._scores.lend(largest, stream)
        if wins_bytes:
            clear(lease.address, wins_bytes, stream)
        self._launch(np.array([scores], SCORES), meaning, windows, lease.address, wins_bytes, win_words, stream)
        crossing = None
        if self._host_results:
            crossing = self._crossing.lend(largest)
            copy_to_host(self._lane.gpu, crossing.address, lease.address, wins_bytes + planes_bytes, stream)
        found = tuple(
            DeviceSegmentation(
                scores=DeviceTensor(
                    lease=lease,
                    shape=(planes, *_turned(one)),
                    dtype="uint8",
                    offset_bytes=wins_bytes + int(one["offset"]),
                ),
                class_ids=meaning.class_ids,
                threshold=self._threshold,
            )
            for one in windows
        )
        return SegmentReading(
            found=found, crossing=crossing, win_words=win_words, background_ids=tuple(sorted(spec.background_ids))
        )

    def close(self) -> None:
        self._scores.close()
        self._crossing.close()

    def _launch(
        self,
        scores: npt.NDArray[Any],
        meaning: Meaning,
        windows: npt.NDArray[Any],
        address: int,
        wins_bytes: int,
        win_words: int,
        stream: cupy.cuda.Stream,
    ) -> None:
        assert self._kernels is not None  # noqa: S101 -- `open` comes first
        spec = self._lane.spec
        logits, out = np.int32(spec.decode == "logits"), np.uint64(address + wins_bytes)
        for start in range(0, len(windows), FRAMES_PER_LAUNCH):
            part = windows[start : start + FRAMES_PER_LAUNCH]
            argument = np.zeros(1, WINDOWS)
            argument["of"][0, : len(part)] = part
            area = int((part["width"] * part["height"]).max())
            grid = (-(-area // _THREADS), len(part), 1)
            if len(meaning.class_ids) == 1:
                channels = np.int32(meaning.something), np.int32(meaning.nothing)
                arguments: tuple[Any, ...] = (scores, *channels, logits, out, argument)
                self._kernels.launch("one_class", stream, grid, (_THREADS, 1, 1), arguments)
            else:
                level = np.int32(self._threshold if meaning.class_ids[0] == NOTHING else -1)
                wins = np.uint64(address if win_words else 0)
                arguments = (scores, logits, level, out, wins, np.int32(win_words), argument)
                self._kernels.launch("several_classes", stream, grid, (_THREADS, 1, 1), arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReading:
    """What was put on the stream for one batch."""

    found: tuple[DeviceSegmentation, ...]
    crossing: Lease | None
    """Pinned: words of winning classes (all frames), then the planes, as on the device. None without host results."""
    win_words: int
    """For each frame; 0 when its one plane is all there is."""
    background_ids: tuple[int, ...]

    def results(self) -> tuple[Segmentation | None, ...]:
        """Copy the scores out of pinned memory, once the stream has come here.

        Copies, because nobody knows how long a result is kept, and pinned memory is scarce: a list of results would
        hold every block of it. Classes that win nowhere stay behind, as on the CPU.
        """
        if self.crossing is None:
            return (None,) * len(self.found)
        results = tuple(self._result(index, one, self.crossing) for index, one in enumerate(self.found))
        self.crossing.release()
        return results

    def _result(self, index: int, found: DeviceSegmentation, crossing: Lease) -> Segmentation:
        end = found.scores.offset_bytes + found.scores.size_bytes
        held = host_view(crossing, (end,), np.uint8)
        scores = held[found.scores.offset_bytes :].reshape(found.scores.shape)
        ids = np.array(found.class_ids)
        if self.win_words:
            start = index * self.win_words * 4
            bits = np.unpackbits(held[start : start + self.win_words * 4], bitorder="little")
            kept = (ids == NOTHING) | np.isin(ids, [*np.flatnonzero(bits), *self.background_ids])
            return Segmentation(scores=scores[kept], class_ids=tuple(ids[kept].tolist()), threshold=found.threshold)
        return Segmentation(scores=scores.copy(), class_ids=found.class_ids, threshold=found.threshold)


def _turned(fields: np.void) -> tuple[int, int]:
    """Height and width in the frame's own orientation."""
    width, height = int(fields["width"]), int(fields["height"])
    return (width, height) if fields["quarter_turns"] % 2 else (height, width)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
