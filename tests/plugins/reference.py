"""The plainest way from a picture to masks and boxes: PyAV or OpenCV, NumPy and ONNX Runtime, one frame at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
import onnxruntime as ort
from av.video.reformatter import Colorspace, Interpolation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import av
    import numpy.typing as npt

    from vrseg.frame import F32, U8

    Shrink: TypeAlias = Callable[[av.VideoFrame, int, int], F32]
    """A decoded picture, width, height; gives (height, width, 3) RGB, 0 to 255, not rounded. `box_rgb` is one."""
    Bool: TypeAlias = npt.NDArray[np.bool_]

DESCRIPTIONS = Path(__file__).resolve().parents[2] / "configs" / "models"
WALKING, CLOSEUP = "person_walking_768x432_10fps", "person_closeup_640x480_30fps"
STORE, STEREO = "people_store_1280x720_30fps", "synthetic_stereo_sbs_closeup_960x480_30fps"
SELFIE, SELFIE_FREE = "mediapipe_selfie_segmentation_256x256", "mediapipe_selfie_segmentation_256x256_dynbatch"
LANDSCAPE = "mediapipe_selfie_segmentation_landscape_144x256"
PORTRAIT = "pp_humanseg_v1_lite_portrait_398x224"
PORTRAIT_FREE = "pp_humanseg_v1_lite_portrait_398x224_dynbatch"
YOLOX = "yolox_nano_416"
CLIPS = [WALKING, STORE, CLOSEUP, STEREO]
MASK_MODELS = [SELFIE, SELFIE_FREE, LANDSCAPE, PORTRAIT, PORTRAIT_FREE]

MIN_SCORE = 0.3
_UNSPECIFIED, _SD_HEIGHT = 2, 576


@dataclass(frozen=True, slots=True)
class Box:
    """What a detector found."""

    class_id: int
    score: float
    corners: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels of the frame."""


@cache
def session_of(path: Path) -> Any:
    options = ort.SessionOptions()
    # Its threads would keep the cores busy while NumPy works on the next picture.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options)


def exact_rgb(picture: av.VideoFrame) -> U8:
    """Convert with all chroma samples interpolated and rounding to nearest.

    FFmpeg's quick default repeats chroma samples and cuts fractions off, which darkens by one of 255: enough to move
    the edge of a mask.
    """
    how = (
        Interpolation.BILINEAR
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.FULL_CHR_H_INP
        | Interpolation.ACCURATE_RND
    )
    converted = picture.reformat(format="rgb24", interpolation=how, src_colorspace=_space(picture))
    return np.asarray(converted.to_ndarray(), np.uint8)


def by_ffmpeg(picture: av.VideoFrame, width: int, height: int) -> F32:
    """Resize and convert in one call of FFmpeg's scaler, to 14 bits."""
    small = picture.reformat(
        width, height, "gbrp14le", interpolation=Interpolation.AREA, src_colorspace=_space(picture)
    )
    rows = [np.frombuffer(memoryview(plane), np.uint16).reshape(height, -1)[:, :width] for plane in small.planes]
    rgb = np.stack([rows[2], rows[0], rows[1]], axis=-1)
    return np.asarray(np.minimum(rgb.astype(np.float32) / 64, 255))


def person_scores(session: Any, name: str, picture: av.VideoFrame, shrink: Shrink) -> F32:
    """Return the probability of a person, 0 to 1, at the network's resolution, padding cut off."""
    feed = session.get_inputs()[0].name
    if name in (PORTRAIT, PORTRAIT_FREE):
        ratio = min(398 / picture.width, 224 / picture.height)
        width, height = round(picture.width * ratio), round(picture.height * ratio)
        left, top = (398 - width) // 2, (224 - height) // 2
        canvas = np.zeros((224, 398, 3), np.float32)
        canvas[top : top + height, left : left + width] = shrink(picture, width, height)
        tensor = ((canvas / 255 - 0.5) / 0.5).astype(np.float32).transpose(2, 0, 1)[None]
        return np.asarray(session.run(None, {feed: tensor})[0][0, 1, top : top + height, left : left + width])
    size = (256, 144) if name == LANDSCAPE else (256, 256)
    tensor = (shrink(picture, *size) / 255).astype(np.float32)[None]
    return np.asarray(session.run(None, {feed: tensor})[0][0, ..., 0])


def enlarged(scores: F32, picture: av.VideoFrame) -> F32:
    """Interpolate to the size of the picture."""
    return np.asarray(cv2.resize(scores, (picture.width, picture.height), interpolation=cv2.INTER_LINEAR))


def person_mask(session: Any, name: str, picture: av.VideoFrame, shrink: Shrink) -> Bool:
    return enlarged(person_scores(session, name, picture, shrink), picture) > 0.5


def plain_boxes(session: Any, picture: av.VideoFrame, shrink: Shrink) -> list[Box]:
    """Return what YOLOX finds."""
    ratio = min(416 / picture.height, 416 / picture.width)
    width, height = round(picture.width * ratio), round(picture.height * ratio)
    canvas = np.full((416, 416, 3), 114, np.float32)
    canvas[:height, :width] = shrink(picture, width, height)
    (rows,) = session.run(None, {"images": canvas[..., ::-1].transpose(2, 0, 1).astype(np.float32)[None]})[0]
    columns, lines, strides = _cells()
    classes = rows[:, 5:].argmax(axis=1)
    scores = rows[:, 4] * rows[:, 5:].max(axis=1)
    sizes = np.exp(rows[:, 2:4]) * strides[:, None] / ratio
    left_top = (rows[:, :2] + np.stack([columns, lines], axis=1)) * strides[:, None] / ratio - sizes / 2
    enough = scores >= MIN_SCORE
    boxes = np.concatenate([left_top, sizes], axis=1)[enough]
    scores, classes = scores[enough], classes[enough]
    kept = (
        cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), classes.tolist(), MIN_SCORE, 0.45)
        if any(enough)
        else []
    )
    found = []
    for one in kept:
        x, y, w, h = (float(value) for value in boxes[one])
        corners = (max(0.0, x), max(0.0, y), min(float(picture.width), x + w), min(float(picture.height), y + h))
        found.append(Box(int(classes[one]), float(scores[one]), corners))
    return found


@cache
def _cells() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return column, line and stride of each of YOLOX's rows."""
    cells = [
        (column, line, step) for step in (8, 16, 32) for line in range(416 // step) for column in range(416 // step)
    ]
    columns, lines, strides = np.array(cells).T
    return columns, lines, strides


def iou_of(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the intersection over union of two boxes, x0, y0, x1, y1."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    return float(common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common))


def best_iou(box: Box, others: Sequence[Box]) -> float:
    """Return the intersection over union with the nearest box of the same class; 0 where there is none."""
    return max((iou_of(box.corners, other.corners) for other in others if other.class_id == box.class_id), default=0.0)


def _space(picture: av.VideoFrame) -> Colorspace | None:
    """Without a tag, video above the size of PAL is BT.709, as players show it."""
    return Colorspace.ITU709 if picture.colorspace == _UNSPECIFIED and picture.height > _SD_HEIGHT else None
