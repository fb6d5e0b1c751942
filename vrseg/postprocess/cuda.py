"""The head on a CUDA device: read the answers, let the views be drawn, wait once, hand the frames on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from vrseg.gpu.memory import wait_for
from vrseg.postprocess.detect_cuda import DetectReader
from vrseg.postprocess.segment_cuda import SegmentReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import cupy

    from vrseg.frame import Frame, Inference, Result
    from vrseg.gpu.found import DeviceResult, Paint
    from vrseg.gpu.lane import Lane
    from vrseg.stage import Postprocess


class Reading(Protocol):
    """What a reader put on the stream for one batch."""

    @property
    def found(self) -> Sequence[DeviceResult]:
        """For each frame; ready when the stream comes here."""

    def results(self) -> Sequence[Result | None]:
        """For each frame, on the host, safe to keep. To be called once, after the stream has come here."""


class Reader(Protocol):
    """Reads the answers of one kind of network."""

    def open(self) -> None:
        """Acquire what reading needs. May fail."""

    def enqueue(self, item: Inference, stream: cupy.cuda.Stream) -> Reading:
        """Put the reading of a batch on the stream; never wait."""

    def close(self) -> None:
        """Release everything. Always safe."""


def make_cuda_head(lane: Lane, *, paint: Paint | None, host_results: bool) -> Postprocess:
    """Construct the head for a model's task.

    Args:
        lane: what the stages of the model share.
        paint: draws views of the frames; None where nobody looks.
        host_results: somebody reads `Frame.result`. Detections are small and always there; scores of classes are not.
    """
    if lane.spec.task == "segment":
        return CudaHead(lane, SegmentReader(lane, host_results=host_results), paint)
    return CudaHead(lane, DetectReader(lane), paint)


class CudaHead:
    """Each frame of a batch gets its result, and where somebody looks its drawn picture. A `Postprocess` stage.

    The only stage of a model that waits for the GPU, once for each batch.
    """

    def __init__(self, lane: Lane, reader: Reader, paint: Paint | None) -> None:
        self.device_s = 0.0
        """See `vrseg.stage.DeviceTimed`: reading and drawing."""
        self._lane = lane
        self._reader = reader
        self._paint = paint
        self._stream: cupy.cuda.Stream | None = None

    def open(self) -> None:
        self._stream = self._lane.open()
        self._reader.open()
        if self._paint is not None:
            self._paint.open(self._stream)

    def process(self, item: Inference, /) -> Iterable[Frame]:
        assert self._stream is not None  # noqa: S101 -- `open` comes first
        clock = self._lane.gpu.clock
        begun = clock.mark(self._stream)
        reading = self._reader.enqueue(item, self._stream)
        pictures: Sequence[object | None] = (None,) * len(item.frames)
        if self._paint is not None:
            pictures = self._paint.enqueue(item.frames, reading.found, self._stream)
        done = clock.mark(self._stream)
        # Only now, so that the next inference comes after the drawing, and nobody waits for both.
        for output in item.outputs.values():
            output.lease.release()
        wait_for(self._lane.gpu, done)
        self.device_s = clock.elapsed_s(begun, done)
        return [
            replace(frame, result=result, picture=frame.picture if picture is None else picture)
            for frame, result, picture in zip(item.frames, reading.results(), pictures, strict=True)
        ]

    def flush(self) -> Iterable[Frame]:
        return ()

    def close(self) -> None:
        if self._paint is not None:
            self._paint.close()
        self._reader.close()
