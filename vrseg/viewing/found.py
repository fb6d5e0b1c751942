"""What was found in a frame, in a few words for a person."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from vrseg.frame import Detections, Segmentation
from vrseg.postprocess.class_map import NOTHING, class_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vrseg.frame import Frame

Found: TypeAlias = dict[str, float]
"""By class name, most first: how many there are, or the share of the picture, 0 to 1."""


def found_in(frame: Frame, class_names: Sequence[str], background_ids: frozenset[int]) -> Found | None:
    """Sum up a frame's result; None when it has none, or when it stayed on the device."""

    def name(class_id: int) -> str:
        return class_names[class_id] if class_id < len(class_names) else f"class {class_id}"

    if isinstance(frame.result, Detections):
        return dict(Counter(name(int(class_id)) for class_id in frame.result.class_ids).most_common())
    if not isinstance(frame.result, Segmentation):
        return None
    height, width = frame.result.scores.shape[1:]
    counts = np.bincount(class_map(frame.result, width, height).ravel(), minlength=NOTHING + 1)
    shares = {
        name(class_id): round(counts[class_id] / counts.sum(), 4)
        for class_id in np.flatnonzero(counts[:NOTHING]).tolist()
        if class_id not in background_ids
    }
    return dict(sorted(shares.items(), key=lambda one: -one[1]))
