"""Geometry of boxes: into the frame's own pixels, and one box for one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vrseg.frame import F32, I64, Placement


def corners(boxes_cxcywh: F32) -> F32:
    """Turn centre and size (N, 4) into x0, y0, x1, y1."""
    half = boxes_cxcywh[:, 2:] / 2
    return np.concatenate([boxes_cxcywh[:, :2] - half, boxes_cxcywh[:, :2] + half], axis=1)


def to_frame(boxes_xyxy: F32, placement: Placement) -> F32:
    """Move boxes (N, 4) from input pixels to pixels of the coded frame, and clip them to it."""
    width, height = placement.frame_width, placement.frame_height
    sideways = placement.rotation_deg in (90, 270)
    upright = (height, width) if sideways else (width, height)
    scale = np.array([upright[0] / placement.width, upright[1] / placement.height] * 2, np.float32)
    x0, y0, x1, y1 = ((boxes_xyxy - np.array([placement.left, placement.top] * 2, np.float32)) * scale).T
    # A point of the coded frame at (cx, cy) is shown at (height - cy, cx) after a quarter turn clockwise.
    if placement.rotation_deg == 90:
        x0, y0, x1, y1 = y0, height - x1, y1, height - x0
    elif placement.rotation_deg == 180:
        x0, y0, x1, y1 = width - x1, height - y1, width - x0, height - y0
    elif placement.rotation_deg == 270:
        x0, y0, x1, y1 = width - y1, x0, width - y0, x1
    boxes = np.stack([x0, y0, x1, y1], axis=1)
    limits = np.array([width, height, width, height], np.float32)
    clipped: F32 = np.clip(boxes, 0, limits).astype(np.float32, copy=False)
    return clipped


def suppress(boxes_xyxy: F32, scores: F32, class_ids: I64, iou: float, limit: int) -> I64:
    """Keep the best box of each object: greedy non-maximum suppression, class by class.

    The best box that is left is kept, and all boxes of its class that overlap it by more than `iou` go (Felzenszwalb
    et al., "Object Detection with Discriminatively Trained Part-Based Models", 2010, section 7.2).

    Args:
        boxes_xyxy: (N, 4)
        scores: (N,)
        class_ids: (N,)
        iou: intersection over union above which two boxes are one object.
        limit: boxes kept at most.

    Returns:
        Row numbers of the kept boxes, best first; between equal scores the earlier row comes first.
    """
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(left) and len(kept) < limit:
        best, rest = left[0], left[1:]
        kept.append(int(best))
        same = class_ids[rest] == class_ids[best]
        left = rest[~(same & (overlap(boxes_xyxy[best], boxes_xyxy[rest]) > iou))]
    return np.array(kept, np.int64)


def overlap(box_xyxy: F32, others_xyxy: F32) -> F32:
    """Intersection over union of one box (4,) with others (N, 4); 0 where both are empty."""
    sizes = np.minimum(box_xyxy[2:], others_xyxy[:, 2:]) - np.maximum(box_xyxy[:2], others_xyxy[:, :2])
    common = np.maximum(sizes, 0).prod(axis=1)
    area = np.maximum(box_xyxy[2:] - box_xyxy[:2], 0).prod()
    areas = np.maximum(others_xyxy[:, 2:] - others_xyxy[:, :2], 0).prod(axis=1)
    result: F32 = common / np.maximum(area + areas - common, np.float32(1e-9))
    return result
