from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from PIL import Image

from vrseg.config.schema import ModelDescription
from vrseg.demo import MODEL_PATH
from vrseg.demo.scene import Scene


@pytest.fixture(scope="module")
def session() -> Any:
    return onnxruntime.InferenceSession(str(MODEL_PATH), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def description() -> ModelDescription:
    return ModelDescription.model_validate(yaml.safe_load(MODEL_PATH.with_suffix(".yaml").read_text()))


def person_scores(session: Any, description: ModelDescription, image_hwc: np.ndarray) -> np.ndarray:
    """Probability of a person at the size of the picture, as the description says to compute it."""
    size = (description.input.width or 0, description.input.height or 0)
    small = np.asarray(Image.fromarray(image_hwc).resize(size, Image.Resampling.BOX), np.float32)
    tensor = (small * np.float32(description.input.scale)).transpose(2, 0, 1)[None]
    (scores,) = session.run(list(description.output.names or ()), {"image": tensor})
    full = Image.fromarray(scores[0, 0]).resize(image_hwc.shape[1::-1], Image.Resampling.BILINEAR)
    return np.asarray(full)


def test_the_card_speaks_of_this_file() -> None:
    card = MODEL_PATH.with_name("MODEL_CARD.md").read_text()
    assert hashlib.sha256(MODEL_PATH.read_bytes()).hexdigest() in card


def test_the_description_is_whole(description: ModelDescription) -> None:
    assert description.task == "segment"
    assert description.output.decode == "probability"
    assert description.classes == ("person",)
    assert description.licence == "Apache-2.0"
    assert MODEL_PATH.stat().st_size < 3_000_000


@pytest.mark.parametrize("shape", [(1, 3, 224, 384), (3, 3, 144, 256), (2, 3, 48, 80)])
def test_batch_and_size_are_free(session: Any, shape: tuple[int, ...]) -> None:
    (scores,) = session.run(["mask"], {"image": np.random.default_rng(0).random(shape, np.float32)})
    assert scores.shape == (shape[0], 1, *shape[2:])
    assert scores.dtype == np.float32
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_a_picture_s_scores_do_not_depend_on_its_batch(session: Any) -> None:
    images = np.random.default_rng(1).random((4, 3, 96, 160), np.float32)
    (together,) = session.run(["mask"], {"image": images})
    (alone,) = session.run(["mask"], {"image": images[2:3]})
    assert np.abs(together[2:3] - alone).max() < 1e-4


@pytest.mark.parametrize("seed", [0, 101, 102, 103])
def test_people_of_unseen_rooms_are_found(session: Any, description: ModelDescription, seed: int) -> None:
    scene = Scene(seed)
    shared = either = 0
    for index in range(20, 720, 140):
        frame = scene.render(index)
        found = person_scores(session, description, frame.image_hwc) > description.thresholds.mask
        shared += int((found & (frame.mask == 1)).sum())
        either += int((found | (frame.mask == 1)).sum())
    assert shared / either > 0.91


def test_an_empty_room_stays_empty(session: Any, description: ModelDescription) -> None:
    for seed in (0, 104, 105):
        scores = person_scores(session, description, Scene(seed, figures=0).render(50).image_hwc)
        assert (scores > description.thresholds.mask).mean() < 0.004
