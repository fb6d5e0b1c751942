from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from hypothesis import given, settings
from hypothesis import strategies as st

from vrseg.frame import Segmentation
from vrseg.postprocess.class_map import NOTHING, class_map, enlarge, foreground_mask, in_bytes, interpolated

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.frame import U16


def soft_scores(count: int, height: int = 48, width: int = 64, seed: int = 0) -> U16:
    noise = np.random.default_rng(seed).random((count, height // 8, width // 8), np.float32)
    planes = [cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 65535 for one in noise]
    return np.stack(planes).astype(np.uint16)


def plain_scores(segmentation: Segmentation, width: int, height: int) -> npt.NDArray[np.float64]:
    planes = segmentation.scores.astype(np.float64)
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in planes])


@given(st.integers(1, 80), st.integers(1, 80))
def test_a_plain_picture_stays_plain_at_any_size(width: int, height: int) -> None:
    assert (enlarge(np.full((24, 40), 77, np.uint8), width, height) == 77).all()


def test_enlarging_agrees_with_opencv() -> None:
    scores = in_bytes(soft_scores(1)[0])
    plain_way = cv2.resize(scores, (320, 200), interpolation=cv2.INTER_LINEAR)
    assert np.abs(enlarge(scores, 320, 200).astype(int) - plain_way).max() <= 1


@given(st.integers(1, 80), st.integers(1, 60), st.integers(0, 2**32))
def test_single_pixels_are_interpolated_as_opencv_does(width: int, height: int, seed: int) -> None:
    planes = np.random.default_rng(seed).integers(0, 65536, (3, 7, 9), np.uint16)
    found = interpolated(planes, np.arange(width * height), width, height).reshape(3, height, width)
    expected = plain_scores(Segmentation(scores=planes, class_ids=(0, 1, 2)), width, height)
    np.testing.assert_allclose(found, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("threshold", [0, 900, 15000, 32767, 51234, 65000, 65534])
@pytest.mark.parametrize("size", [(64, 48), (321, 243), (1280, 720), (50, 31)])
def test_one_class_is_decided_exactly(threshold: int, size: tuple[int, int]) -> None:
    """Not one pixel may differ but those where OpenCV's own arithmetic leaves a doubt."""
    segmentation = Segmentation(scores=soft_scores(1, seed=threshold), class_ids=(3,), threshold=threshold)
    scores = plain_scores(segmentation, *size)[0]
    wrong = (class_map(segmentation, *size) == 3) != (scores > threshold)
    assert np.abs(scores[wrong] - threshold).max(initial=0) < 0.05
    assert (scores > threshold).any()


@pytest.mark.parametrize("seed", range(6))
def test_of_several_classes_the_highest_is_found_exactly(seed: int) -> None:
    segmentation = Segmentation(scores=soft_scores(5, seed=seed), class_ids=(0, 2, 3, 7, 11))
    found, scores = class_map(segmentation, 1280, 720), plain_scores(segmentation, 1280, 720)
    wrong = found != np.array(segmentation.class_ids)[scores.argmax(axis=0)]
    lead = np.sort(scores, axis=0)
    assert (lead[-1] - lead[-2])[wrong].max(initial=0) < 0.05


@settings(deadline=None)  # it is about 350,000 pixels, and machines are busy
@given(st.integers(0, 65535), st.integers(-300, 300))
def test_scores_that_hardly_differ_are_told_apart(score: int, by: int) -> None:
    """Where all is in doubt, all is looked at: more than one portion of pixels."""
    other = min(max(score + by, 0), 65535)
    planes = np.stack([np.full((3, 4), one, np.uint16) for one in (score, other)])
    planes[1, 0, 0] = 0  # else nothing would be enlarged
    found = class_map(Segmentation(scores=planes, class_ids=(4, 9)), 700, 500)
    assert found[-1, -1] == (9 if other > score else 4)


@pytest.mark.parametrize("threshold", [0, 60, 127, 200, 254])
def test_one_class_is_found_where_its_score_exceeds_the_threshold(threshold: int) -> None:
    threshold = threshold << 8 | 255
    scores = soft_scores(1)
    segmentation = Segmentation(scores=scores, class_ids=(3,), threshold=threshold)
    mask = foreground_mask(segmentation, 64, 48)
    np.testing.assert_array_equal(mask, np.where(scores[0] > threshold, 255, 0))
    np.testing.assert_array_equal(class_map(segmentation, 64, 48), np.where(scores[0] > threshold, 3, NOTHING))


@pytest.mark.parametrize("scaler", [None, VideoReformatter()])
def test_all_but_background_is_foreground(scaler: VideoReformatter | None) -> None:
    segmentation = Segmentation(scores=soft_scores(5), class_ids=(0, 2, 3, 7, 11))
    found = class_map(segmentation, 320, 240, scaler=scaler)
    mask = foreground_mask(segmentation, 320, 240, background_ids={0, 7}, scaler=scaler)
    np.testing.assert_array_equal(mask, np.where(np.isin(found, [0, 7]), 0, 255))


def test_the_first_of_equals_wins() -> None:
    segmentation = Segmentation(scores=np.full((3, 4, 4), 23130, np.uint16), class_ids=(5, 1, 9))
    assert (class_map(segmentation, 8, 8) == 5).all()


def test_nothing_is_nothing() -> None:
    segmentation = Segmentation(scores=np.empty((0, 4, 4), np.uint16), class_ids=())
    assert (class_map(segmentation, 8, 6) == NOTHING).all()
    assert not foreground_mask(segmentation, 8, 6).any()


def test_the_scores_are_not_written_to() -> None:
    scores = soft_scores(2, 20, 30)
    before = scores.copy()
    class_map(Segmentation(scores=scores, class_ids=(0, 1)), 30, 20)
    np.testing.assert_array_equal(scores, before)
