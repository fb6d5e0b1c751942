"""What the demo looks at beside its outputs: how right the masks are, and a picture to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never

import numpy as np

from vrseg.demo.scene import SceneFrame
from vrseg.errors import MediaError
from vrseg.frame import Segmentation
from vrseg.postprocess.class_map import foreground_mask

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vrseg.frame import Frame


class TruthMeter:
    """A result sink that compares each mask with what the scene knows. Frames without a truth are passed over."""

    def __init__(self) -> None:
        self._intersection = 0
        self._union = 0

    @property
    def iou(self) -> float | None:
        """Intersection over union of all pixels so far; None without a truth, or without anybody in the scene."""
        return self._intersection / self._union if self._union else None

    def open(self) -> None:
        """Nothing to acquire."""

    def process(self, item: Frame, /) -> Iterable[Never]:
        if isinstance(item.truth, SceneFrame) and isinstance(item.result, Segmentation):
            seen = foreground_mask(item.result, item.width, item.height) > 0
            true = item.truth.mask > 0
            self._intersection += int(np.count_nonzero(seen & true))
            self._union += int(np.count_nonzero(seen | true))
        return ()

    def flush(self) -> Iterable[Never]:
        return ()

    def close(self) -> None:
        """Nothing to release."""


class Poster:
    """A result sink that keeps the picture with the most to see, up to now, and saves it at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._best: Frame | None = None
        self._most = -1.0

    def open(self) -> None:
        """Nothing to acquire."""

    def process(self, item: Frame, /) -> Iterable[Never]:
        share = float(item.result.scores.mean()) if isinstance(item.result, Segmentation) else 0.0
        if share > self._most:
            self._best, self._most = item, share
        return ()

    def flush(self) -> Iterable[Never]:
        if self._best is not None:
            try:
                self._best.picture.to_image().save(self._path)
            except OSError as error:
                raise MediaError(f"{self._path}: {error.strerror or error}") from error
        return ()

    def close(self) -> None:
        self._best = None
