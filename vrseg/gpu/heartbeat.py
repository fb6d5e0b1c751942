"""Does the GPU still answer? Asked now and then, beside the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.gpu.guard import failing_as_device

if TYPE_CHECKING:
    import cupy

    from vrseg.gpu.device import Gpu


class Heartbeat:
    """One event after another on a stream of its own, all on one thread, which a dead driver may keep for ever."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._stream: cupy.cuda.Stream | None = None
        self._event: cupy.cuda.Event | None = None

    def open(self) -> None:
        """Take what it needs.

        Raises:
            DeviceError: the GPU does not work.
        """
        import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

        with failing_as_device("heartbeat"):
            self._gpu.use()
            self._stream = self._gpu.new_stream()
            self._event = cupy.cuda.Event(block=True, disable_timing=True)  # block: sleep, do not spin

    def beat(self) -> None:
        """Wait until the GPU has passed an event.

        Raises:
            DeviceError: an error that sticks to the process's context, of whatever work.
        """
        assert self._event is not None  # noqa: S101 -- open comes first
        with failing_as_device("heartbeat"):
            self._event.record(self._stream)
            self._event.synchronize()
