from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vrseg.frame import Placement
from vrseg.postprocess.boxes import corners, overlap, suppress, to_frame

if TYPE_CHECKING:
    from vrseg.frame import F32

COUNT = st.integers(0, 30)


@st.composite
def candidates(draw: st.DrawFn) -> tuple[F32, F32, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    count = draw(COUNT)
    numbers = hnp.arrays(np.float32, (count, 4), elements=st.floats(0, 50, width=32))
    low, size = draw(numbers), draw(numbers)
    scores = draw(hnp.arrays(np.float32, count, elements=st.floats(0, 1, width=32)))
    classes = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 2)))
    return np.concatenate([low[:, :2], low[:, :2] + size[:, :2] + 1], axis=1), scores, classes


@given(candidates(), st.floats(0.1, 0.9), st.integers(1, 10))
def test_suppression_keeps_the_best_and_nothing_that_overlaps_it(
    found: tuple[F32, F32, np.ndarray[tuple[int, ...], np.dtype[np.int64]]], iou: float, limit: int
) -> None:
    boxes, scores, classes = found
    kept = suppress(boxes, scores, classes, iou, limit)
    assert len(kept) <= limit
    assert len(set(kept.tolist())) == len(kept)
    assert (np.diff(scores[kept]) <= 0).all()
    if len(scores):
        assert scores[kept[0]] == scores.max()
    for place, one in enumerate(kept):
        rest = kept[place + 1 :]
        same = rest[classes[rest] == classes[one]]
        assert (overlap(boxes[one], boxes[same]) <= iou).all()
    if len(kept) < limit:  # whatever went, went because of a kept one
        for one in set(range(len(scores))) - set(kept.tolist()):
            rivals = kept[(classes[kept] == classes[one]) & (scores[kept] >= scores[one])]
            assert (overlap(boxes[one], boxes[rivals]) > iou - 1e-6).any()


@given(candidates(), st.randoms(use_true_random=False))
def test_suppression_does_not_depend_on_the_order_of_different_scores(
    found: tuple[F32, F32, np.ndarray[tuple[int, ...], np.dtype[np.int64]]], random: object
) -> None:
    boxes, scores, classes = found
    scores = np.argsort(np.argsort(scores, kind="stable")).astype(np.float32)
    order = np.arange(len(scores))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    kept = suppress(boxes, scores, classes, 0.45, 100)
    again = suppress(boxes[order], scores[order], classes[order], 0.45, 100)
    assert kept.tolist() == order[again].tolist()


def test_boxes_of_other_classes_are_other_objects() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    kept = suppress(boxes, np.array([0.5, 0.9, 0.7], np.float32), np.array([1, 1, 2]), 0.45, 10)
    assert kept.tolist() == [1, 2]


def test_overlap_is_intersection_over_union() -> None:
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [3, 3, 3, 3]], np.float32)
    assert overlap(others[0], others).tolist() == pytest.approx([1, 1 / 3, 0, 0])


def test_corners_of_centre_and_size() -> None:
    assert corners(np.array([[10, 20, 4, 6]], np.float32)).tolist() == [[8, 17, 12, 23]]


SIDE = st.integers(16, 2000)


@given(SIDE, SIDE, st.sampled_from([0, 90, 180, 270]), st.tuples(st.integers(0, 100), st.integers(0, 100)), st.data())
def test_a_box_comes_back_from_a_letterbox_to_where_it_was(
    width: int, height: int, rotation: int, corner: tuple[int, int], data: st.DataObject
) -> None:
    left, top = corner
    x0, x1 = sorted(data.draw(st.tuples(st.floats(0, width), st.floats(0, width))))
    y0, y1 = sorted(data.draw(st.tuples(st.floats(0, height), st.floats(0, height))))
    # Forward, written independently: turn both corners clockwise by quarters, then scale and move.
    points = np.array([[x0, y0], [x1, y1]])
    shown_width, shown_height = width, height
    for _ in range(rotation // 90):
        points = np.stack([shown_height - points[:, 1], points[:, 0]], axis=1)
        shown_width, shown_height = shown_height, shown_width
    scale_x, scale_y = 300 / shown_width, 200 / shown_height
    low, high = points.min(axis=0), points.max(axis=0)
    inside = np.concatenate([low, high]) * [scale_x, scale_y, scale_x, scale_y] + [left, top, left, top]
    placement = Placement(
        left=left, top=top, width=300, height=200, frame_width=width, frame_height=height, rotation_deg=rotation
    )
    (back,) = to_frame(inside[None].astype(np.float32), placement)
    np.testing.assert_allclose(back, [x0, y0, x1, y1], atol=max(width, height) * 1e-4)


def test_boxes_are_clipped_to_the_frame() -> None:
    placement = Placement(left=0, top=0, width=100, height=50, frame_width=200, frame_height=100)
    assert to_frame(np.array([[-10, -10, 500, 20]], np.float32), placement).tolist() == [[0, 0, 200, 40]]
