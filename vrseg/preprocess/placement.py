"""Where a frame goes inside the model's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.frame import Placement

if TYPE_CHECKING:
    from vrseg.models.spec import InputSpec


def place(frame_width: int, frame_height: int, rotation_deg: int, target: InputSpec) -> Placement:
    """Fit a frame into the model's input, upright.

    Args:
        frame_width: coded size in pixels, before rotation.
        frame_height: as `frame_width`.
        rotation_deg: clockwise turn that shows the frame upright: 0, 90, 180 or 270.
        target: says whether the frame is stretched or keeps its shape.
    """
    left = top = 0
    width, height = target.width, target.height
    if target.fit == "letterbox":
        upright_width, upright_height = frame_width, frame_height
        if rotation_deg in (90, 270):
            upright_width, upright_height = frame_height, frame_width
        ratio = min(target.width / upright_width, target.height / upright_height)
        width = min(target.width, max(1, round(upright_width * ratio)))
        height = min(target.height, max(1, round(upright_height * ratio)))
        if target.anchor == "center":
            left, top = (target.width - width) // 2, (target.height - height) // 2
    return Placement(
        left=left,
        top=top,
        width=width,
        height=height,
        frame_width=frame_width,
        frame_height=frame_height,
        rotation_deg=rotation_deg,
    )
