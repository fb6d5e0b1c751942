"""Results as JSON: one object per frame, in the order of the frames."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Never

import numpy as np
from av.video.reformatter import VideoReformatter

from vrseg.errors import VrsegError
from vrseg.frame import Detections
from vrseg.postprocess.class_map import NOTHING, class_map
from vrseg.sink.line_file import LineFile
from vrseg.sink.rle import run_lengths

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import structlog

    from vrseg.frame import Frame, Segmentation
    from vrseg.sink.line_file import Rotation


RETRY_S = 5.0
"""A file that cannot be written is tried again so often."""


class ResultRecords:
    """Describes frames.

    A record has `stream`, `frame` (index), `pts`, `time_s`, and, where the model said something, `boxes`: a list of
    `{"class", "name", "score", "box": [x0, y0, x1, y1]}` in pixels, or `areas`: a list of
    `{"class", "name", "share"}` with the share of the frame from 0 to 1; with `masks`, each area also has `rle`, the
    class's mask as described in `rle`. Where boxes are tracked, those whose identity is known have it as `id`.
    Background classes are left out. Boxes and masks are those of the coded frame; where it is shown turned, `rotation`
    says by how many degrees clockwise.

    Args:
        class_names: in the order of class ids.
        background_ids: classes that are nothing.
        masks: whether to write masks.
    """

    def __init__(
        self, *, class_names: Sequence[str] = (), background_ids: frozenset[int] = frozenset(), masks: bool = False
    ) -> None:
        self._class_names = class_names
        self._background_ids = background_ids
        self._masks = masks
        self._scaler = VideoReformatter()

    def of(self, frame: Frame) -> dict[str, Any]:
        """Describe one frame."""
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
        boxes = [
            {
                "class": int(class_id),
                "name": self._name(int(class_id)),
                "score": round(float(score), 4),
                "box": [round(float(edge), 1) for edge in box],
            }
            for class_id, score, box in zip(detections.class_ids, detections.scores, detections.boxes_xyxy, strict=True)
        ]
        if detections.track_ids is None:
            return boxes
        ids = detections.track_ids.tolist()
        return [box | ({"id": track_id} if track_id else {}) for box, track_id in zip(boxes, ids, strict=True)]

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


class JsonLinesSink:
    """Stage[Frame, Never]: one line for each frame, as `ResultRecords` describes it.

    Args:
        path: a file, or None for standard output.
        records: what is said of a frame.
        whole: True writes beside the name and renames in `flush`, if there was a frame; `close` without `flush` leaves
            nothing. False appends to the file as frames come.
        rotation: when the file is started anew; never with `whole`.

    Raises:
        ConfigError: from `open`, the file cannot be made.
        MediaError: from `process` and `flush`, the disk is full or the reader went away.
    """

    def __init__(
        self, path: Path | None, records: ResultRecords, *, whole: bool = False, rotation: Rotation | None = None
    ) -> None:
        self._file = LineFile(path, whole=whole, rotation=rotation)
        self._records = records

    def open(self) -> None:
        self._file.open()

    def process(self, frame: Frame, /) -> Iterable[Never]:
        self._file.write(line_of(self._records.of(frame)))
        return ()

    def flush(self) -> Iterable[Never]:
        self._file.commit()
        return ()

    def close(self) -> None:
        self._file.close()


class PatientSink:
    """Stage[Frame, Never]: lines in a file of a daemon, which outlasts a disk that is full or a folder that is gone.

    Only `open` insists. Later, frames that cannot be written are counted, and the file is opened anew now and then.

    Args:
        make: gives a sink that has not been opened.
        lost: gets `disk` for each frame that was not written.
        log: is told when it begins and when it is over.
    """

    def __init__(
        self, make: Callable[[], JsonLinesSink], lost: Counter[str], log: structlog.stdlib.BoundLogger
    ) -> None:
        self._make = make
        self._lost = lost
        self._log = log
        self._sink: JsonLinesSink | None = None
        self._next_try_s = 0.0
        self._failed = False

    def open(self) -> None:
        self._sink = self._make()
        self._sink.open()

    def process(self, frame: Frame, /) -> Iterable[Never]:
        if self._sink is None and time.monotonic() < self._next_try_s:
            self._lost["disk"] += 1
            return ()
        try:
            if self._sink is None:
                self.open()
            assert self._sink is not None  # noqa: S101 -- just opened
            self._sink.process(frame)
        except VrsegError as error:
            self._give_up(error)
        else:
            if self._failed:
                self._log.info("results are written again", stream=frame.stream)
            self._failed = False
        return ()

    def flush(self) -> Iterable[Never]:
        try:
            if self._sink is not None:
                self._sink.flush()
        except VrsegError as error:
            self._give_up(error)
        return ()

    def close(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    def _give_up(self, error: VrsegError) -> None:
        self.close()
        self._lost["disk"] += 1
        self._next_try_s = time.monotonic() + RETRY_S
        if not self._failed:
            self._log.error("results cannot be written", detail=str(error), next=f"tried again every {RETRY_S:g} s")
        self._failed = True


class RecordsSink:
    """Stage[Frame, Never]: hands what `ResultRecords` says of each frame to somebody who never waits."""

    def __init__(self, records: ResultRecords, put: Callable[[dict[str, Any]], None]) -> None:
        self._records = records
        self._put = put

    def open(self) -> None:
        pass

    def process(self, frame: Frame, /) -> Iterable[Never]:
        self._put(self._records.of(frame))
        return ()

    def flush(self) -> Iterable[Never]:
        return ()

    def close(self) -> None:
        pass


def line_of(record: dict[str, Any]) -> str:
    """Write a record as a line of JSON, with its end."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
