"""`synthetic:`: the demo's scene as a camera that is always there, with the truth about every picture."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl

import av
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from vrseg.address import redact
from vrseg.demo.scene import Scene
from vrseg.errors import ConfigError
from vrseg.frame import Packet, SourceInfo

if TYPE_CHECKING:
    from vrseg.frame import U8

_SIZE = re.compile(r"(?P<width>\d{1,5})x(?P<height>\d{1,5})(@(?P<rate>\d{1,6}(\.\d{1,3}|/\d{1,5})?))?")
_FORM = "synthetic:1280x720@30?seed=0&figures=4&frames=600&pace=live"
_LONGEST_SIDE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticAddress:
    """What a `synthetic:` address says."""

    width: int = 1280
    height: int = 720
    frame_rate: Fraction = Fraction(30)
    seed: int = 0
    figures: int = 4
    frames: int | None = None
    """Pictures until the end; None never ends."""
    pace: Literal["live", "none"] = "live"
    """`live` keeps to the frame rate; `none` gives pictures as fast as they are taken."""


def parse_synthetic(uri: str) -> SyntheticAddress:
    """Read `synthetic:[WIDTHxHEIGHT[@RATE]][?seed=&figures=&frames=&pace=]`.

    Raises:
        ConfigError: a part is unknown or out of range.
    """
    uri = redact(uri)
    place, _, query = uri.partition(":")[2].partition("?")
    parts: dict[str, str] = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(parts.keys() - {"seed", "figures", "frames", "pace"})
    if unknown:
        raise ConfigError(f"{uri}: {unknown[0]!r} means nothing here; write {_FORM}")
    width, height, rate = _read_size(uri, place.strip("/"))
    pace = parts.get("pace", "live")
    if pace not in {"live", "none"}:
        raise ConfigError(f"{uri}: pace is {pace!r}; write pace=live or pace=none")
    return SyntheticAddress(
        width=width,
        height=height,
        frame_rate=rate,
        seed=_read_count(uri, "seed", parts.get("seed", "0"), range(2**31)),
        figures=_read_count(uri, "figures", parts.get("figures", "4"), range(41)),
        frames=_read_count(uri, "frames", parts["frames"], range(1, 2**31)) if "frames" in parts else None,
        pace="none" if pace == "none" else "live",
    )


def _read_size(uri: str, place: str) -> tuple[int, int, Fraction]:
    if not place:
        return 1280, 720, Fraction(30)
    match = _SIZE.fullmatch(place)
    if match is None:
        raise ConfigError(f"{uri}: {place!r} is not WIDTHxHEIGHT@RATE; write {_FORM}")
    width, height = int(match["width"]), int(match["height"])
    if not all(16 <= side <= _LONGEST_SIDE and side % 2 == 0 for side in (width, height)):
        raise ConfigError(f"{uri}: a picture of {width}x{height}; write even sides from 16 to {_LONGEST_SIDE}")
    try:
        rate = Fraction(match["rate"] or 30)
    except ZeroDivisionError:
        rate = Fraction(0)
    if not 1 <= rate <= 240:
        raise ConfigError(f"{uri}: {match['rate']} pictures per second; write a rate from 1 to 240")
    return width, height, rate


def _read_count(uri: str, key: str, text: str, allowed: range) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) in allowed):
        raise ConfigError(f"{uri}: {key} is {text!r}; write a whole number from {allowed[0]} to {allowed[-1]}")
    return int(text)


class SyntheticSource:
    """Draws pictures and hands them over as packets, on time. See `Source`."""

    def __init__(self, uri: str) -> None:
        """Read the address; nothing is drawn yet.

        Raises:
            ConfigError: the address cannot be read.
        """
        self._address = parse_synthetic(uri)
        self.live = self._address.pace == "live"
        self._scene: Scene | None = None
        self._index = 0
        self._began_s = 0.0

    def open(self) -> SourceInfo:
        address = self._address
        self._scene = Scene(address.seed, address.width, address.height, address.frame_rate, address.figures)
        # Painting the room takes longer than a frame: done here, or the first pictures would be late.
        self._scene.render(0)
        self._index = 0
        self._began_s = time.monotonic()
        return SourceInfo(
            codec="rawvideo",
            width=address.width,
            height=address.height,
            frame_rate=address.frame_rate,
            frame_count=address.frames,
            duration_s=None if address.frames is None else float(address.frames / address.frame_rate),
            time_base=1 / address.frame_rate,
        )

    def read(self) -> list[Packet]:
        """Return the next picture, when its time has come; an empty list after the last.

        A live source that fell behind skips the pictures whose time has passed, as a camera does.
        """
        if self._scene is None:
            return []
        if self.live:
            self._keep_time()
        if self._address.frames is not None and self._index >= self._address.frames:
            return []
        index = self._index
        self._index += 1
        truth = self._scene.render(index)
        picture = to_picture(truth.image_hwc)
        picture.pts = index
        picture.time_base = 1 / self._address.frame_rate
        picture.duration = 1
        return [Packet(payload=picture, arrived_s=time.monotonic(), truth=truth)]

    def close(self) -> None:
        self._scene = None

    def _keep_time(self) -> None:
        """Wait until the next picture is due. Due times count from the start, so nothing adds up."""
        rate = float(self._address.frame_rate)
        ahead_s = self._began_s + self._index / rate - time.monotonic()
        if ahead_s > 0:
            time.sleep(ahead_s)
        else:
            self._index += int(-ahead_s * rate)


def to_picture(image_hwc: U8) -> av.VideoFrame:
    """Turn (h, w, 3) RGB into a yuv420p picture, BT.709, limited range, and say so in its tags."""
    rgb = av.VideoFrame.from_ndarray(image_hwc, format="rgb24")
    picture = rgb.reformat(
        format="yuv420p",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
    )
    picture.colorspace = Colorspace.ITU709
    picture.color_range = ColorRange.MPEG
    picture.color_primaries = ColorPrimaries.BT709
    picture.color_trc = ColorTrc.BT709
    return picture
