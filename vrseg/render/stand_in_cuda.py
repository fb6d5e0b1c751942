"""Pictures that stand in for a source's, for encoders that take surfaces: drawn on the host, once a second at most."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vrseg.decode.layout import SurfaceLayout
from vrseg.encode.download import picture_of
from vrseg.gpu.memory import Pool, recorded, wait_for
from vrseg.gpu.surface import Surface, surface_bytes
from vrseg.gpu.surface_pool import SurfacePool
from vrseg.gpu.transfer import copy_to_device, copy_to_host
from vrseg.render.picture import drawable_copy
from vrseg.render.stand_in import StandInCard, shown_as

if TYPE_CHECKING:
    from collections.abc import Iterable

    import av
    import cupy

    from vrseg.frame import Frame
    from vrseg.gpu.device import Gpu
    from vrseg.render.stand_in import StandInKind
    from vrseg.stage import Absence


class DeviceStandInCard:
    """Stage[Absence, Frame] whose pictures are surfaces. The source's last crosses the bus once, each card once.

    Raises:
        DeviceError: the GPU failed.
    """

    def __init__(self, gpu: Gpu, kind: StandInKind) -> None:
        self._gpu = gpu
        self._card = StandInCard(kind)
        self._layout = SurfaceLayout()
        self._surfaces = SurfacePool(gpu)
        self._stream: cupy.cuda.Stream | None = None
        self._source: Surface | None = None
        self._last: av.VideoFrame | None = None
        self._drawn: av.VideoFrame | None = None
        self._surface: Surface | None = None

    def open(self) -> None:
        self._gpu.use()
        self._stream = self._gpu.new_stream()

    def process(self, absence: Absence, /) -> Iterable[Frame]:
        assert self._stream is not None, "open comes first"  # noqa: S101 -- the Stage protocol, for the type checker
        if absence.last.picture is not self._source:
            self._source = absence.last.picture
            self._last = self._downloaded(absence.last.picture, self._stream)
        (frame,) = self._card.process(replace(absence, last=replace(absence.last, picture=self._last)))
        if self._surface is None or frame.picture is not self._drawn:
            self._drawn, self._surface = frame.picture, self._uploaded(frame.picture, self._stream)
        return (shown_as(absence, self._surface),)

    def flush(self) -> Iterable[Frame]:
        return ()

    def close(self) -> None:
        self._card.close()
        self._layout.close()
        self._source = self._last = self._drawn = self._surface = None
        self._surfaces.close()
        self._stream = None

    def _downloaded(self, surface: Surface, stream: cupy.cuda.Stream) -> av.VideoFrame:
        pool = Pool(self._gpu, "pinned", surface.size_bytes, limit=1, name="stand-in")
        lease = pool.lend(stream)
        surface.wait_on(stream)
        copy_to_host(self._gpu, lease.address, surface.luma_address, surface.size_bytes, stream)
        surface.read_on(stream)
        wait_for(self._gpu, recorded(stream))
        try:
            return drawable_copy(picture_of(surface, lease))
        finally:
            pool.close()

    def _uploaded(self, picture: av.VideoFrame, stream: cupy.cuda.Stream) -> Surface:
        laid_out = self._layout.convert(picture)
        size = surface_bytes(laid_out.width, laid_out.height, laid_out.format)
        samples = np.empty(size, np.uint8)
        laid_out.write(samples)
        lease = self._surfaces.lend(laid_out.width, laid_out.height, laid_out.format, stream)
        copy_to_device(self._gpu, lease.address, samples.ctypes.data, size, stream)
        return Surface(
            lease=lease,
            width=laid_out.width,
            height=laid_out.height,
            format=laid_out.format,
            matrix=laid_out.matrix,
            full_range=laid_out.full_range,
            ready=recorded(stream),
        )
