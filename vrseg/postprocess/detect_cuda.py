"""Rows of a detector, as boxes in the frame's pixels, on a CUDA device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.errors import ModelError
from vrseg.frame import Detections
from vrseg.gpu.found import DeviceDetections
from vrseg.gpu.kernels import Kernels
from vrseg.gpu.late_pool import LatePool
from vrseg.gpu.memory import host_view
from vrseg.gpu.tensor import DeviceTensor
from vrseg.gpu.transfer import clear
from vrseg.models.decoding import grid_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    import cupy
    import numpy.typing as npt

    from vrseg.frame import Inference, Placement
    from vrseg.gpu.counts import Counts
    from vrseg.gpu.lane import Lane
    from vrseg.gpu.memory import Lease
    from vrseg.models.spec import ModelSpec

TABLE = np.dtype(
    [
        ("address", np.uint64),
        ("frame_stride", np.uint64),
        ("row_stride", np.uint64),
        ("column_stride", np.uint64),
        ("kind", np.int32),
    ],
    align=True,
)
KINDS = {"float32": 0, "float16": 1, "int32": 2, "int64": 3}
ROWS = np.dtype(
    [
        ("boxes", TABLE),
        ("scores", TABLE),
        ("classes", TABLE),
        ("count", np.int32),
        ("class_count", np.int32),
        ("width", np.int32),
        ("height", np.int32),
        ("min_score", np.float32),
    ],
    align=True,
)
CANDIDATES = np.dtype(
    [("counts", np.uint64), ("keys", np.uint64), ("boxes", np.uint64), ("classes", np.uint64), ("capacity", np.int32)],
    align=True,
)
PLACE = np.dtype(
    [
        ("left", np.float32),
        ("top", np.float32),
        ("scale_x", np.float32),
        ("scale_y", np.float32),
        ("width", np.int32),
        ("height", np.int32),
        ("quarter_turns", np.int32),
    ],
    align=True,
)
FRAMES_PER_LAUNCH = 64  # their places are 1.8 KiB of the 4 that a kernel's parameters may have
PLACES = np.dtype([("of", PLACE, (FRAMES_PER_LAUNCH,))], align=True)
KEPT = np.dtype(
    [("counts", np.uint64), ("boxes", np.uint64), ("scores", np.uint64), ("classes", np.uint64)], align=True
)
_BOX = 4
_ROW_BYTES = 24  # what a kept box takes: four floats, a score, a class
_THREADS = 256
_ALIGNMENT = 256  # of each array: what a memory transaction likes
_LENT = 2  # one batch that is drawn, one that is read; a second is made only if drawing keeps the first
# Cameras of one size need one for each size of a batch; those of two sizes take turns in many ways, for months.
_MAX_REMEMBERED = 256


def rows_fields(outputs: Sequence[DeviceTensor], spec: ModelSpec) -> npt.NDArray[Any]:
    """Describe the outputs of a detector, in the order of its decoding: (1,) of ROWS.

    Raises:
        ModelError: YOLOX rows that are not those of its grids.
    """
    first, shape = outputs[0], outputs[0].shape
    count, columns = (shape[2], shape[1]) if spec.decode == "yolov8" else (shape[1], shape[2])
    tables = [_table(output) for output in outputs]
    class_count = columns - _BOX - 1
    if spec.decode == "yolov8":
        tables = [_table(first, columns_first=True)]
        class_count = columns - _BOX
    elif spec.decode == "end2end" and len(outputs) == 1:
        tables = [tables[0], _table(first, column=_BOX), _table(first, column=_BOX + 1)]
    elif spec.decode == "yolox" and count != (cells := grid_cells(spec.input.width, spec.input.height)):
        size = f"{spec.input.width} x {spec.input.height}"
        raise ModelError(f"model {spec.name}: {count} rows, but YOLOX has {cells} for an input of {size}")
    boxes, scores, classes = tables if len(tables) == 3 else tables * 3
    limits = (count, class_count, spec.input.width, spec.input.height, spec.thresholds.score)
    return np.array([(boxes, scores, classes, *limits)], ROWS)


def place_fields(placement: Placement) -> tuple[float, ...]:
    """Return the fields of PLACE; see `vrseg.postprocess.boxes.to_frame`."""
    width, height = placement.frame_width, placement.frame_height
    upright = (height, width) if placement.rotation_deg in (90, 270) else (width, height)
    scale_x, scale_y = upright[0] / placement.width, upright[1] / placement.height
    return placement.left, placement.top, scale_x, scale_y, width, height, placement.rotation_deg // 90


@lru_cache(_MAX_REMEMBERED)
def places_of(placements: tuple[Placement, ...]) -> tuple[npt.NDArray[Any], ...]:
    """Describe where frames lie, for each launch: (1,) of PLACES, read-only as many batches share it."""
    launches = []
    for start in range(0, len(placements), FRAMES_PER_LAUNCH):
        part = placements[start : start + FRAMES_PER_LAUNCH]
        places = np.zeros(1, PLACES)
        places["of"][0, : len(part)] = [place_fields(one) for one in part]
        places.flags.writeable = False
        launches.append(places)
    return tuple(launches)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLayout:
    """Where a block holds the kept boxes of all frames: offsets in bytes."""

    counts: int
    boxes: int
    scores: int
    classes: int
    end: int

    def fields(self, address: int) -> npt.NDArray[Any]:
        """Describe a block at `address`: (1,) of KEPT."""
        offsets = (self.counts, self.boxes, self.scores, self.classes)
        return np.array([tuple(address + offset for offset in offsets)], KEPT)


@lru_cache(_MAX_REMEMBERED)
def kept_layout(max_batch: int, max_boxes: int, start: int = 0) -> KeptLayout:
    """Lay out room for the most that can be kept, from `start` on."""
    counts, boxes, scores, classes, end = _offsets(
        start, max_batch * 4, max_batch * max_boxes * 16, max_batch * max_boxes * 4, max_batch * max_boxes * 4
    )
    return KeptLayout(counts=counts, boxes=boxes, scores=scores, classes=classes, end=end)


class DetectReader:
    """Turns the answers of a batch into `DeviceDetections` and `Detections`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._boxes = LatePool(lane.gpu, "device", limit=_LENT, name=f"{lane.spec.name}.boxes")
        self._crossing = LatePool(lane.gpu, "pinned", limit=1, name=f"{lane.spec.name}.boxes")
        self._kernels: Kernels | None = None

    def open(self) -> None:
        self._kernels = Kernels(self._lane.gpu, "vrseg.postprocess", "detect.cu")

    def enqueue(self, item: Inference, stream: cupy.cuda.Stream) -> DetectReading:
        """Put two launches on the stream; the second also writes the kept boxes to pinned memory."""
        spec, max_batch = self._lane.spec, self._lane.max_batch
        rows = rows_fields([item.outputs[name] for name in spec.outputs], spec)
        count, max_boxes = int(rows["count"][0]), spec.thresholds.max_boxes
        cells = max_batch * count
        *candidates, start = _offsets(0, max_batch * 4, cells * 8, cells * 16, cells * 4)
        here = kept_layout(max_batch, max_boxes, start)
        there = kept_layout(max_batch, max_boxes)
        lease = self._boxes.lend(here.end, stream)
        crossing = self._crossing.lend(there.end)
        clear(lease.address, len(item.frames) * 4, stream)
        found = np.array([(*(lease.address + offset for offset in candidates), count)], CANDIDATES)
        kept = here.fields(lease.address), there.fields(crossing.address)
        self._launch(rows, found, kept, item.placements, stream)
        return DetectReading(
            found=tuple(_found(index, lease, here, max_boxes) for index in range(len(item.frames))),
            crossing=crossing,
            layout=there,
            max_boxes=max_boxes,
            counts=self._lane.gpu.counts,
        )

    def close(self) -> None:
        self._boxes.close()
        self._crossing.close()

    def _launch(
        self,
        rows: npt.NDArray[Any],
        found: npt.NDArray[Any],
        kept: tuple[npt.NDArray[Any], npt.NDArray[Any]],
        placements: tuple[Placement, ...],
        stream: cupy.cuda.Stream,
    ) -> None:
        assert self._kernels is not None  # noqa: S101 -- `open` comes first
        spec = self._lane.spec
        block = (_THREADS, 1, 1)
        grid = (-(-int(rows["count"][0]) // _THREADS), len(placements), 1)
        self._kernels.launch(f"read_{spec.decode}", stream, grid, block, (rows, found))
        # Such networks did their own suppression: nothing overlaps too much.
        iou = np.float32(np.inf if spec.decode == "end2end" else spec.thresholds.iou)
        for start, places in zip(range(0, len(placements), FRAMES_PER_LAUNCH), places_of(placements), strict=True):
            frames = min(FRAMES_PER_LAUNCH, len(placements) - start)
            arguments = (found, iou, np.int32(spec.thresholds.max_boxes), np.int32(start), places, *kept)
            self._kernels.launch("keep", stream, (frames, 1, 1), block, arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectReading:
    """What was put on the stream for one batch."""

    found: tuple[DeviceDetections, ...]
    crossing: Lease
    """Pinned: written by the GPU itself, so that nothing but kept boxes crosses the bus."""
    layout: KeptLayout
    max_boxes: int
    counts: Counts

    def results(self) -> tuple[Detections, ...]:
        """Copy the boxes out of pinned memory, once the stream has come here."""
        frames, rows, layout = len(self.found), len(self.found) * self.max_boxes, self.layout
        held = host_view(self.crossing, (layout.end,), np.uint8)
        counts = held[layout.counts :][: frames * 4].view(np.int32)
        boxes = held[layout.boxes :][: rows * 16].view(np.float32).reshape(frames, self.max_boxes, _BOX)
        scores = held[layout.scores :][: rows * 4].view(np.float32).reshape(frames, self.max_boxes)
        class_ids = held[layout.classes :][: rows * 4].view(np.int32).reshape(frames, self.max_boxes)
        results = tuple(
            Detections(
                boxes_xyxy=boxes[index, :count].copy(),
                scores=scores[index, :count].copy(),
                class_ids=class_ids[index, :count].astype(np.int64),
            )
            for index, count in enumerate(counts.tolist())
        )
        self.counts.add(to_host_bytes=frames * 4 + int(counts.sum()) * _ROW_BYTES)
        self.crossing.release()
        return results


def _table(tensor: DeviceTensor, *, column: int = 0, columns_first: bool = False) -> tuple[int, ...]:
    """Return the fields of TABLE for (N, rows, columns), (N, columns, rows) with `columns_first`, or (N, rows)."""
    _, rows, columns = (*tensor.shape, 1)[:3]
    if columns_first:
        rows, columns = columns, rows
    row_stride, column_stride = (1, rows) if columns_first else (columns, 1)
    address = tensor.address + column * np.dtype(tensor.dtype).itemsize
    return address, rows * columns, row_stride, column_stride, KINDS[tensor.dtype]


def _found(index: int, lease: Lease, layout: KeptLayout, max_boxes: int) -> DeviceDetections:
    first = index * max_boxes
    return DeviceDetections(
        boxes_xyxy=DeviceTensor(
            lease=lease, shape=(max_boxes, _BOX), dtype="float32", offset_bytes=layout.boxes + first * 16
        ),
        scores=DeviceTensor(lease=lease, shape=(max_boxes,), dtype="float32", offset_bytes=layout.scores + first * 4),
        class_ids=DeviceTensor(lease=lease, shape=(max_boxes,), dtype="int32", offset_bytes=layout.classes + first * 4),
        count=DeviceTensor(lease=lease, shape=(1,), dtype="int32", offset_bytes=layout.counts + index * 4),
    )


def _offsets(start: int, *sizes: int) -> list[int]:
    """Lay arrays of these sizes one after the other: where each begins, and where the next would."""
    return list(accumulate((-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes), initial=start))
