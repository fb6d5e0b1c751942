"""Which way up a decoded picture is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av


def clockwise_deg(picture: av.VideoFrame) -> int:
    """Return the clockwise turn that shows a picture upright, to the nearest quarter: 0, 90, 180 or 270.

    It comes from the container's display matrix; FFmpeg hangs that on decoded pictures only.
    """
    # FFmpeg tells the turn that the matrix makes, counter-clockwise.
    return round(-picture.rotation / 90) % 4 * 90
