from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from plugins.encoded import every, frames_at
from plugins.scores import in_16_bits
from structlog.testing import capture_logs

from vrseg.errors import ConfigError, MediaError
from vrseg.frame import Detections, Segmentation
from vrseg.postprocess.class_map import class_map
from vrseg.sink.line_file import Rotation
from vrseg.sink.results import JsonLinesSink, PatientSink, ResultRecords
from vrseg.sink.rle import mask_of, run_lengths

if TYPE_CHECKING:
    from pathlib import Path

    from vrseg.frame import U8, Frame, Result


def frame_with(result: Result | None, *, rotation_deg: int = 0) -> Frame:
    return replace(frames_at([1024], rotation_deg=rotation_deg)[0], index=7, result=result)


def half_person() -> Segmentation:
    scores = np.zeros((2, 12, 16), np.uint8)
    scores[1, :, :8] = 255
    scores[0] = 255 - scores[1]
    return Segmentation(scores=in_16_bits(scores), class_ids=(0, 1))


def line_of(path: Path, frame: Frame, **settings: Any) -> dict[str, Any]:
    sink = JsonLinesSink(path, ResultRecords(**settings))
    sink.open()
    sink.process(frame)
    sink.flush()
    sink.close()
    line = json.loads(path.read_text())
    assert isinstance(line, dict)
    return line


def test_boxes_are_written_with_class_name_score_and_edges(tmp_path: Path) -> None:
    boxes = Detections(
        boxes_xyxy=np.array([[1, 2, 30.25, 40]], np.float32),
        scores=np.array([0.875], np.float32),
        class_ids=np.array([1]),
    )
    line = line_of(tmp_path / "r.jsonl", frame_with(boxes), class_names=("person", "dog"))
    assert line == {
        "stream": "door",
        "frame": 7,
        "pts": 1024,
        "time_s": 0.066667,
        "boxes": [{"class": 1, "name": "dog", "score": 0.875, "box": [1.0, 2.0, 30.2, 40.0]}],
    }


def test_boxes_have_the_identity_that_is_known_of_them(tmp_path: Path) -> None:
    boxes = Detections(
        boxes_xyxy=np.array([[1, 2, 30, 40], [5, 6, 7, 8]], np.float32),
        scores=np.array([0.9, 0.8], np.float32),
        class_ids=np.array([0, 0]),
        track_ids=np.array([7, 0]),
    )
    known, unknown = line_of(tmp_path / "r.jsonl", frame_with(boxes))["boxes"]
    assert known["id"] == 7
    assert "id" not in unknown


def test_areas_are_shares_of_the_frame_without_background(tmp_path: Path) -> None:
    line = line_of(
        tmp_path / "r.jsonl",
        frame_with(half_person()),
        class_names=("nothing", "person"),
        background_ids=frozenset({0}),
    )
    assert line["areas"] == [{"class": 1, "name": "person", "share": 0.5}]


def test_masks_are_those_of_the_frame_to_the_pixel(tmp_path: Path) -> None:
    frame = frame_with(half_person(), rotation_deg=90)
    line = line_of(tmp_path / "r.jsonl", frame, background_ids=frozenset({0}), masks=True)
    (area,) = line["areas"]
    expected = class_map(half_person(), frame.width, frame.height) == 1
    np.testing.assert_array_equal(mask_of(area["rle"]) == 255, expected)
    assert area["rle"]["size"] == [120, 160]
    assert line["rotation"] == 90


def test_a_frame_without_result_is_a_line_too(tmp_path: Path) -> None:
    assert set(line_of(tmp_path / "r.jsonl", frame_with(None))) == {"stream", "frame", "pts", "time_s"}


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 255])))
def test_run_lengths_are_reversible(mask: U8) -> None:
    runs = run_lengths(mask)
    np.testing.assert_array_equal(mask_of(runs), mask)
    assert sum(runs["counts"]) == mask.size
    assert all(count > 0 for count in runs["counts"][1:])


