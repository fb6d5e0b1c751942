"""Results as JSON lines: one object per frame, in the order of the frames."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Never

import numpy as np
from av.video.reformatter import VideoReformatter

from vrseg.av_errors import output_error
from vrseg.errors import ConfigError
from vrseg.frame import Detections
from vrseg.postprocess.class_map import NOTHING, class_map
from vrseg.sink.rle import run_lengths

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import IO

    from vrseg.frame import Frame, Segmentation

_FLUSH_EVERY_S = 1.0
"""Readers that follow a live file see it no later than this; each line alone would be a system call per frame."""


class JsonLinesSink:
    """Stage[Frame, Never].

    Each line is an object with `stream`, `frame` (index), `pts`, `time_s`, and, where the model said something,
    `boxes`: a list of `{"class", "name", "score", "box": [x0, y0, x1, y1]}` in pixels, or `areas`: a list of
    `{"class", "name", "share"}` with the share of the frame from 0 to 1; with `masks`, each area also has `rle`, the
    class's mask as described in `rle`. Background classes are left out. Boxes and masks are those of the coded frame;
    where it is shown turned, `rotation` says by how many degrees clockwise.

    Args:
        path: a file, or None for standard output.
        class_names: in the order of class ids.
        background_ids: classes that are nothing.
        masks: whether to write masks.
        whole: True writes beside the name and renames in `flush`, if there was a frame; `close` without `flush` leaves
            nothing. False appends to the file as frames come.

    Raises:
        ConfigError: from `open`, the file cannot be made.
        MediaError: from `process` and `flush`, the disk is full or the reader went away.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        class_names: Sequence[str] = (),
        background_ids: frozenset[int] = frozenset(),
        masks: bool = False,
        whole: bool = False,
    ) -> None:
        self._path = path
        self._class_names = class_names
        self._background_ids = background_ids
        self._masks = masks
        self._part = path.with_name(f".{path.stem}.part{path.suffix}") if path is not None and whole else None
        self._file: IO[str] | None = None
        self._flushed_s = 0.0
        self._scaler = VideoReformatter()

    def open(self) -> None:
        try:
            if self._path is None:
                self._file = sys.stdout
            elif self._part is not None:
                self._file = self._part.open("w", encoding="utf-8")
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(str(output_error(error, str(self._path), live=False))) from error

    def process(self, frame: Frame, /) -> Iterable[Never]:
        self._write(json.dumps(self._line(frame), ensure_ascii=False, separators=(",", ":")) + "\n")
        return ()

    def flush(self) -> Iterable[Never]:
        self._write("", now=True)
        if self._part is not None and self._path is not None and self._file is not None and self._file.tell():
            self._close_file()
            try:
                self._part.replace(self._path)
            except OSError as error:
                raise output_error(error, str(self._path), live=False) from error
        return ()

    def close(self) -> None:
        unfinished = self._file is not None
        self._close_file()
        if unfinished and self._part is not None:
            self._part.unlink(missing_ok=True)

    def _write(self, text: str, *, now: bool = False) -> None:
        if self._file is None:
            return
        clock_s = time.monotonic()
        try:
            self._file.write(text)
            if now or clock_s - self._flushed_s >= _FLUSH_EVERY_S:
                self._flushed_s = clock_s
                self._file.flush()
        except OSError as error:
            raise output_error(error, str(self._path or "standard output"), live=False) from error

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None and file is not sys.stdout:
            with suppress(OSError):  # a full disk was already told by the write before
                file.close()

    def _line(self, frame: Frame) -> dict[str, Any]:
        line: dict[str, Any] = {
            "stream": frame.stream,
            "frame": frame.index,
            "pts": frame.pts,
            "time_s": round(frame.time_s, 6),
        }
        if frame.rotation_deg:
            line["rotation"] = frame.rotation_deg
        if isinstance(frame.result, Detections):
            line["boxes"] = self._boxes(frame.result)
        elif frame.result is not None:
            line["areas"] = self._areas(frame.result, frame.width, frame.height)
        return line

    def _boxes(self, detections: Detections) -> list[dict[str, Any]]:
        return [
            {
                "class": int(class_id),
                "name": self._name(int(class_id)),
                "score": round(float(score), 4),
                "box": [round(float(edge), 1) for edge in box],
            }
            for class_id, score, box in zip(detections.class_ids, detections.scores, detections.boxes_xyxy, strict=True)
        ]

    def _areas(self, segmentation: Segmentation, width: int, height: int) -> list[dict[str, Any]]:
        if not self._masks:
            # A share needs no pixel-exact edges: the model's own resolution tells it to a thousandth.
            height, width = segmentation.scores.shape[1:]
        classes = class_map(segmentation, width, height, scaler=self._scaler)
        counts = np.bincount(classes.ravel(), minlength=NOTHING + 1)
        areas = []
        for class_id in np.flatnonzero(counts[:NOTHING]).tolist():
            if class_id not in self._background_ids:
                area = {
                    "class": class_id,
                    "name": self._name(class_id),
                    "share": round(counts[class_id] / classes.size, 5),
                }
                areas.append(area | ({"rle": run_lengths(classes == class_id)} if self._masks else {}))
        return areas

    def _name(self, class_id: int) -> str:
        return self._class_names[class_id] if class_id < len(self._class_names) else f"class {class_id}"
