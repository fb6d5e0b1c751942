"""What the kernels of segment.cu are told about a batch, but for where its memory lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.postprocess.class_map import NOTHING
from vrseg.postprocess.segment import window

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from vrseg.frame import Placement
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
_ALIGNMENT = 256  # of each frame's planes, in scores: what a memory transaction likes, in bytes too


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


def scores_fields(shape: tuple[int, ...], dtype: str, *, channels_last: bool) -> tuple[tuple[int, ...], int]:
    """Describe (N, C, h, w), (N, h, w, C) with `channels_last`, or (N, h, w).

    Returns:
        The fields of SCORES with address 0, and h.
    """
    shape = shape if len(shape) == 4 else (shape[0], 1, *shape[1:])
    if channels_last:
        _, height, width, channels = shape
        channel_stride, pixel_stride = 1, channels
    else:
        _, channels, height, width = shape
        channel_stride, pixel_stride = height * width, 1
    frame_stride = channels * height * width
    half_floats = int(dtype == "float16")
    return (0, frame_stride, channel_stride, pixel_stride, width, channels, half_floats), height


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
class Planes:
    """Where the scores of one frame come to lie."""

    shape: tuple[int, int, int]
    start: int
    """In scores, from the first of the batch."""

    @classmethod
    def of(cls, planes: int, window: npt.NDArray[Any]) -> Planes:
        width, height = int(window["width"]), int(window["height"])
        turned = (width, height) if window["quarter_turns"] % 2 else (height, width)
        return cls(shape=(planes, *turned), start=int(window["offset"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Up to FRAMES_PER_LAUNCH frames."""

    area: int
    """Scores in the largest window."""
    frames: int
    windows: npt.NDArray[Any] = field(repr=False)
    """(1,) of WINDOWS, read-only: many batches share it."""

    @classmethod
    def of(cls, windows: npt.NDArray[Any]) -> Launch:
        argument = np.zeros(1, WINDOWS)
        argument["of"][0, : len(windows)] = windows
        argument.flags.writeable = False
        return cls(area=int((windows["width"] * windows["height"]).max()), frames=len(windows), windows=argument)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where the scores of a batch come from and go to; the same for all batches of frames that are placed alike.

    A block holds what crosses to the host, if anybody reads it there: the words of winning classes and planes of 16
    bits. Behind it lie the planes of 8 bits.
    """

    meaning: Meaning
    scores: npt.NDArray[Any]
    """(1,) of SCORES, read-only, for an answer at address 0."""
    launches: tuple[Launch, ...]
    frames: tuple[Planes, ...]
    """One for each."""
    win_words: int
    """For each frame; 0 when nobody asks which classes win somewhere, or there is one plane."""
    wins_bytes: int
    crossing_bytes: int
    """Of the words and the planes of 16 bits; 0 without host results."""
    most_crossing_bytes: int
    """The same of the largest batch."""
    block_bytes: int
    """All of the largest batch."""


def plan_of(
    placements: Sequence[Placement],
    shape: tuple[int, ...],
    dtype: str,
    *,
    spec: ModelSpec,
    max_batch: int,
    host_results: bool,
) -> Plan:
    """Lay out a batch. Only who reads results on the host asks which classes win.

    Args:
        placements: of the frames.
        shape: of the network's answer.
        dtype: as `shape`.
        spec: of the network.
        max_batch: frames in the largest batch.
        host_results: somebody reads the results on the host.
    """
    fields, height = scores_fields(shape, dtype, channels_last=spec.channels_last)
    width, channels = fields[4], fields[5]
    scores = np.array([fields], SCORES)
    scores.flags.writeable = False
    meaning = meaning_of(channels, spec)
    planes = len(meaning.class_ids)
    win_words = -(-channels // 32) if host_results and planes > 1 else 0
    wins_bytes = _aligned(max_batch * win_words * 4)
    windows, planes_scores = window_fields(placements, width, height, planes, spec)
    most_scores = max_batch * _aligned(planes * width * height)
    most_crossing_bytes = wins_bytes + 2 * most_scores if host_results else 0
    return Plan(
        meaning=meaning,
        scores=scores,
        launches=tuple(
            Launch.of(windows[start : start + FRAMES_PER_LAUNCH]) for start in range(0, len(windows), FRAMES_PER_LAUNCH)
        ),
        frames=tuple(Planes.of(planes, one) for one in windows),
        win_words=win_words,
        wins_bytes=wins_bytes,
        crossing_bytes=wins_bytes + 2 * planes_scores if host_results else 0,
        most_crossing_bytes=most_crossing_bytes,
        block_bytes=most_crossing_bytes + most_scores,
    )


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
