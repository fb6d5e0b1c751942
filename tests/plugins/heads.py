"""Networks that exist only as their answers, and heads that read these."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from plugins.gpu_on_cpu import download, upload

from vrseg.frame import Frame, Inference
from vrseg.gpu.lane import Lane
from vrseg.gpu.memory import recorded, wait_for
from vrseg.gpu.surface import Surface
from vrseg.models.spec import InputSpec, ModelSpec, ResolvedClass, ThresholdSpec
from vrseg.postprocess.choose import make_head
from vrseg.postprocess.cuda import make_cuda_head
from vrseg.preprocess.placement import place

if TYPE_CHECKING:
    from collections.abc import Sequence

    import cupy
    import numpy.typing as npt

    from vrseg.gpu.device import Gpu
    from vrseg.gpu.found import DeviceResult, Paint
    from vrseg.gpu.tensor import DeviceTensor

Answers = dict[str, "npt.NDArray[Any]"]


def toy_spec(**keys: Any) -> ModelSpec:
    """Describe a network for pictures of 64 x 48 with one class; `keys` say what is different."""
    spec = ModelSpec(
        name="body",
        path=Path("body.onnx"),
        task="segment",
        input=InputSpec(
            name="picture",
            width=64,
            height=48,
            layout="nchw",
            color="rgb",
            dtype="float32",
            scale=1 / 255,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            fit="letterbox",
            anchor="center",
            pad=114,
        ),
        batch=None,
        outputs=("scores",),
        decode="probability",
        channels_last=False,
        classes=(ResolvedClass(name="person", color_rgb=(255, 0, 0)),),
        thresholds=ThresholdSpec(mask=0.5, score=0.3, iou=0.45, max_boxes=20),
        licence=None,
        title="toy",
    )
    return replace(spec, **keys)


def classes(count: int, background: int | None = None) -> tuple[ResolvedClass, ...]:
    return tuple(
        ResolvedClass(name=f"class {n}", color_rgb=(n, n, n), background=n == background) for n in range(count)
    )


def frames_of(sizes: Sequence[tuple[int, int, int]]) -> tuple[Frame, ...]:
    """Make frames of these widths, heights and rotations; nobody looks at their pictures."""
    return tuple(
        Frame(
            stream="door",
            index=index,
            pts=index,
            time_base=Fraction(1, 30),
            picture="as decoded",
            width=width,
            height=height,
            rotation_deg=rotation,
            decoded_s=0.0,
        )
        for index, (width, height, rotation) in enumerate(sizes)
    )


def inference_of(spec: ModelSpec, frames: Sequence[Frame], outputs: dict[str, Any]) -> Inference:
    placements = tuple(place(one.width, one.height, one.rotation_deg, spec.input) for one in frames)
    return Inference(frames=tuple(frames), placements=placements, outputs=outputs)


def read_on_cpu(spec: ModelSpec, frames: Sequence[Frame], answers: Answers) -> list[Any]:
    """Ask the oracle: results of all frames."""
    head = make_head(spec)
    head.open()
    with np.errstate(invalid="ignore"):  # of scores that are infinite
        found = [frame.result for frame in head.process(inference_of(spec, frames, answers))]
    head.close()
    return found


@dataclass
class Onlooker:
    """A `Paint` that copies what was found, and gives the first frame a new picture."""

    gpu: Gpu
    seen: list[dict[str, Any]] = field(default_factory=list)
    opened: int = 0
    closed: int = 0

    def open(self, stream: cupy.cuda.Stream) -> None:
        self.opened += 1

    def enqueue(
        self, frames: Sequence[Frame], found: Sequence[DeviceResult], stream: cupy.cuda.Stream
    ) -> tuple[Surface | None, ...]:
        wait_for(self.gpu, recorded(stream))
        self.seen = [_downloaded(one) for one in found]
        picture = Surface(
            lease=upload(self.gpu, np.zeros(6, np.uint8)).lease,
            width=2,
            height=2,
            matrix="bt709",
            full_range=False,
            ready=recorded(stream),
        )
        return (picture, *(None for _ in frames[1:]))

    def close(self) -> None:
        self.closed += 1


class HeadOnGpu:
    """A head on a lane of its own, fed with answers from the host."""

    def __init__(
        self, gpu: Gpu, spec: ModelSpec, *, max_batch: int = 4, paint: Paint | None = None, host_results: bool = True
    ) -> None:
        self.gpu = gpu
        self.spec = spec
        self.stage = make_cuda_head(Lane(gpu, spec, max_batch=max_batch), paint=paint, host_results=host_results)

    def __enter__(self) -> Self:
        self.stage.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.stage.close()

    def read(self, frames: Sequence[Frame], answers: Answers) -> list[Frame]:
        return list(self.stage.process(inference_of(self.spec, frames, self.uploaded(answers))))

    def uploaded(self, answers: Answers) -> dict[str, DeviceTensor]:
        return {name: upload(self.gpu, answer) for name, answer in answers.items()}


def _downloaded(found: DeviceResult) -> dict[str, Any]:
    """Copy a result's arrays to the host; other fields stay as they are."""
    return {
        name: download(value) if hasattr(value, "__cuda_array_interface__") else value
        for name, value in ((name, getattr(found, name)) for name in found.__slots__)
    }
