"""What an FP16 network would say if nothing were rounded on the way, for a GPU's own answers to be held against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import structlog

from vrseg.errors import ModelError
from vrseg.infer.gate import compare
from vrseg.models.fp16 import is_fp16, widened
from vrseg.models.on_cpu import outputs_on_cpu
from vrseg.models.trial import trial_tensor

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.infer.gate import Verdict
    from vrseg.models.spec import ModelSpec

    Array = npt.NDArray[Any]

_log = structlog.get_logger(__name__)
# Rounded weights change the function itself, which the conversion has measured and this cannot see: they cost YOLOX up
# to 0.006 of the 0.02 that its scores may be off.
_SHARE = 0.75


class Fp16Gate:
    """Lets a model's engines serve in FP16 only where they say what the same network says in FP32.

    What a conversion foresees is not what a GPU does, nor do two engines do the same on it. Shared by the engines of a
    model, one after the other: what they are held against is computed once.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.remark = ""
        """Why an FP16 network cannot be measured; empty when it can. Known after `prepare`."""
        self._spec = spec
        self._prepared = False
        self._unrounded: list[Array] | None = None

    @property
    def measures(self) -> bool:
        """False for networks that are not FP16, and for those that cannot be measured. Known after `prepare`."""
        return self._unrounded is not None

    def prepare(self) -> None:
        """Compute what answers are held against, once: the trial pictures, on the CPU."""
        if self._prepared:
            return
        try:
            self._unrounded = unrounded_answers(self._spec)
        except ModelError as error:
            self.remark = f"FP16 could not be measured, so nobody knows how good it is: {error}"
            _log.warning("FP16 not measured", model=self._spec.name, reason=self.remark)
        self._prepared = True

    def verdict(self, found: list[Array]) -> Verdict | None:
        """Judge what an engine says of the trial pictures, (N, ...) for each output; None when it does not measure."""
        return None if self._unrounded is None else compare_unrounded(self._spec, self._unrounded, found)

    def check(self, found: list[Array], where: str, *, advice: str = "") -> Verdict | None:
        """As `verdict`, for what is about to serve.

        Raises:
            ModelError: not accurate enough `where`, which tells engine and batch size; ends with `advice`.
        """
        verdict = self.verdict(found)
        if verdict is not None and not verdict.passed:
            raise ModelError(
                f"{self._spec.path}: FP16 is not accurate enough on this GPU, {where}: {verdict.text}{advice}"
            )
        return verdict


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
