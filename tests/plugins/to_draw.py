"""Frames, and what might have been found of them, made to show how it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from plugins.clips import moving_picture
from plugins.frames import frame_of
from plugins.painted import tagged
from plugins.scores import in_16_bits

from vrseg.frame import Detections, Segmentation
from vrseg.models.spec import ResolvedClass

if TYPE_CHECKING:
    from vrseg.config.schema import View
    from vrseg.frame import U8, Frame
    from vrseg.gpu.surface import Matrix

VIEWS: tuple[View, ...] = ("overlay", "mask", "matte", "green", "blur")
PERSON = ResolvedClass(name="person", color_rgb=(230, 30, 40))
DOG = ResolvedClass(name="dog", color_rgb=(30, 60, 220))
WALL = ResolvedClass(name="wall", color_rgb=(0, 0, 0), background=True)
CLASSES = (WALL, PERSON, DOG)


def disc(rows: int, columns: int, left: float, radius: float, softness: float) -> U8:
    down, across = np.mgrid[0:rows, 0:columns]
    distance = np.hypot((across + 0.5) / columns - left, ((down + 0.5) / rows - 0.5) * 0.7)
    scores: U8 = np.clip((radius - distance) / softness * 255 + 128, 0, 255).astype(np.uint8)
    return scores


def person(rows: int = 45, columns: int = 80, softness: float = 0.04, threshold: int = 127) -> Segmentation:
    scores = disc(rows, columns, 0.45, 0.2, softness)[None]
    return Segmentation(scores=in_16_bits(scores), class_ids=(0,), threshold=threshold << 8 | 255)


def person_and_dog(rows: int = 45, columns: int = 80, softness: float = 0.04) -> Segmentation:
    one, other = disc(rows, columns, 0.35, 0.2, softness), disc(rows, columns, 0.6, 0.2, softness)
    return Segmentation(scores=in_16_bits(np.stack([255 - np.maximum(one, other), one, other])), class_ids=(0, 1, 2))


def noise(classes: int, seed: int) -> Segmentation:
    """Classes that lead here and there, often hardly, and one that leads nowhere."""
    rng = np.random.default_rng(seed)
    scores = np.kron(rng.integers(60, 250, (classes, 9, 16)), np.ones((1, 5, 5)))
    scores[-1] = scores[:-1].max(axis=0) - 3
    return Segmentation(scores=in_16_bits(scores), class_ids=tuple(range(classes)))


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """x0, y0, x1, y1, score, class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        boxes_xyxy=table[:, :4].astype(np.float32),
        scores=table[:, 4].astype(np.float32),
        class_ids=table[:, 5].astype(np.int64),
    )


CROWD = boxes(
    (30.4, 60.2, 131.7, 170.5, 0.93, 1),
    (101.0, 40.0, 201.0, 139.0, 0.871, 2),
    (90.6, 3.0, 160.2, 60.5, 0.61, 1),
    (250.0, 150.0, 319.9, 179.8, 0.555, 0),
    (0.0, 0.0, 20.0, 9.0, 0.5, 2),
    (310.0, 60.0, 320.0, 70.0, 0.47, 7),
    (130.0, 100.0, 131.0, 101.0, 0.4, 1),
)


def frame_like(
    width: int = 320,
    height: int = 180,
    pixel_format: str = "nv12",
    matrix: Matrix = "bt709",
    *,
    full_range: bool = False,
    rotation_deg: int = 0,
) -> Frame:
    picture = tagged(moving_picture(width, height, 3), pixel_format, matrix, full_range=full_range)
    return frame_of(picture, rotation_deg=rotation_deg)
