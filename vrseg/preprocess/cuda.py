"""Frames to model input on a GPU: one launch for a batch, whatever the sizes of its frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vrseg.frame import Batch
from vrseg.gpu.kernels import Kernels
from vrseg.gpu.memory import recorded
from vrseg.gpu.picture import PICTURE, picture_fields
from vrseg.gpu.tensor import DeviceTensor
from vrseg.preprocess.placement import place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import cupy
    import numpy.typing as npt

    from vrseg.frame import Frame, Placement
    from vrseg.gpu.lane import Lane
    from vrseg.gpu.surface import Surface
    from vrseg.models.spec import InputSpec

# As in preprocess.cu.
_MAX_SLOTS = 16
_COLUMNS = 2
_STRIP = 4
# A warp reads along a row. Small blocks spread evenly: 8 frames of 512 x 512 make 1024 of them.
_BLOCK = (32, 8, 1)
# From the leanest kernels to those that take everything: see preprocess.cu.
_KINDS = ("common", "wide", "any")
AXIS = np.dtype([(name, np.float32) for name in ("ratio", "start", "width", "inverse_width")], align=True)
SLOT = np.dtype(
    [
        ("picture", PICTURE),
        ("out", np.uint64),
        ("width", np.int32),
        ("height", np.int32),
        ("left", np.int32),
        ("top", np.int32),
        ("right", np.int32),
        ("bottom", np.int32),
        ("origin", np.int32),
        ("step_x", np.int32),
        ("step_y", np.int32),
        ("luma_x", AXIS),
        ("luma_y", AXIS),
        ("chroma_x", AXIS),
        ("chroma_y", AXIS),
    ],
    align=True,
)
JOB = np.dtype(
    [
        ("slots", SLOT, (_MAX_SLOTS,)),
        ("factor", np.float32, (3,)),
        ("offset", np.float32, (3,)),
        ("channel", np.int32, (3,)),
        ("pad", np.float32),
    ],
    align=True,
)


class CudaPreprocess:
    """Surfaces of any size, turned or not, become one tensor in the engine's input buffer. A `Preprocess` stage.

    Enqueues and never waits for the GPU; it waits for the engine to have taken the batch before.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._stream: cupy.cuda.Stream | None = None
        self._kernels: Kernels | None = None

    def open(self) -> None:
        self._stream = self._lane.open()
        self._kernels = Kernels(self._lane.gpu, "vrseg.preprocess", "preprocess.cu")

    def process(self, item: tuple[Frame, ...], /) -> Iterable[Batch]:
        """Put the scaling, colouring and normalising of a batch on the lane's stream.

        Raises:
            DeviceError: the engine did not take the batch before.
        """
        stream, kernels = self._stream, self._kernels
        assert stream is not None  # noqa: S101 -- `open` comes first
        assert kernels is not None  # noqa: S101 -- as above
        target = self._lane.spec.input
        lease = self._lane.inputs.lend(stream)
        placements = tuple(place(one.width, one.height, one.rotation_deg, target) for one in item)
        surfaces: list[Surface] = [one.picture for one in item]
        for surface in surfaces:
            surface.wait_on(stream)
        for launch in launches(surfaces, placements, target, lease.address):
            kernels.launch(launch.kernel, stream, launch.grid, launch.block, (launch.job,))
        read = recorded(stream)
        for surface in surfaces:
            surface.read_until(read)
        tensor = DeviceTensor(lease=lease, shape=(len(item), *target.shape), dtype=target.dtype)
        return (Batch(frames=item, placements=placements, tensor=tensor),)

    def flush(self) -> Iterable[Batch]:
        return ()

    def close(self) -> None:
        self._stream = self._kernels = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One launch of a kernel of preprocess.cu, whose only argument is a `Job`."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    job: npt.NDArray[Any] = field(repr=False)
    """One element of JOB."""


