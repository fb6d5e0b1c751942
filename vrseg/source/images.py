"""A folder of images, or those that match a pattern, as a film. Each image may have another size and format."""

from __future__ import annotations

import glob
import os
import re
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs

import av
import av.error

from vrseg.address import local_path
from vrseg.av_errors import source_error
from vrseg.errors import ConfigError, MediaError
from vrseg.frame import Packet
from vrseg.source.container import choose_video, describe, open_container, packets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vrseg.frame import SourceInfo

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif"})
_DEFAULT_FPS = Fraction(25)
_PATTERN = re.compile(r"[*?\[]")


def is_images(uri: str) -> bool:
    """Tell whether a local address names several images: a folder, or a pattern that is not itself a file."""
    path, _ = _split(uri)
    return os.path.isdir(path) or (_PATTERN.search(path) is not None and not os.path.exists(path))  # noqa: PTH110, PTH112 - a pattern is text


def natural_key(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Sort key that puts `frame9` before `frame10`."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((False, int(part), "") if part.isdigit() else (True, 0, part.lower()) for part in parts)


class ImagesSource:
    """Images in natural order of their names, at 25 frames per second or `?fps=`. `pts` counts the images from 0.

    Raises from `open`: ConfigError when nothing matches, or `fps` is no positive number.
    Raises from `read`: MediaError when a file is not an image.
    """

    live = False

    def __init__(self, uri: str, *, loop: bool = False) -> None:
        self._uri = uri
        self._loop = loop
        self._fps = _DEFAULT_FPS
        self._paths: Sequence[Path] = ()
        self._index = 0

    def open(self) -> SourceInfo:
        pattern, query = _split(self._uri)
        self._fps = _fps(query, self._uri)
        self._paths = _find(pattern)
        self._index = 0
        _, info = _load(self._paths[0])
        count = None if self._loop else len(self._paths)
        return replace(
            info,
            frame_rate=self._fps,
            frame_count=count,
            duration_s=None if count is None else float(count / self._fps),
            time_base=1 / self._fps,
        )

    def read(self) -> list[Packet]:
        if not self._paths or (self._index >= len(self._paths) and not self._loop):
            return []
        payload, _ = _load(self._paths[self._index % len(self._paths)])
        payload.pts = payload.dts = self._index
        payload.duration = 1
        payload.time_base = 1 / self._fps
        self._index += 1
        return [Packet(payload=payload, arrived_s=time.monotonic())]

    def close(self) -> None:
        self._paths = ()


def _split(uri: str) -> tuple[str, str]:
    """Split an address into the pattern and the text after `?`, if that is a query and not a wildcard."""
    pattern, separator, query = local_path(uri).rpartition("?fps=")
    return (pattern, f"fps={query}") if separator else (query, "")


def _fps(query: str, uri: str) -> Fraction:
    if not query:
        return _DEFAULT_FPS
    text = parse_qs(query).get("fps", [""])[-1]
    try:
        fps = Fraction(text)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if fps <= 0:
        raise ConfigError(f"{uri}: fps={text} is no frame rate; write a number such as fps=25 or fps=30000/1001")
    return fps


def _find(pattern: str) -> list[Path]:
    """List the images that `pattern` (a folder or a wildcard) stands for, in natural order."""
    folder = Path(pattern)
    found = folder.iterdir() if folder.is_dir() else (Path(name) for name in glob.glob(pattern))  # noqa: PTH207 - the pattern may be absolute
    images = [path for path in found if path.suffix.lower() in _SUFFIXES and path.is_file()]
    if not images:
        raise ConfigError(f"{pattern}: no images there; expected files such as {', '.join(sorted(_SUFFIXES)[:6])}")
    return sorted(images, key=lambda path: natural_key(path.name))


def _load(path: Path) -> tuple[av.Packet[Any], SourceInfo]:
    """Read the compressed picture of one file."""
    shown = str(path)
    try:
        # Without the option FFmpeg takes a `%03d` in the name for the number of a series.
        with open_container(f"file:{path}", shown=shown, options={"pattern_type": "none"}) as container:
            video = choose_video(container, shown)
            packet = next(packets_of(container, video), None)
            if packet is None:
                raise MediaError(f"{shown}: holds no picture")
            return cast("av.Packet[Any]", packet.payload), describe(container, video)
    except av.error.FFmpegError as error:
        raise source_error(error, shown, live=False) from error
