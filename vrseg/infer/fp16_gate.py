"""What an FP16 network would say if nothing were rounded on the way, for a GPU's own answers to be held against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from vrseg.infer.gate import compare
from vrseg.models.fp16 import is_fp16, widened
from vrseg.models.on_cpu import outputs_on_cpu
from vrseg.models.trial import trial_tensor

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.infer.gate import Verdict
    from vrseg.models.spec import ModelSpec

    Array = npt.NDArray[Any]

# Rounded weights change the function itself, which the conversion has measured and this cannot see: they cost YOLOX up
# to 0.006 of the 0.02 that its scores may be off.
_SHARE = 0.75


def unrounded_answers(spec: ModelSpec) -> list[Array] | None:
    """Run an FP16 network as FP32 on the CPU, on the trial pictures.

    The FP32 network that it came from is not needed, nor that anybody knows it.

    Returns:
        Its outputs, (N, ...) each; None when it is no FP16 network.

    Raises:
        ModelError: it cannot be run as FP32.
    """
    model = onnx.load(spec.path)
    if not is_fp16(model):
        return None
    pictures = trial_tensor(spec.input)
    taken = pictures.astype(np.float32) if pictures.dtype == np.float16 else pictures
    return outputs_on_cpu(spec, widened(model), taken)


def compare_unrounded(spec: ModelSpec, unrounded: list[Array], found: list[Array]) -> Verdict:
    """Compare a GPU's answers in FP16 with `unrounded_answers`."""
    return compare(spec, unrounded, found, share=_SHARE)
