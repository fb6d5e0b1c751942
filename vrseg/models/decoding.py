"""Which of the known kinds of output a network has, told by shapes, and what is usual for each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vrseg.errors import ModelError

if TYPE_CHECKING:
    from vrseg.models.graph import Tensor
    from vrseg.models.spec import Decode, Layout, SupportedTask

SEGMENT_KINDS: frozenset[str] = frozenset({"probability", "logits", "softmax"})
STRIDES = (8, 16, 32)
"""Of the three grids that the YOLO families look at, in input pixels per cell."""
_ANCHORS_PER_CELL = 3  # YOLOv5 and v7; v8 and YOLOX have one
_BOX = 4
_ROW = 6  # x0, y0, x1, y1, score, class

USUAL: dict[str, dict[str, Any]] = {
    "yolox": {"input": {"color": "bgr", "scale": 1.0, "fit": "letterbox", "anchor": "top-left", "pad": 114}},
    "yolov5": {"input": {"fit": "letterbox", "pad": 114}},
    "yolov8": {"input": {"fit": "letterbox", "pad": 114}},
}
"""As the authors of each family trained it; others are stretched RGB from 0 to 1."""


def grid_cells(width: int, height: int) -> int:
    """Count the cells of the three grids."""
    return sum((width // stride) * (height // stride) for stride in STRIDES)


def guess_task(outputs: tuple[Tensor, ...]) -> SupportedTask | None:
    """Pictures come out of segmentation, rows of boxes out of detection; None when the shape does not tell."""
    ranks = {len(output.shape) for output in outputs}
    if ranks == {4}:
        return "segment"
    if ranks <= {1, 2, 3} and 3 in ranks and any(_could_hold_boxes(output) for output in outputs):
        return "detect"
    return None


def guess_segment(scores: Tensor, channels: int) -> Decode:
    """Tell probabilities from logits by the node that made them."""
    if scores.maker in {"Sigmoid", "HardSigmoid", "Clip"}:
        return "probability"
    return "softmax" if scores.maker == "Softmax" and channels > 1 else "logits"


def guess_detect(outputs: tuple[Tensor, ...], width: int, height: int) -> Decode | None:
    """Tell the families by how many rows they have; None when no family fits."""
    if len(outputs) >= 3:
        return "end2end"
    if len(outputs) != 1 or len(outputs[0].shape) != 3:
        return None
    _, rows, columns = outputs[0].shape
    cells = grid_cells(width, height)
    if columns == cells and rows is not None and rows > _BOX:
        return "yolov8"
    if rows == cells * _ANCHORS_PER_CELL:
        return "yolov5"
    if rows == cells:
        return "yolox"
    return "end2end" if columns == _ROW else None


def box_classes(decode: Decode, outputs: tuple[Tensor, ...]) -> int | None:
    """Count the classes that the columns of a detector stand for; None when they do not tell."""
    shape = outputs[0].shape
    if decode == "end2end" or len(shape) != 3:
        return None
    size = shape[1] if decode == "yolov8" else shape[2]
    return size - (_BOX if decode == "yolov8" else _BOX + 1) if size is not None else None


def order_end2end(outputs: tuple[Tensor, ...]) -> tuple[str, ...]:
    """Put three or four outputs into the order boxes, scores, classes, and drop a count.

    Raises:
        ModelError: they cannot be told apart.
    """
    boxes = [one for one in outputs if one.shape and one.shape[-1] == _BOX and len(one.shape) == 3]
    rest = [one for one in outputs if one not in boxes and not (len(one.shape) == 2 and one.shape[-1] == 1)]
    rest = [one for one in rest if len(one.shape) == 2]
    classes = [one for one in rest if "int" in one.dtype] or [
        one for one in rest if "class" in one.name.lower() or "label" in one.name.lower()
    ]
    scores = [one for one in rest if one not in classes]
    if not len(boxes) == len(scores) == len(classes) == 1:
        raise ModelError("cannot tell boxes, scores and classes apart; name them in this order in output.names")
    return boxes[0].name, scores[0].name, classes[0].name


def channel_axis(scores: Tensor, layout: Layout, named_classes: int) -> tuple[int, bool]:
    """Find the channels of a picture of scores: how many, and whether they come last.

    Raises:
        ModelError: the number is left open.
    """
    if len(scores.shape) == 3:
        return 1, False
    first, last = scores.shape[1], scores.shape[3]
    if first is None and last is None:
        raise ModelError(f"output {scores} leaves the number of channels open; export it with a fixed number")
    if first is None or last is None:
        return (last or first or 1), first is None
    for count in (named_classes, 1):
        if (first == count) != (last == count):
            return count, last == count
    channels_last = last < first if first != last else layout == "nhwc"
    return (last if channels_last else first), channels_last


def _could_hold_boxes(output: Tensor) -> bool:
    return any(size is not None and size >= _BOX for size in output.shape[1:]) or not output.shape