def launches(
    surfaces: Sequence[Surface], placements: Sequence[Placement], target: InputSpec, out_address: int
) -> Iterator[Launch]:
    """Describe the launches of a batch, one per 16 frames.

    Args:
        surfaces: the frames' pictures.
        placements: where each lies in the tensor, upright.
        target: what the tensor must hold.
        out_address: device pointer of the batch's tensor.
    """
    tensor_bytes = int(np.prod(target.shape)) * np.dtype(target.dtype).itemsize
    for begin in range(0, len(surfaces), _MAX_SLOTS):
        job = _job(target)
        slots = job["slots"][0]
        part = slice(begin, begin + _MAX_SLOTS)
        for index, (surface, placement) in enumerate(zip(surfaces[part], placements[part], strict=True)):
            address = out_address + (begin + index) * tensor_bytes
            slots[index] = _slot(surface, placement, target, address)
        kind = max(_KINDS.index(_kind(surface, slot)) for surface, slot in zip(surfaces[part], slots, strict=False))
        width, height = int(slots["width"].max()), int(slots["height"].max())
        yield Launch(
            kernel=f"{_KINDS[kind]}_{target.dtype}",
            grid=(-(-width // (_BLOCK[0] * _COLUMNS)), -(-height // (_BLOCK[1] * _STRIP)), len(surfaces[part])),
            block=_BLOCK,
            job=job,
        )


def bytes_touched(surfaces: Sequence[Surface], target: InputSpec) -> int:
    """Count what a batch must at least move: every sample read once, every number written once."""
    tensor_bytes = int(np.prod(target.shape)) * np.dtype(target.dtype).itemsize
    return sum(surface.size_bytes + tensor_bytes for surface in surfaces)


def _job(target: InputSpec) -> npt.NDArray[Any]:
    """Return the structure without its slots."""
    job = np.zeros(1, JOB)
    order = (0, 1, 2) if target.color == "rgb" else (2, 1, 0)
    plane = target.width * target.height if target.layout == "nchw" else 1
    factor, offset = np.ones(3), np.zeros(3)
    if target.dtype != "uint8":
        factor = target.scale / np.array(target.std)
        offset = -np.array(target.mean) / np.array(target.std)
    job["factor"], job["offset"] = factor[list(order)], offset[list(order)]
    job["channel"] = [plane * channel for channel in order]
    job["pad"] = target.pad
    return job


def _slot(surface: Surface, placement: Placement, target: InputSpec, address: int) -> tuple[Any, ...]:
    """Return the fields of SLOT, in order: the placement turned back to how the frame is coded."""
    width, height = target.width, target.height
    left, top = placement.left, placement.top
    right, bottom = left + placement.width, top + placement.height
    x = 1 if target.layout == "nchw" else 3
    y = width * x
    size, box, steps = {
        0: ((width, height), (left, top, right, bottom), (0, x, y)),
        90: ((height, width), (top, width - right, bottom, width - left), ((width - 1) * x, y, -x)),
        180: (
            (width, height),
            (width - right, height - bottom, width - left, height - top),
            ((width - 1) * x + (height - 1) * y, -x, -y),
        ),
        270: ((height, width), (height - bottom, left, height - top, right), ((height - 1) * y, -y, x)),
    }[placement.rotation_deg]
    ratio_x, ratio_y = surface.width / (box[2] - box[0]), surface.height / (box[3] - box[1])
    # A chroma sample lies in the middle between two of luma, or a quarter of its own width before that.
    shift_x = 0.0 if surface.siting == "center" else 0.25
    shift_y = 0.25 if surface.siting == "top-left" else 0.0
    axes = (_axis(ratio_x), _axis(ratio_y), _axis(ratio_x / 2, shift_x), _axis(ratio_y / 2, shift_y))
    return (picture_fields(surface), address, *size, *box, *steps, *axes)


def _axis(ratio: float, shift: float = 0.0) -> tuple[float, ...]:
    """Return the fields of AXIS: a box is as wide as a pixel of the tensor, but never less than a sample."""
    width = max(ratio, 1.0)
    return ratio, (ratio - width) / 2 + shift, width, 1 / width


def _kind(surface: Surface, slot: np.void) -> str:
    """Name the leanest kernels that can take a picture."""
    if surface.format != "nv12" or surface.pitch_bytes % 4:
        return "any"
    for kind, ratio, width in (("common", 4.0, 8), ("wide", 12.0, 16)):
        if slot["luma_x"]["ratio"] <= ratio and surface.width >= width:
            return kind
    return "any"
