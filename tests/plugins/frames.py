"""Frames as a decoder hands them over, from pictures made or read on the spot."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av

from vrseg.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from vrseg.frame import U8


def frame_of(picture: av.VideoFrame, *, index: int = 0, rotation_deg: int = 0) -> Frame:
    return Frame(
        stream="door",
        index=index,
        pts=index,
        time_base=Fraction(1, 30),
        picture=picture,
        width=picture.width,
        height=picture.height,
        rotation_deg=rotation_deg,
        decoded_s=0.0,
    )


def rgb_frame(image_hwc: U8, *, index: int = 0, rotation_deg: int = 0) -> Frame:
    return frame_of(av.VideoFrame.from_ndarray(image_hwc, format="rgb24"), index=index, rotation_deg=rotation_deg)


def frames_of_clip(path: Path, indices: Collection[int]) -> list[Frame]:
    """Decode the frames with these numbers."""
    found = []
    with av.open(str(path)) as container:
        for index, picture in enumerate(container.decode(video=0)):
            if index in indices:
                found.append(frame_of(picture, index=index))
            if index >= max(indices):
                break
    return found
