"""Folders and patterns of images as films."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from vrseg.decode.cpu import PyavDecoder
from vrseg.errors import ConfigError, MediaError
from vrseg.source.images import ImagesSource, is_images, natural_key

if TYPE_CHECKING:
    from pathlib import Path

    from vrseg.frame import Frame


def write_image(path: Path, *, grey: int, size_wh: tuple[int, int] = (32, 24)) -> None:
    Image.new("RGB", size_wh, (grey, grey, grey)).save(path)


def frames_of(uri: str) -> list[Frame]:
    source = ImagesSource(uri)
    decoder = PyavDecoder("test", threads=2, live=False)
    try:
        source.open()
        decoder.open()
        frames: list[Frame] = []
        while batch := source.read():
            for packet in batch:
                frames += decoder.process(packet)
        return frames + list(decoder.flush())
    finally:
        source.close()
        decoder.close()


def greys(frames: list[Frame]) -> list[int]:
    return [round(float(np.mean(frame.picture.to_ndarray(format="gray")))) for frame in frames]


def test_a_folder_is_a_film_in_natural_order(tmp_path: Path) -> None:
    for number in (1, 2, 9, 10, 100):
        write_image(tmp_path / f"frame{number}.png", grey=number * 2)
    (tmp_path / "notes.txt").write_text("no image")
    frames = frames_of(str(tmp_path))
    assert greys(frames) == pytest.approx([2, 4, 18, 20, 200], abs=1)
    assert [frame.pts for frame in frames] == [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert {frame.time_base for frame in frames} == {Fraction(1, 25)}
    assert {frame.duration for frame in frames} == {1}


def test_each_image_may_have_another_size_and_format(tmp_path: Path) -> None:
    sizes = [(32, 24), (640, 480), (100, 50), (33, 17)]
    for index, (suffix, size_wh) in enumerate(zip((".png", ".jpg", ".bmp", ".webp"), sizes, strict=True)):
        write_image(tmp_path / f"{index}{suffix}", grey=50 + 40 * index, size_wh=size_wh)
    frames = frames_of(str(tmp_path))
    assert [(frame.width, frame.height) for frame in frames] == sizes
    assert greys(frames) == pytest.approx([50, 90, 130, 170], abs=3)


def test_a_pattern_chooses_and_fps_sets_the_speed(tmp_path: Path) -> None:
    for name in ("a1.png", "a2.png", "b1.png"):
        write_image(tmp_path / name, grey=100)
    source = ImagesSource(f"{tmp_path}/a?.png?fps=30000/1001")
    info = source.open()
    source.close()
    assert (info.frame_count, info.frame_rate) == (2, Fraction(30000, 1001))
    assert (info.codec, info.width, info.height) == ("png", 32, 24)
    assert len(frames_of(f"{tmp_path}/*.png")) == 3


def test_a_loop_shows_them_again(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", grey=10)
    write_image(tmp_path / "b.png", grey=20)
    source = ImagesSource(str(tmp_path), loop=True)
    assert source.open().frame_count is None
    assert [packet.payload.pts for _ in range(5) for packet in source.read()] == [0, 1, 2, 3, 4]
    source.close()


def test_what_names_several_images(tmp_path: Path) -> None:
    odd = tmp_path / "take[1].mp4"
    odd.touch()
    assert is_images(str(tmp_path))
    assert is_images(f"{tmp_path}?fps=5")
    assert is_images(f"file://{tmp_path}/*.jpg")
    assert not is_images(str(odd))
    assert not is_images(f"{tmp_path}/missing.mp4")


def test_names_sort_as_people_count() -> None:
    assert sorted(["10", "9b", "9a", "x2", "x10", "1"], key=natural_key) == ["1", "9a", "9b", "10", "x2", "x10"]


def test_no_images_and_bad_rates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no images there"):
        ImagesSource(str(tmp_path)).open()
    write_image(tmp_path / "a.png", grey=10)
    for rate in ("0", "-1", "fast", "1/0", ""):
        with pytest.raises(ConfigError, match="no frame rate"):
            ImagesSource(f"{tmp_path}?fps={rate}").open()


def test_files_that_are_no_images_say_so(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not a picture at all" * 50)
    with pytest.raises(MediaError, match="none of its pictures could be decoded"):
        frames_of(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(MediaError, match=r"a\.png"):
        frames_of(str(tmp_path))


def test_one_broken_image_among_good_ones_is_passed_over(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_image(tmp_path / f"{number}.png", grey=number * 50)
    (tmp_path / "2.png").write_bytes(b"not a picture at all" * 50)
    assert greys(frames_of(str(tmp_path))) == pytest.approx([50, 150], abs=1)
