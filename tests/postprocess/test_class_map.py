from __future__ import annotations

import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from hypothesis import given
from hypothesis import strategies as st

from vrseg.frame import Segmentation
from vrseg.postprocess.class_map import NOTHING, class_map, enlarge, foreground_mask


def soft_scores(
    count: int, height: int = 48, width: int = 64, seed: int = 0
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    noise = np.random.default_rng(seed).random((count, height // 8, width // 8), np.float32)
    planes = [cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255 for one in noise]
    return np.stack(planes).astype(np.uint8)


def plain_classes(
    segmentation: Segmentation, width: int, height: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    planes = [cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in segmentation.scores]
    return np.asarray(np.array(segmentation.class_ids)[np.stack(planes).argmax(axis=0)])


@given(st.integers(1, 80), st.integers(1, 80))
def test_a_plain_picture_stays_plain_at_any_size(width: int, height: int) -> None:
    assert (enlarge(np.full((24, 40), 77, np.uint8), width, height) == 77).all()


def test_enlarging_agrees_with_opencv() -> None:
    (scores,) = soft_scores(1)
    plain_way = cv2.resize(scores, (320, 200), interpolation=cv2.INTER_LINEAR)
    assert np.abs(enlarge(scores, 320, 200).astype(int) - plain_way).max() <= 1


@pytest.mark.parametrize("threshold", [0, 60, 127, 200, 254])
def test_one_class_is_found_where_its_score_exceeds_the_threshold(threshold: int) -> None:
    scores = soft_scores(1)
    segmentation = Segmentation(scores=scores, class_ids=(3,), threshold=threshold)
    mask = foreground_mask(segmentation, 64, 48)
    np.testing.assert_array_equal(mask, np.where(scores[0] > threshold, 255, 0))
    np.testing.assert_array_equal(class_map(segmentation, 64, 48), np.where(scores[0] > threshold, 3, NOTHING))


@pytest.mark.parametrize("scaler", [None, VideoReformatter()])
def test_the_highest_of_several_scores_wins(scaler: VideoReformatter | None) -> None:
    segmentation = Segmentation(scores=soft_scores(5), class_ids=(0, 2, 3, 7, 11))
    found = class_map(segmentation, 320, 240, scaler=scaler)
    assert (found == plain_classes(segmentation, 320, 240)).mean() > 0.995
    mask = foreground_mask(segmentation, 320, 240, background_ids={0, 7}, scaler=scaler)
    np.testing.assert_array_equal(mask, np.where(np.isin(found, [0, 7]), 0, 255))


def test_the_first_of_equals_wins() -> None:
    segmentation = Segmentation(scores=np.full((3, 4, 4), 90, np.uint8), class_ids=(5, 1, 9))
    assert (class_map(segmentation, 8, 8) == 5).all()


def test_nothing_is_nothing() -> None:
    segmentation = Segmentation(scores=np.empty((0, 4, 4), np.uint8), class_ids=())
    assert (class_map(segmentation, 8, 6) == NOTHING).all()
    assert not foreground_mask(segmentation, 8, 6).any()


def test_the_scores_are_not_written_to() -> None:
    scores = soft_scores(2, 20, 30)
    before = scores.copy()
    class_map(Segmentation(scores=scores, class_ids=(0, 1)), 30, 20)
    np.testing.assert_array_equal(scores, before)
