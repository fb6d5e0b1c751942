"""Frames to model input on a GPU: one launch for a batch, whatever the sizes of its frames."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from struct import Struct
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
_STRIP = 8
# A warp reads along a row. 8 frames of 512 x 512 make 512 blocks: as many as an H200 or H100 works on at once.
_BLOCK = (32, 8, 1)
# From the leanest kernels to those that take everything: see preprocess.cu.
_KINDS = ("common", "wide", "any")
# Making what describes a shape takes longer than all else here; a daemon sees few shapes, but for months.
_MAX_SHAPES = 64
AXIS = np.dtype([(name, np.float32) for name in ("ratio", "start", "width", "inverse_width")], align=True)
SLOT = np.dtype(
    [
        ("out", np.uint64),
        ("picture", PICTURE),
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
        ("pad", np.float32, (3,)),
        ("channel", np.int32, (3,)),
    ],
    align=True,
)
# What of a slot differs between frames of one shape: `out`, and the picture's `luma` and `chroma`. They come first.
_ADDRESSES = Struct("=3Q")
_SLOTS_BYTES = _MAX_SLOTS * SLOT.itemsize


class CudaPreprocess:
    """Surfaces of any size, turned or not, become one tensor in the engine's input buffer. A `Preprocess` stage.

    Enqueues and never waits for the GPU; it waits for the engine to have taken the batch before.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._opened: tuple[cupy.cuda.Stream, Kernels, Jobs] | None = None

    def open(self) -> None:
        stream = self._lane.open()
        kernels = Kernels(self._lane.gpu, "vrseg.preprocess", "preprocess.cu")
        self._opened = stream, kernels, Jobs(self._lane.spec.input)

    def process(self, item: tuple[Frame, ...], /) -> Iterable[Batch]:
        """Put the scaling, colouring and normalising of a batch on the lane's stream.

        Raises:
            DeviceError: the engine did not take the batch before.
        """
        assert self._opened is not None  # noqa: S101 -- `open` comes first
        stream, kernels, jobs = self._opened
        target = self._lane.spec.input
        lease = self._lane.inputs.lend(stream)
        fits = [jobs.fit(frame) for frame in item]
        surfaces: list[Surface] = [one.picture for one in item]
        for surface in surfaces:
            surface.wait_on(stream)
        for launch in jobs.launches(surfaces, fits, lease.address):
            kernels.launch(launch.kernel, stream, launch.grid, launch.block, (launch.job,))
        read = recorded(stream)
        for surface in surfaces:
            surface.read_until(read)
        tensor = DeviceTensor(lease=lease, shape=(len(item), *target.shape), dtype=target.dtype)
        return (Batch(frames=item, placements=tuple(fit.placement for fit in fits), tensor=tensor),)

    def flush(self) -> Iterable[Batch]:
        return ()

    def close(self) -> None:
        self._opened = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One launch of a kernel of preprocess.cu, whose only argument is a `Job`."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    job: npt.NDArray[Any] = field(repr=False)
    """One element of JOB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How all frames of one shape go into the tensor."""

    placement: Placement
    kind: int
    """Which of `_KINDS` can take them."""
    blocks: tuple[int, int]
    """Of threads, along x and y of the coded picture."""
    geometry: bytes = field(repr=False)
    """SLOT behind its addresses."""


