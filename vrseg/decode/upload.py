"""Packets and pictures to frames in device memory by way of the host: for what NVDEC does not decode."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import av.error

from vrseg.av_errors import describe
from vrseg.decode.cpu import PyavDecoder
from vrseg.decode.layout import SurfaceLayout
from vrseg.errors import MediaError
from vrseg.gpu.memory import Pool, host_view, recorded, wait_for
from vrseg.gpu.surface import Surface, surface_bytes
from vrseg.gpu.surface_pool import SurfacePool

if TYPE_CHECKING:
    from collections.abc import Iterable

    import cupy

    from vrseg.frame import Frame, Packet
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.memory import Lease

# One is being filled while the others are copied. They are used in turn, so nobody ever waits for a copy.
_PINNED_BLOCKS = 3


class UploadDecoder:
    """Decodes with `PyavDecoder` and copies each picture to the device, through pinned memory. Implements `Decode`.

    Pictures become NV12, those of more than 8 bits P016. An odd last row or column is cut off.

    Raises:
        MediaError: as `PyavDecoder`; or FFmpeg cannot bring a picture to NV12.
    """

    def __init__(self, stream: str, *, gpu: Gpu, live: bool, first_index: int = 0) -> None:
        self._stream_name = stream
        self._gpu = gpu
        self._decoder = PyavDecoder(stream, threads=0, live=live, first_index=first_index)
        self._layout = SurfaceLayout()
        self._surfaces = SurfacePool(gpu)
        self._staging: _Staging | None = None
        self._stream: cupy.cuda.Stream | None = None
        self.errors = 0

    @property
    def concealed(self) -> int:
        """Pictures of which FFmpeg had to guess parts."""
        return self._decoder.concealed

    @property
    def skipped_until_key(self) -> int:
        """Packets passed over for want of a key frame."""
        return self._decoder.skipped_until_key

    def open(self) -> None:
        self._gpu.use()
        self._stream = self._gpu.new_stream()
        self._decoder.open()

    def process(self, item: Packet, /) -> Iterable[Frame]:
        frames = [self._uploaded(frame) for frame in self._decoder.process(item)]
        self.errors = self._decoder.errors
        return frames

    def flush(self) -> Iterable[Frame]:
        try:
            frames = list(self._decoder.flush())
        finally:
            self.errors = self._decoder.errors
        for frame in frames:  # one by one: the rest stays in host memory meanwhile
            yield self._uploaded(frame)

    def close(self) -> None:
        self._decoder.close()
        self._layout.close()
        staging, self._staging = self._staging, None
        if staging is not None:
            staging.close()
        self._surfaces.close()

    def _uploaded(self, frame: Frame) -> Frame:
        """Put a frame's picture into device memory. The copy is only queued."""
        import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

        assert self._stream is not None  # noqa: S101 -- `open` comes first
        try:
            picture = self._layout.convert(frame.picture)
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(
                f"{self._stream_name}: FFmpeg cannot turn {frame.picture.format.name} into NV12 ({describe(error)}); "
                "convert the video to yuv420p"
            ) from error
        size = surface_bytes(picture.width, picture.height, picture.format)
        if self._staging is None or self._staging.block_bytes != size:
            if self._staging is not None:
                self._staging.close()
            self._staging = _Staging(self._gpu, size, self._stream_name)
        pinned = self._staging.next()
        picture.write(host_view(pinned, (size,), "uint8"))
        lease = self._surfaces.lend(picture.width, picture.height, picture.format, self._stream)
        kind = cupy.cuda.runtime.memcpyHostToDevice
        cupy.cuda.runtime.memcpyAsync(lease.address, pinned.address, size, kind, self._stream.ptr)
        self._gpu.counts.add(to_device_bytes=size)
        ready = recorded(self._stream)
        self._staging.used_until(ready)
        surface = Surface(
            lease=lease,
            width=picture.width,
            height=picture.height,
            format=picture.format,
            matrix=picture.matrix,
            full_range=picture.full_range,
            ready=ready,
        )
        return replace(frame, picture=surface, width=picture.width, height=picture.height)


class _Staging:
    """Pinned blocks of one size, used in turn."""

    def __init__(self, gpu: Gpu, block_bytes: int, stream: str) -> None:
        self.block_bytes = block_bytes
        self._gpu = gpu
        self._pool = Pool(gpu, "pinned", block_bytes, limit=_PINNED_BLOCKS, name=f"{stream}.upload")
        self._turns: list[tuple[Lease, cupy.cuda.Event]] = []
        self._lease: Lease | None = None

    def next(self) -> Lease:
        """Return a block that nothing reads any more."""
        if len(self._turns) < _PINNED_BLOCKS:
            self._lease = self._pool.lend()
        else:
            self._lease, event = self._turns.pop(0)
            if not event.done:
                wait_for(self._gpu, event)
        return self._lease

    def used_until(self, event: cupy.cuda.Event) -> None:
        """Note when the block given last may be written again."""
        if self._lease is not None:
            self._turns.append((self._lease, event))
            self._lease = None

    def close(self) -> None:
        """Free the blocks when the last copies are done."""
        for lease, event in self._turns:
            event.synchronize()
            lease.release()
        self._turns.clear()
        self._lease = None
        self._pool.close()