def test_run_lengths_go_down_the_columns_and_begin_outside() -> None:
    mask = np.array([[255, 0], [255, 0], [0, 255]], np.uint8)
    assert run_lengths(mask) == {"size": [3, 2], "counts": [0, 2, 3, 1]}


def test_a_job_shows_its_results_only_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    sink = JsonLinesSink(path, ResultRecords(), whole=True)
    sink.open()
    for frame in frames_at(every(3)):
        sink.process(frame)
    assert not path.exists()
    sink.flush()
    sink.close()
    assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == [0, 1, 2]


def test_a_job_that_fails_leaves_no_results(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "r.jsonl", ResultRecords(), whole=True)
    sink.open()
    sink.process(frame_with(None))
    sink.close()
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_job_without_a_frame_leaves_no_results(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "r.jsonl", ResultRecords(), whole=True)
    sink.open()
    sink.flush()
    sink.close()
    assert not list(tmp_path.iterdir())


def test_a_daemon_appends_and_readers_see_lines_soon(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.jsonl"
    for _ in range(2):
        sink = JsonLinesSink(path, ResultRecords())
        sink.open()
        sink.process(frame_with(None))
        assert path.read_text().endswith("\n"), "the first line is flushed at once"
        sink.flush()
        sink.close()
    assert len(path.read_text().splitlines()) == 2


def test_results_can_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    sink = JsonLinesSink(None, ResultRecords())
    sink.open()
    sink.process(frame_with(None))
    sink.flush()
    sink.close()
    assert json.loads(capsys.readouterr().out)["frame"] == 7
    print("still open")  # noqa: T201 - this is what is tested


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.symlink_to("/dev/full")
    sink = JsonLinesSink(path, ResultRecords())
    sink.open()
    with pytest.raises(MediaError, match="the disk is full"):
        sink.process(frame_with(None))
    sink.close()


def test_an_unwritable_folder_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="a part of the path is no folder"):
        JsonLinesSink(tmp_path / "file" / "r.jsonl", ResultRecords(), whole=True).open()


def test_a_file_of_results_starts_anew_when_it_is_large_and_keeps_a_few_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    sink = JsonLinesSink(path, ResultRecords(), rotation=Rotation(max_bytes=250, backups=2))
    sink.open()
    for frame in frames_at(every(20)):
        sink.process(frame)
    sink.flush()
    sink.close()
    files = [tmp_path / name for name in ("r.jsonl.2", "r.jsonl.1", "r.jsonl")]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(file.stat().st_size <= 250 for file in files)
    numbers = [json.loads(line)["frame"] for file in files for line in file.read_text().splitlines()]
    assert numbers == list(range(20 - len(numbers), 20)), "whole lines, in order, up to the last"


def test_a_file_that_was_large_before_is_not_made_larger(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("x" * 300 + "\n")
    sink = JsonLinesSink(path, ResultRecords(), rotation=Rotation(max_bytes=250, backups=1))
    sink.open()
    sink.process(frame_with(None))
    sink.close()
    assert path.with_name("r.jsonl.1").read_text().startswith("xxx")
    assert json.loads(path.read_text())["frame"] == 7


def test_a_file_of_a_daemon_outlasts_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrseg.sink.results.RETRY_S", 0.0)
    path, lost = tmp_path / "r.jsonl", Counter[str]()
    path.symlink_to("/dev/full")
    sink = PatientSink(lambda: JsonLinesSink(path, ResultRecords()), lost, structlog.stdlib.get_logger())
    with capture_logs() as logs:
        sink.open()
        for _ in range(3):
            sink.process(frame_with(None))
        path.unlink()
        sink.process(frame_with(None))
    sink.flush()
    sink.close()
    assert lost == {"disk": 3}
    assert [entry["event"] for entry in logs] == ["results cannot be written", "results are written again"]
    assert len(path.read_text().splitlines()) == 1


def test_a_file_of_a_daemon_that_cannot_even_be_made_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "r.jsonl"
    with pytest.raises(ConfigError, match=r"file/r\.jsonl: "):
        PatientSink(lambda: JsonLinesSink(path, ResultRecords()), Counter(), structlog.stdlib.get_logger()).open()
