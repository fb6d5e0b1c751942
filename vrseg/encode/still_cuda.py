"""Surfaces as JPEG: copied down, then treated as any picture of the host."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vrseg.encode.download import picture_of
from vrseg.encode.still import JpegStill
from vrseg.gpu.memory import Pool, recorded, wait_for
from vrseg.gpu.transfer import copy_to_host

if TYPE_CHECKING:
    from collections.abc import Iterable

    import cupy

    from vrseg.frame import Frame
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.surface import Surface

_PICTURES = 1
"""Pinned; the JPEG is made before the next picture is copied."""


class DownloadedStill:
    """Stage[Frame, bytes] for surfaces on a GPU. The whole surface crosses the bus, once for each JPEG.

    Raises:
        DeviceError: the GPU failed.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._still = JpegStill()
        self._stream: cupy.cuda.Stream | None = None
        self._pool: Pool | None = None

    def open(self) -> None:
        self._gpu.use()
        self._stream = self._gpu.new_stream()

    def process(self, frame: Frame, /) -> Iterable[bytes]:
        assert self._stream is not None, "open comes first"  # noqa: S101 -- the Stage protocol, for the type checker
        surface: Surface = frame.picture
        lease = self._pool_for(surface.size_bytes).lend(self._stream)
        surface.wait_on(self._stream)
        copy_to_host(self._gpu, lease.address, surface.luma_address, surface.size_bytes, self._stream)
        surface.read_on(self._stream)
        wait_for(self._gpu, recorded(self._stream))
        return self._still.process(replace(frame, picture=picture_of(surface, lease)))

    def flush(self) -> Iterable[bytes]:
        return ()

    def close(self) -> None:
        self._stream = None
        self._still.close()
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _pool_for(self, size_bytes: int) -> Pool:
        if self._pool is None or self._pool.block_bytes != size_bytes:
            if self._pool is not None:
                self._pool.close()
            self._pool = Pool(self._gpu, "pinned", size_bytes, limit=_PICTURES, name="stills")
        return self._pool
