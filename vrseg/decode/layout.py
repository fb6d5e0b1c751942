"""Pictures of any pixel format brought to the layout of a surface, in host memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from av.filter import Graph

from vrseg.decode.appearance import is_full_range, matrix_of
from vrseg.encode.canvas import even

if TYPE_CHECKING:
    import av

    from vrseg.frame import U8
    from vrseg.gpu.surface import Matrix, SurfaceFormat

    _Kind: TypeAlias = tuple[int, int, str, int, int]

_FFMPEG_MATRICES: dict[Matrix, str] = {"bt601": "bt601", "bt709": "bt709", "bt2020": "bt2020"}
"""Names that FFmpeg's `scale` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPicture:
    """A picture whose planes can be copied to a surface as they are."""

    planes: tuple[U8, ...] = field(repr=False)
    """Luma (height, bytes per row), and interleaved chroma below it (height / 2, bytes per row)."""
    width: int
    height: int
    """Even."""
    format: SurfaceFormat
    matrix: Matrix
    full_range: bool

    def write(self, target: U8) -> None:
        """Copy all rows, one after the other, to `target`, (bytes,)."""
        start = 0
        for plane in self.planes:
            target[start : start + plane.size].reshape(plane.shape)[...] = plane
            start += plane.size


class SurfaceLayout:
    """Converts pictures with FFmpeg's scaler, which does nothing where nothing is to do.

    YUV keeps its matrix and range. RGB and grey become the usual matrix for their height, limited range.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._kind: _Kind | None = None

    def convert(self, picture: av.VideoFrame) -> HostPicture:
        """Return the picture as NV12; as P016 when it has more than 8 bits per sample.

        Raises:
            av.error.FFmpegError, ValueError: FFmpeg does not convert this pixel format.
        """
        name = picture.format.name
        width, height = even(picture.width), even(picture.height)
        matrix = matrix_of(picture.colorspace, picture.height)
        full_range = _is_yuv(picture) and is_full_range(picture.color_range, name)
        bits = max(component.bits for component in picture.format.components)
        target = _target(bits)
        kind = (picture.width, picture.height, name, picture.colorspace, picture.color_range)
        if self._graph is None or kind != self._kind:
            # The graph is kept only when it could be built.
            self._graph, self._kind = _build(picture, target, matrix, full_range=full_range), kind
        self._graph.vpush(picture)
        converted = self._graph.vpull()
        sample_bytes = 1 if target == "nv12" else 2
        return HostPicture(
            planes=tuple(_rows(plane, width * sample_bytes) for plane in converted.planes),
            width=width,
            height=height,
            format="nv12" if target == "nv12" else "p016",
            matrix=matrix,
            full_range=full_range,
        )

    def close(self) -> None:
        """Free the scaler. Safe to call twice."""
        self._graph = self._kind = None


def _build(picture: av.VideoFrame, target: str, matrix: Matrix, *, full_range: bool) -> Graph:
    width, height = picture.width, picture.height
    graph = Graph()
    source = (
        f"video_size={width}x{height}:pix_fmt={picture.format.name}:time_base=1/1000000"
        f":colorspace={picture.colorspace}:range={picture.color_range}"
    )
    output = f"out_color_matrix={_FFMPEG_MATRICES[matrix]}:out_range={'full' if full_range else 'limited'}"
    given = f"in_color_matrix={_FFMPEG_MATRICES[matrix]}:in_range={'full' if full_range else 'limited'}:"
    steps = [
        ("buffer", source),
        ("crop", f"w={even(width)}:h={even(height)}:x=0:y=0"),
        # Fast bilinear would shift chroma; only chroma of other layouts than 4:2:0 is resampled at all.
        ("scale", f"{given if _is_yuv(picture) else ''}{output}:flags=bilinear+accurate_rnd"),
        ("format", target),
        ("buffersink", None),
    ]
    graph.link_nodes(*(graph.add(name, arguments) for name, arguments in steps)).configure()
    return graph


def _target(bits: int) -> str:
    """Return FFmpeg's format with the value in the high bits of each sample, as NVDEC writes it."""
    if bits <= 8:
        return "nv12"
    return "p010le" if bits <= 10 else "p012le" if bits <= 12 else "p016le"


def _is_yuv(picture: av.VideoFrame) -> bool:
    return not picture.format.is_rgb and len(picture.format.components) >= 3


def _rows(plane: av.video.plane.VideoPlane, row_bytes: int) -> U8:
    """View a plane as (rows, bytes per row), without what FFmpeg pads its rows with."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, :row_bytes]
