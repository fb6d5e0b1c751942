"""`vrseg process` on every real clip with every model that fits: each frame against a plain reference."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from plugins.box_filter import box_rgb
from plugins.reference import (
    CLIPS,
    DESCRIPTIONS,
    MASK_MODELS,
    MIN_SCORE,
    PORTRAIT,
    PORTRAIT_FREE,
    SELFIE_FREE,
    YOLOX,
    Box,
    best_iou,
    by_ffmpeg,
    person_mask,
    plain_boxes,
    session_of,
)

from vrseg.sink.rle import mask_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plugins.daemon import RunVrseg
    from plugins.reference import Bool

pytestmark = pytest.mark.material
SAME_NETWORKS = (SELFIE_FREE, PORTRAIT_FREE)
"""As two others, but for their batch: these are held to the textbook, which takes its time."""
MODELS = (*MASK_MODELS, YOLOX)
PAIRS = [
    pytest.param(clip, model, marks=() if row % len(CLIPS) == column else pytest.mark.slow, id=f"{clip}-{model}")
    for row, model in enumerate(MODELS)
    for column, clip in enumerate(CLIPS)
]
"""By default each model meets one clip, and all clips are met; the others take four minutes of two cores."""


@pytest.mark.parametrize(("clip", "model"), PAIRS)
def test_every_frame_of_a_real_clip_arrives_at_its_time_as_the_reference_has_it(
    vrseg: RunVrseg, media_dir: Path, models_dir: Path, tmp_path: Path, clip: str, model: str
) -> None:
    source, target, results = media_dir / f"{clip}.mp4", tmp_path / "out.mp4", tmp_path / "out.jsonl"
    said = vrseg(
        "process", source, target, "--model", models_dir / f"{model}.onnx",
        "--description", DESCRIPTIONS / f"{model}.yaml", "--results", results, "--masks", "rle",
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    expected = [picture.time for picture in pictures_of(source)]
    assert [picture.time for picture in pictures_of(target)] == expected
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(len(expected)))
    assert_ffmpeg_plays(target)
    session = session_of(models_dir / f"{model}.onnx")
    if model == YOLOX:
        assert_boxes_agree(session, source, rows)
    else:
        assert_masks_agree(session, model, source, rows)


def assert_masks_agree(session: Any, model: str, source: Path, rows: list[dict[str, Any]]) -> None:
    """Hold the masks against two references, which shrink pictures in different ways.

    One shrinks by the textbook, in NumPy. Its pixels are 0.006 of 255 away on average, and the clip must agree. Single
    frames do so too but for 19 of 180 where one network sees people of ten pixels: it makes that much of so little.
    The other takes its pixels from FFmpeg's scaler, as the product does, and every frame must agree.
    """
    differing = pixels = 0
    for index, (picture, row) in enumerate(zip(pictures_of(source), rows, strict=True)):
        mine = mask_in(row, picture, class_id=int(model in (PORTRAIT, PORTRAIT_FREE)))
        wrong, union = difference(mine, person_mask(session, model, picture, by_ffmpeg))
        assert wrong <= union / 100, f"frame {index}: {wrong} of {union} pixels"
        if model not in SAME_NETWORKS:
            wrong, union = difference(mine, person_mask(session, model, picture, box_rgb))
            differing, pixels = differing + wrong, pixels + union
    assert differing <= pixels / 100


def assert_boxes_agree(session: Any, source: Path, rows: list[dict[str, Any]]) -> None:
    """Hold every box of every frame against the reference, and the other way round."""
    compared = 0
    for index, (picture, row) in enumerate(zip(pictures_of(source), rows, strict=True)):
        mine = [Box(box["class"], box["score"], tuple(box["box"])) for box in row["boxes"]]
        plain = plain_boxes(session, picture, box_rgb)
        for ours, theirs in ((mine, plain), (plain, mine)):
            for box in ours:
                if abs(box.score - MIN_SCORE) > 0.02:  # nearer to it, rounding decides whether there is a box
                    assert best_iou(box, theirs) >= 0.95, f"frame {index}: {box}"
                    compared += 1
    assert compared > 2 * len(rows)


def difference(a: Bool, b: Bool) -> tuple[int, int]:
    """Return how many pixels differ, and how many are in either mask."""
    return int(np.count_nonzero(a ^ b)), int(np.count_nonzero(a | b))


def mask_in(row: dict[str, Any], picture: av.VideoFrame, class_id: int) -> Bool:
    areas = row["areas"]
    if not areas:
        return np.zeros((picture.height, picture.width), bool)
    assert [area["class"] for area in areas] == [class_id]
    return mask_of(areas[0]["rle"]) > 0


def assert_ffmpeg_plays(path: Path) -> None:
    played = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "null", "-"], capture_output=True, text=True, check=False
    )
    assert (played.returncode, played.stderr) == (0, "")


def pictures_of(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        yield from container.decode(video=0)
