"""`vrseg process` on every real clip with every model that fits: each frame against a plain reference."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from plugins.reference import (
    CLIPS,
    DESCRIPTIONS,
    MASK_MODELS,
    MIN_SCORE,
    PORTRAIT,
    PORTRAIT_FREE,
    YOLOX,
    Box,
    best_iou,
    by_ffmpeg,
    enlarged,
    in_bytes,
    person_scores,
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
LEVEL = 1 / 255
"""One step of a score in 8 bits."""


@pytest.mark.parametrize("model", [*MASK_MODELS, YOLOX])
@pytest.mark.parametrize("clip", CLIPS)
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
    """Hold every frame against the reference, and none to less than the others.

    The reference enlarges what the network says; the product enlarges it in 8 bits, as `Segmentation` has it. So there
    are two comparisons. With the reference's scores rounded to 8 bits, too, every mask must agree. With its scores as
    they are, a pixel may differ only where the score is within a level and a quarter of the threshold (half a level is
    the rounding, the rest is FFmpeg's enlarging in whole numbers; measured 1.06), and the clip as a whole must agree.
    Single frames then agree to 0.99 but for 26 of 1908, with tiny people or nobody in them: 0.981 to 0.99.
    """
    differing = pixels = 0
    for index, (picture, row) in enumerate(zip(pictures_of(source), rows, strict=True)):
        mine = mask_in(row, picture, class_id=int(model in (PORTRAIT, PORTRAIT_FREE)))
        scores = person_scores(session, model, picture, by_ffmpeg)
        rounded = enlarged(in_bytes(scores), picture) > 0.5
        assert agree(*difference(mine, rounded)), f"frame {index}: {difference(mine, rounded)}"
        exact = enlarged(scores, picture)
        doubt = np.abs(exact[mine != (exact > 0.5)] - 0.5)
        assert doubt.max(initial=0) <= 1.25 * LEVEL, f"frame {index}: {doubt.max() / LEVEL} levels"
        wrong, union = difference(mine, exact > 0.5)
        differing, pixels = differing + wrong, pixels + union
    assert agree(differing, pixels)


def assert_boxes_agree(session: Any, source: Path, rows: list[dict[str, Any]]) -> None:
    """Hold every box of every frame against the reference, and the other way round."""
    compared = 0
    for index, (picture, row) in enumerate(zip(pictures_of(source), rows, strict=True)):
        mine = [Box(box["class"], box["score"], tuple(box["box"])) for box in row["boxes"]]
        plain = plain_boxes(session, picture, by_ffmpeg)
        for ours, theirs in ((mine, plain), (plain, mine)):
            for box in ours:
                if abs(box.score - MIN_SCORE) > 0.02:  # nearer to it, rounding decides whether there is a box
                    assert best_iou(box, theirs) >= 0.95, f"frame {index}: {box}"
                    compared += 1
    assert compared > 2 * len(rows)


def difference(a: Bool, b: Bool) -> tuple[int, int]:
    """Return how many pixels differ, and how many are in either mask."""
    return int(np.count_nonzero(a ^ b)), int(np.count_nonzero(a | b))


def agree(differing: int, union: int) -> bool:
    """Tell whether the intersection over union is 0.99 at least, to the nearest pixel: of 52 pixels one is 0.02."""
    return differing <= max(1, union // 100)


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
