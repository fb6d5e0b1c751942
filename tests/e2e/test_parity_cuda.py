"""The CUDA path against the CPU path: every frame of every clip, with every model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from plugins.both_devices import boxes_of_frame, frames_through, luma_of, mask_of_frame
from plugins.reference import CLIPS, DESCRIPTIONS, MASK_MODELS, YOLOX, iou_of

from vrseg.backend.choose import choose_backend

if TYPE_CHECKING:
    from pathlib import Path

    from vrseg.frame import Frame

pytestmark = [pytest.mark.gpu, pytest.mark.material]
# 219 steps of luma stand for 255 of alpha.
ALPHA_PER_LUMA = 255 / 219


@dataclass
class Measured:
    """What differs over a clip."""

    common: int = 0
    union: int = 0
    alpha_errors: list[float] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)

    def add(self, cpu: Frame, cuda: Frame) -> None:
        ours, theirs = mask_of_frame(cuda) > 0, mask_of_frame(cpu) > 0
        both, either = int((ours & theirs).sum()), int((ours | theirs).sum())
        self.common, self.union = self.common + both, self.union + either
        self.ious.append(both / either if either else 1.0)
        lumas = [luma_of(one.picture).astype(np.float32) for one in (cpu, cuda)]
        self.alpha_errors.append(float(np.abs(lumas[0] - lumas[1]).mean()) * ALPHA_PER_LUMA)


@pytest.mark.parametrize("model", MASK_MODELS)
@pytest.mark.parametrize("clip", CLIPS)
def test_masks_and_alpha_are_those_of_the_cpu(media_dir: Path, models_dir: Path, clip: str, model: str) -> None:
    measured = Measured()
    for cpu, cuda in pairs(media_dir / f"{clip}.mp4", models_dir / f"{model}.onnx", "matte"):
        measured.add(cpu, cuda)
    iou = measured.common / measured.union
    print(  # noqa: T201 -- the figures, with -s
        f"{clip} {model}: mask IoU {iou:.4f}, worst frame {min(measured.ious):.4f}, "
        f"{sum(one < 0.99 for one in measured.ious)} of {len(measured.ious)} below 0.99; "
        f"alpha error mean {np.mean(measured.alpha_errors):.3f}, worst {max(measured.alpha_errors):.3f} of 255"
    )
    assert iou >= 0.99
    assert np.mean(measured.alpha_errors) <= 2


@pytest.mark.parametrize("clip", CLIPS)
def test_boxes_are_those_of_the_cpu(media_dir: Path, models_dir: Path, clip: str) -> None:
    ious = []
    for cpu, cuda in pairs(media_dir / f"{clip}.mp4", models_dir / f"{YOLOX}.onnx", "overlay"):
        found = [boxes_of_frame(one) for one in (cpu, cuda)]
        for ours, theirs in (found, found[::-1]):
            for kind, score, box in ours:
                if score >= 0.32:  # nearer to the threshold of 0.3 a box may be there or not
                    best = max((iou_of(box, other) for other_kind, _, other in theirs if other_kind == kind), default=0)
                    ious.append(best)
    print(f"{clip}: {len(ious)} boxes, IoU worst {min(ious):.4f}, {sum(one < 0.98 for one in ious)} below 0.98")  # noqa: T201 -- as above
    assert min(ious) >= 0.98


def pairs(clip: Path, model: Path, view: str) -> list[tuple[Frame, Frame]]:
    """Return each frame as both devices have it; they must agree on number and times."""
    ways = [
        frames_through(choose_backend(device), clip, model, DESCRIPTIONS / f"{model.stem}.yaml", view)  # type: ignore[arg-type] # one of View
        for device in ("cpu", "cuda")
    ]
    found = list(zip(*ways, strict=True))
    assert found
    for cpu, cuda in found:
        assert (cuda.index, cuda.pts, cuda.time_base) == (cpu.index, cpu.pts, cpu.time_base)
    return found