class Jobs:
    """What the kernels are told about batches for one network. Knows the shapes that it saw last."""

    def __init__(self, target: InputSpec) -> None:
        self._target = target
        self._numbers = _job(target).tobytes()[_SLOTS_BYTES:]
        self._tensor_bytes = _tensor_bytes(target)
        self._fits: OrderedDict[tuple[object, ...], Fit] = OrderedDict()

    def fit(self, frame: Frame) -> Fit:
        """Place a frame, whose picture is a `Surface`, in the tensor."""
        surface: Surface = frame.picture
        key = (
            frame.width,
            frame.height,
            frame.rotation_deg,
            surface.width,
            surface.height,
            surface.format,
            surface.matrix,
            surface.full_range,
            surface.siting,
        )
        fit = self._fits.pop(key, None) or _fit(frame, surface, self._target)
        self._fits[key] = fit
        if len(self._fits) > _MAX_SHAPES:
            self._fits.popitem(last=False)
        return fit

    def launches(self, surfaces: Sequence[Surface], fits: Sequence[Fit], out_address: int) -> Iterator[Launch]:
        """Describe the launches of a batch, one per 16 frames.

        Args:
            surfaces: the frames' pictures.
            fits: what `fit` said about each frame.
            out_address: device pointer of the batch's tensor.
        """
        for begin in range(0, len(surfaces), _MAX_SLOTS):
            part = fits[begin : begin + _MAX_SLOTS]
            slots = b"".join(
                _ADDRESSES.pack(out_address + index * self._tensor_bytes, surface.luma_address, surface.chroma_address)
                + fit.geometry
                for index, (surface, fit) in enumerate(zip(surfaces[begin:], part, strict=False), begin)
            )
            # New bytes for each launch, and immutable: whoever still reads them, nobody writes them. (CUDA copies the
            # arguments of a kernel before the call that launches it returns.)
            job = np.frombuffer(slots.ljust(_SLOTS_BYTES, b"\0") + self._numbers, JOB)
            yield Launch(
                kernel=f"{_KINDS[max(fit.kind for fit in part)]}_{self._target.dtype}",
                grid=(max(fit.blocks[0] for fit in part), max(fit.blocks[1] for fit in part), len(part)),
                block=_BLOCK,
                job=job,
            )


def bytes_touched(surfaces: Sequence[Surface], target: InputSpec) -> int:
    """Count what a batch must at least move: every sample read once, every number written once."""
    return sum(surface.size_bytes + _tensor_bytes(target) for surface in surfaces)


def _tensor_bytes(target: InputSpec) -> int:
    """Count the bytes of one frame's tensor."""
    return int(np.prod(target.shape)) * np.dtype(target.dtype).itemsize


def _job(target: InputSpec) -> npt.NDArray[Any]:
    """Return the structure without its slots."""
    job = np.zeros(1, JOB)
    order = (0, 1, 2) if target.color == "rgb" else (2, 1, 0)
    plane = target.width * target.height if target.layout == "nchw" else 1
    white, black = np.full(3, 255.0), np.zeros(3)
    if target.dtype != "uint8":
        black = -np.array(target.mean) / np.array(target.std)
        white = 255 * target.scale / np.array(target.std) + black
    job["factor"], job["offset"] = (white - black)[list(order)], black[list(order)]
    job["pad"] = (black + (white - black) * target.pad / 255)[list(order)]
    job["channel"] = [plane * channel for channel in order]
    return job


def _fit(frame: Frame, surface: Surface, target: InputSpec) -> Fit:
    placement = place(frame.width, frame.height, frame.rotation_deg, target)
    slot = np.array(_slot(surface, placement, target), SLOT)
    return Fit(
        placement=placement,
        kind=_KINDS.index(_kind(surface, float(slot["luma_x"]["ratio"]))),
        blocks=(-(-int(slot["width"]) // (_BLOCK[0] * _COLUMNS)), -(-int(slot["height"]) // (_BLOCK[1] * _STRIP))),
        geometry=slot.tobytes()[_ADDRESSES.size :],
    )


def _slot(surface: Surface, placement: Placement, target: InputSpec) -> tuple[Any, ...]:
    """Return the fields of SLOT, in order, without `out`: the placement turned back to how the frame is coded."""
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
    return (0, picture_fields(surface), *size, *box, *steps, *axes)


def _axis(ratio: float, shift: float = 0.0) -> tuple[float, ...]:
    """Return the fields of AXIS: a box is as wide as a pixel of the tensor, but never less than a sample."""
    width = max(ratio, 1.0)
    return ratio, (ratio - width) / 2 + shift, width, 1 / width


def _kind(surface: Surface, ratio: float) -> str:
    """Name the leanest kernels that can take a picture."""
    if surface.format != "nv12" or surface.pitch_bytes % 4:
        return "any"
    for kind, most, width in (("common", 4.0, 8), ("wide", 12.0, 16)):
        if ratio <= most and surface.width >= width:
            return kind
    return "any"
