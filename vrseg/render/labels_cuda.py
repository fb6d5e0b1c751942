"""The launch that draws boxes with labels, on the stream of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.gpu.kernels import Kernels
from vrseg.render.canvas import BLOCK, Kinds, grid_over, quads
from vrseg.render.label import text_px
from vrseg.render.lettering import letter
from vrseg.render.painting import label_geometry, labellings
from vrseg.render.views_cuda import palette_address

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    import cupy

    from vrseg.gpu.device import Gpu
    from vrseg.render.canvas import Canvas, PaintStyle
    from vrseg.render.lettering import Lettering
    from vrseg.render.tables import Tables


class LabelPainter:
    """Draws boxes with labels over copies of the pictures."""

    def __init__(self, gpu: Gpu, tables: Tables) -> None:
        self._gpu = gpu
        self._tables = tables
        self._letterings: dict[tuple[PaintStyle, int], Lettering] = {}
        self._geometries: Kinds[bytes] = Kinds()
        self._kernels: Kernels | None = None

    def open(self) -> None:
        """Compile the kernel."""
        self._kernels = Kernels(self._gpu, "vrseg.render", "label.cu")

    def enqueue(self, canvases: Sequence[Canvas], stream: cupy.cuda.Stream) -> None:
        """Draw up to MAX_FRAMES frames in one launch. At the first of a size all text is drawn and uploaded."""
        assert self._kernels is not None  # noqa: S101 -- `open` comes first
        batch = labellings(canvases, [self._geometry(one, stream) for one in canvases])
        self._kernels.launch("label", stream, grid_over(map(quads, canvases), len(canvases)), BLOCK, (batch,))

    def keep_for(self, styles: Container[PaintStyle]) -> None:
        """Forget the text of all other styles."""
        self._geometries.clear()
        for key in [key for key in self._letterings if key[0] not in styles]:
            del self._letterings[key]

    def _geometry(self, one: Canvas, stream: cupy.cuda.Stream) -> bytes:
        return self._geometries.of(one, lambda: self._new_geometry(one, stream))

    def _new_geometry(self, one: Canvas, stream: cupy.cuda.Stream) -> bytes:
        style, size = one.style, text_px(one.source.width, one.source.height)
        lettering = self._letterings.get((style, size))
        if lettering is None:
            lettering = self._letterings[style, size] = letter([each.name for each in style.classes], size)
        strips, ink = lettering.strips, lettering.ink
        return label_geometry(
            one,
            lettering,
            palette=palette_address(self._tables, one, stream),
            strips=self._tables.address(style, ("strips", size), lambda: strips, stream),
            ink=self._tables.address(style, ("ink", size), lambda: ink, stream),
        )
