"""The head that reads a model's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.postprocess.detect import DetectHead
from vrseg.postprocess.segment import SegmentHead

if TYPE_CHECKING:
    from vrseg.models.spec import ModelSpec
    from vrseg.stage import Postprocess


def make_head(spec: ModelSpec) -> Postprocess:
    """Construct the head for a model's task."""
    return SegmentHead(spec) if spec.task == "segment" else DetectHead(spec)
