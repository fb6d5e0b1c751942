"""How decoded pictures are to be shown, which hardware decoders do not tell."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av.error
from av.codec.context import Flags

from vrseg.orientation import clockwise_deg

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

    from vrseg.gpu.surface import Matrix

_MATRICES: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
"""By `matrix_coefficients` of ITU-T H.273."""
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
MOST_SD_LINES = 576
"""Pictures that name no matrix use BT.601 up to this height, BT.709 above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """Colour and orientation of a sequence of pictures."""

    matrix: Matrix
    full_range: bool
    rotation_deg: int
    """Clockwise turn that shows the picture upright: 0, 90, 180 or 270."""


def matrix_of(colorspace: int, height: int) -> Matrix:
    """Return the matrix that FFmpeg's number names, or the usual one for pictures of this height."""
    return _MATRICES.get(colorspace, "bt601" if height <= MOST_SD_LINES else "bt709")


def is_full_range(color_range: int, pixel_format: str) -> bool:
    """Tell whether black is 0 and white 255."""
    return color_range == _FULL_RANGE or pixel_format.startswith("yuvj")


class AppearanceReader:
    """Learns the appearance from one key frame, decoded in software on the stream's own codec context.

    The container's display matrix, and what a sequence header says of colour, reach nobody but FFmpeg's decoder: PyAV
    shows them on decoded pictures only. The lanes of one stream share the reader, since they share the codec context.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[int, bytes], tuple[VideoCodecContext, Appearance]] = {}

    def read(self, packet: av.Packet[Any], sequence: bytes) -> Appearance:
        """Return the appearance of the sequence that begins with the key frame in `packet`.

        Args:
            packet: in the container's own form; it stays as it is.
            sequence: what tells this sequence from others of the same codec context.
        """
        context = packet.stream.codec_context
        with self._lock:
            # The context is kept with the answer: its address is the key only as long as it lives.
            _, appearance = self._known.get((id(context), sequence), (context, None))
            if appearance is None:
                appearance = _appearance(context, _decode_one(context, packet))
                self._known = {(id(context), sequence): (context, appearance)}
            return appearance


def _decode_one(context: VideoCodecContext, packet: av.Packet[Any]) -> av.VideoFrame | None:
    try:
        if not context.is_open:
            context.thread_count = 1
            context.flags |= Flags.output_corrupt  # a key frame that opens no sequence is good enough
            context.open()
        context.flush_buffers()  # the key frame before left it at its end
        pictures = context.decode(packet)
        pictures += context.decode(None)
    except (av.error.FFmpegError, ValueError):
        return None
    return pictures[0] if pictures else None


def _appearance(context: VideoCodecContext, picture: av.VideoFrame | None) -> Appearance:
    if picture is None:  # damaged: what the container says must do
        return Appearance(
            matrix=matrix_of(context.colorspace, context.height),
            full_range=is_full_range(context.color_range, context.pix_fmt or ""),
            rotation_deg=0,
        )
    return Appearance(
        matrix=matrix_of(picture.colorspace, picture.height),
        full_range=is_full_range(picture.color_range, picture.format.name),
        rotation_deg=clockwise_deg(picture),
    )
