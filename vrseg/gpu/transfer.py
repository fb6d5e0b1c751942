"""Bytes that a stream moves or clears, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import cupy

    from vrseg.gpu.device import Gpu


def copy_to_host(gpu: Gpu, target: int, source: int, size_bytes: int, stream: cupy.cuda.Stream) -> None:
    """Copy from device memory to the host's, when `stream` comes to it. `target` and `source` are addresses.

    Into memory that is not pinned the driver copies while the caller waits.
    """
    import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

    runtime = cupy.cuda.runtime
    runtime.memcpyAsync(target, source, size_bytes, runtime.memcpyDeviceToHost, stream.ptr)
    gpu.counts.add(to_host_bytes=size_bytes)


def copy_to_device(gpu: Gpu, target: int, source: int, size_bytes: int, stream: cupy.cuda.Stream) -> None:
    """Copy from host memory to device memory, when `stream` comes to it. `target` and `source` are addresses.

    What is pinned must stay until then; all other memory is free again on return, for the driver has read it.
    """
    import cupy  # noqa: PLC0415 -- as above

    runtime = cupy.cuda.runtime
    runtime.memcpyAsync(target, source, size_bytes, runtime.memcpyHostToDevice, stream.ptr)
    gpu.counts.add(to_device_bytes=size_bytes)


def copy_on_device(target: int, source: int, size_bytes: int, stream: cupy.cuda.Stream) -> None:
    """Copy within device memory, when `stream` comes to it. `target` and `source` are addresses."""
    import cupy  # noqa: PLC0415 -- as above

    runtime = cupy.cuda.runtime
    runtime.memcpyAsync(target, source, size_bytes, runtime.memcpyDeviceToDevice, stream.ptr)


def clear(address: int, size_bytes: int, stream: cupy.cuda.Stream) -> None:
    """Fill device memory with zeros, when `stream` comes to it."""
    import cupy  # noqa: PLC0415 -- as above

    cupy.cuda.runtime.memsetAsync(address, 0, size_bytes, stream.ptr)
