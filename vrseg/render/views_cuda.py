"""Launches that paint masks, mattes, screens and blurs, on the stream of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.gpu.kernels import Kernels
from vrseg.gpu.late_pool import LatePool
from vrseg.gpu.memory import Pool
from vrseg.gpu.transfer import clear
from vrseg.render.canvas import BLOCK, Kinds, grid_over, quads
from vrseg.render.painting import MAX_CLASSES, MAX_FRAMES, gaussian, paintings, sketch_of
from vrseg.render.palette import palette

if TYPE_CHECKING:
    from collections.abc import Sequence

    import cupy

    from vrseg.gpu.device import Gpu
    from vrseg.gpu.memory import Lease
    from vrseg.render.canvas import Canvas
    from vrseg.render.painting import Sketch
    from vrseg.render.tables import Tables

_RANK_BLOCK = (128, 1, 1)
_RANK_SIDE_BY_SIDE = 4
"""Places that a thread of `rank` takes."""
_PILE = 2
"""Quads below each other that a thread of `paint` takes."""


class ViewPainter:
    """Paints every view but boxes with labels; all views of a batch together."""

    def __init__(self, gpu: Gpu, tables: Tables) -> None:
        self._gpu = gpu
        self._tables = tables
        self._scratch = LatePool(gpu, "device", limit=1, name="paint.scratch")
        self._sketches: Kinds[Sketch] = Kinds()
        self._kernels: dict[str, Kernels] = {}
        self._stamps: tuple[Pool, Lease] | None = None
        self._stamp = 0

    def open(self, stream: cupy.cuda.Stream) -> None:
        """Compile the kernels; clear the table of classes that lead somewhere, once: each launch has its own stamp."""
        self._kernels = {
            name: Kernels(self._gpu, "vrseg.render", f"{name}.cu") for name in ("rank", "frosted", "paint")
        }
        pool = Pool(self._gpu, "device", MAX_FRAMES * MAX_CLASSES * 4, limit=1, name="paint.stamps")
        self._stamps = pool, pool.lend(stream)
        clear(self._stamps[1].address, pool.block_bytes, stream)

    def enqueue(self, canvases: Sequence[Canvas], stream: cupy.cuda.Stream) -> None:
        """Paint up to MAX_FRAMES frames: one launch; several classes take one more before it, blur two more."""
        assert self._stamps is not None  # noqa: S101 -- `open` comes first
        sketches = [self._sketch(one, stream) for one in canvases]
        scratch = self._scratch.lend(max(1, sum(sketch.scratch.end for sketch in sketches)), stream)
        self._stamp += 1
        present = self._stamps[1].address
        batch = paintings(canvases, sketches, scratch.address, present=present, stamp=self._stamp)
        places = max(sketch.places for sketch in sketches)
        if places:
            grid = (-(-places // (_RANK_BLOCK[0] * _RANK_SIDE_BY_SIDE)), 1, len(canvases))
            self._kernels["rank"].launch("rank", stream, grid, _RANK_BLOCK, (batch,))
        small = [sketch.small for sketch in sketches]
        if any(map(any, small)):
            grid = grid_over(small, len(canvases))
            self._kernels["frosted"].launch("shrink", stream, grid, BLOCK, (batch,))
            self._kernels["frosted"].launch("blur", stream, grid, BLOCK, (batch, gaussian()))
        piles = [(columns, -(-rows // _PILE)) for columns, rows in map(quads, canvases)]
        grid = grid_over(piles, len(canvases))
        self._kernels["paint"].launch("paint", stream, grid, BLOCK, (batch,))
        scratch.used_on(stream)
        scratch.release()

    def forget(self) -> None:
        """Forget what was worked out for styles, some of which are no more."""
        self._sketches.clear()

    def close(self) -> None:
        """Release everything. Always safe."""
        self._scratch.close()
        if self._stamps is not None:
            pool, lease = self._stamps
            lease.release()
            pool.close()
        self._stamps = None

    def _sketch(self, one: Canvas, stream: cupy.cuda.Stream) -> Sketch:
        return self._sketches.of(one, lambda: sketch_of(one, palette_address(self._tables, one, stream)))


def palette_address(tables: Tables, canvas: Canvas, stream: cupy.cuda.Stream) -> int:
    """Return where the device has the colours of a frame's classes."""
    classes, class_ids = canvas.style.classes, canvas.class_ids
    matrix, full_range = canvas.source.matrix, canvas.source.full_range
    return tables.address(
        canvas.style,
        (class_ids, matrix, full_range),
        lambda: palette(classes, class_ids, matrix, full_range=full_range),
        stream,
    )
