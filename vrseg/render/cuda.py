"""Views on a CUDA device: what was found of a batch, drawn on new surfaces in a few launches, and nobody waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.errors import ConfigError
from vrseg.gpu.memory import recorded
from vrseg.gpu.surface_pool import SurfacePool
from vrseg.render.canvas import Canvas, PaintStyle
from vrseg.render.labels_cuda import LabelPainter
from vrseg.render.painting import MAX_CLASSES, MAX_FRAMES, VIEWS
from vrseg.render.tables import Tables
from vrseg.render.views_cuda import ViewPainter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import cupy

    from vrseg.frame import Frame
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.found import DeviceResult
    from vrseg.gpu.surface import Surface

__all__ = ["Paint", "PaintStyle"]


class Paint:
    """Draws views; see `vrseg.gpu.found.Paint`. New pictures are nv12, also those of p016: encoders want 8 bits."""

    def __init__(self, gpu: Gpu, styles: Mapping[str, PaintStyle]) -> None:
        """Take the styles by name of the stream. Other streams are not drawn; styles may change between batches."""
        self._gpu = gpu
        self._styles = styles
        self._pools: dict[str, SurfacePool] = {}
        self._adopted: frozenset[PaintStyle] = frozenset()
        self._tables = Tables(gpu)
        self._views = ViewPainter(gpu, self._tables)
        self._labels = LabelPainter(gpu, self._tables)

    def open(self, stream: cupy.cuda.Stream) -> None:
        """Compile the kernels.

        Raises:
            ConfigError: a view that is not in this version, or more classes than can be told apart; `enqueue` too.
            DeviceError: a kernel does not compile.
        """
        self._gpu.use()
        self._views.open(stream)
        self._labels.open()
        self._adopt(dict(self._styles), stream)

    def enqueue(
        self, frames: Sequence[Frame], found: Sequence[DeviceResult | None], stream: cupy.cuda.Stream
    ) -> tuple[Surface | None, ...]:
        """Put the drawing of a batch on the stream; never wait.

        Boxes with labels take one launch, all other views together one to four: see `ViewPainter`. So it is for each
        16 frames.

        Args:
            frames: with surfaces as pictures.
            found: for each frame what to draw; None: nothing.
            stream: that of `open`.

        Returns:
            For each frame its new picture; None for those that keep their own.
        """
        styles = dict(self._styles)
        self._adopt(styles, stream)
        drawn = {
            index: self._canvas(frame, result, styles[frame.stream], stream)
            for index, (frame, result) in enumerate(zip(frames, found, strict=True))
            if result is not None and frame.stream in styles and styles[frame.stream].view != "none"
        }
        try:
            for labelled in _parts([one for one in drawn.values() if one.labelled]):
                self._labels.enqueue(labelled, stream)
            for others in _parts([one for one in drawn.values() if not one.labelled]):
                self._views.enqueue(others, stream)
        finally:  # also when memory runs out half way: who has this memory next comes after what was enqueued
            ready = recorded(stream)
            for lease in {id(lease): lease for one in drawn.values() for lease in one.leases()}.values():
                lease.used_until(ready)
        return tuple(drawn[index].finished(ready) if index in drawn else None for index in range(len(frames)))

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        self._tables.close()
        self._views.close()

    def _canvas(self, frame: Frame, found: DeviceResult, style: PaintStyle, stream: cupy.cuda.Stream) -> Canvas:
        source: Surface = frame.picture
        source.wait_on(stream)
        if frame.stream not in self._pools:
            self._pools[frame.stream] = SurfacePool(self._gpu)
        target = self._pools[frame.stream].lend(source.width, source.height, "nv12", stream)
        return Canvas(source=source, rotation_deg=frame.rotation_deg, found=found, style=style, target=target)

    def _adopt(self, styles: Mapping[str, PaintStyle], stream: cupy.cuda.Stream) -> None:
        """Check styles that are new, and free what belongs to those that are no more."""
        present = frozenset(styles.values())
        if present == self._adopted:
            return
        for name, style in styles.items():
            _check(name, style)
        for name in [name for name in self._pools if name not in styles]:
            self._pools.pop(name).close()
        self._tables.keep_for(present, stream)
        self._views.forget()
        self._labels.keep_for(present)
        self._adopted = present


def _check(stream: str, style: PaintStyle) -> None:
    if style.view not in (*VIEWS, "none"):
        shown = ", ".join((*VIEWS, "none"))
        raise ConfigError(f"streams.{stream}.view: {style.view} is not in this version; choose one of {shown}")
    # One number stands for no class at all.
    if len(style.classes) >= MAX_CLASSES:
        raise ConfigError(
            f"streams.{stream}: a model of {len(style.classes)} classes cannot be drawn; "
            f"take one of fewer than {MAX_CLASSES}, or set view: none"
        )


def _parts(canvases: Sequence[Canvas]) -> list[Sequence[Canvas]]:
    return [canvases[start : start + MAX_FRAMES] for start in range(0, len(canvases), MAX_FRAMES)]
