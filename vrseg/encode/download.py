"""Pictures from device memory into pinned memory, and from there through a software encoder."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from vrseg.encode.cpu import PyavEncoder
from vrseg.gpu.memory import Pool, recorded, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    import cupy

    from vrseg.encode.settings import EncodeSettings
    from vrseg.frame import EncodedPacket, Frame
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.memory import Lease
    from vrseg.gpu.surface import Matrix, Surface

FILE_FRAMES_AHEAD = 1
"""While a frame is encoded the next one is copied; more would only hold memory, for copying is the quicker."""

MOST_PICTURES = 32
"""Pinned pictures of one encoder: those ahead, and those that an encoder keeps to look ahead. FFmpeg's encoders copy
what they keep, so two are in use; the rest is never made."""

MATRIX_CODES: dict[Matrix, int] = {"bt601": 6, "bt709": 1, "bt2020": 9}
"""ITU-T H.273, table 4."""


class DownloadEncoder:
    """Stage[Frame, EncodedPacket] for surfaces on a GPU, encoded by FFmpeg's software encoders on the host.

    The picture crosses the bus once and is not copied on the host: the encoder reads the pinned memory. A live encoder
    hands out each frame at once; one for files is a frame late, because the copy of a frame runs while the one before
    is encoded.

    Raises:
        ConfigError, MediaError: as `PyavEncoder`.
        DeviceError: no pinned picture came back in time.
    """

    def __init__(self, settings: EncodeSettings, gpu: Gpu) -> None:
        self._encoder = PyavEncoder(settings)
        self._frames_ahead = 0 if settings.live else FILE_FRAMES_AHEAD
        self._gpu = gpu
        self._stream: cupy.cuda.Stream | None = None
        self._pool: Pool | None = None
        self._downloads: deque[_Download] = deque()

    def open(self) -> None:
        self._encoder.open()
        self._gpu.use()
        self._stream = self._gpu.new_stream()

    def process(self, frame: Frame, /) -> Iterable[EncodedPacket]:
        self._downloads.append(self._begin(frame))
        return self._encoded(frames_ahead=self._frames_ahead)

    def request_key_frame(self) -> None:
        """Make the next frame a key frame; one that is being copied may be that."""
        self._encoder.request_key_frame()

    def flush(self) -> Iterable[EncodedPacket]:
        return [*self._encoded(frames_ahead=0), *self._encoder.flush()]

    def close(self) -> None:
        if self._stream is not None and self._downloads:
            self._stream.synchronize()  # memory that is being written to may not go
        self._downloads.clear()
        self._stream = None
        self._encoder.close()
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _begin(self, frame: Frame) -> _Download:
        """Start a copy behind whatever makes the picture. Nobody waits."""
        import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

        assert self._stream is not None, "open comes first"  # noqa: S101 -- the Stage protocol, for the type checker
        surface: Surface = frame.picture
        lease = self._pool_for(surface.size_bytes).lend(self._stream)
        surface.wait_on(self._stream)
        cupy.cuda.runtime.memcpyAsync(
            lease.address,
            surface.luma_address,
            surface.size_bytes,
            cupy.cuda.runtime.memcpyDeviceToHost,
            self._stream.ptr,
        )
        surface.read_on(self._stream)
        self._gpu.counts.add(to_host_bytes=surface.size_bytes)
        return _Download(replace(frame, picture=picture_of(surface, lease)), recorded(self._stream))

    def _encoded(self, *, frames_ahead: int) -> list[EncodedPacket]:
        packets: list[EncodedPacket] = []
        while len(self._downloads) > frames_ahead:
            download = self._downloads.popleft()
            if not download.done.done:
                wait_for(self._gpu, download.done)
            packets += self._encoder.process(download.frame)
        return packets

    def _pool_for(self, size_bytes: int) -> Pool:
        """Give the pool of pictures of this size; a stream that changes its size needs the former no more."""
        if self._pool is not None and self._pool.block_bytes == size_bytes:
            return self._pool
        if self._pool is not None:
            self._pool.close()
        self._pool = Pool(self._gpu, "pinned", size_bytes, limit=MOST_PICTURES, name="download")
        return self._pool


@dataclass(frozen=True, slots=True)
class _Download:
    """A frame whose picture is on its way to the host."""

    frame: Frame
    """`picture` is an `av.VideoFrame`, not to be read before `done`."""
    done: cupy.cuda.Event


class _PinnedBytes:
    """A lent block as NumPy sees it: arrays made from it keep the lease."""

    def __init__(self, lease: Lease, dtype: str, shape: tuple[int, int]) -> None:
        self._lease = lease
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "typestr": np.dtype(dtype).str,
            "shape": shape,
            "data": (lease.address, False),
        }


def picture_of(surface: Surface, lease: Lease) -> av.VideoFrame:
    """Make a picture on the host of what was, or will be, copied from `surface` into the pinned block of `lease`.

    The block goes back to its pool when nobody holds the picture any more: neither Python, nor a filter, nor an
    encoder. Pixel format `nv12`, or `p016le` of 16 bits; matrix and range are tagged.
    """
    deep = surface.format == "p016"
    rows_and_columns = (surface.height * 3 // 2, surface.width)
    planes = np.asarray(_PinnedBytes(lease, "uint16" if deep else "uint8", rows_and_columns))
    # Not `from_numpy_buffer`: it takes heights for multiples of four.
    picture = av.VideoFrame.from_dlpack(
        (planes[: surface.height], planes[surface.height :]), format="p016le" if deep else "nv12"
    )
    picture.colorspace = MATRIX_CODES[surface.matrix]
    picture.color_range = ColorRange.JPEG if surface.full_range else ColorRange.MPEG
    return picture
