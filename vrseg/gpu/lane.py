"""What the stages of one model share on a GPU: the stream that orders their work, and where they hand over.

Preprocessing, inference and postprocessing of a model put their work on one stream, so no event is needed between
them, and a CUDA graph of the engine always finds its input and output at the same addresses. Two pools of one block
keep batches apart: a batch is preprocessed when the one before has been enqueued for inference, and inferred when the
one before has been enqueued for postprocessing. So the GPU always has the next batch waiting, and only postprocessing
ever waits for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from vrseg.gpu.memory import Pool

if TYPE_CHECKING:
    import cupy

    from vrseg.gpu.device import Gpu
    from vrseg.models.spec import ModelSpec


class Lane:
    """One model's way through the GPU. Given to all its stages; each calls `open` on the thread that it works on."""

    def __init__(self, gpu: Gpu, spec: ModelSpec, *, max_batch: int) -> None:
        self.gpu = gpu
        self.spec = spec
        self.max_batch = max_batch
        self._lock = threading.Lock()
        self._stream: cupy.cuda.Stream | None = None
        self.inputs = Pool(gpu, "device", self.input_bytes, limit=1, name=f"{spec.name}.input", timed=True)
        """Lends the engine's one input buffer, (max_batch, ...)."""

    @property
    def input_bytes(self) -> int:
        """Of a full batch."""
        shape = (self.max_batch, *self.spec.input.shape)
        return int(np.prod(shape)) * np.dtype(self.spec.input.dtype).itemsize

    def open(self) -> cupy.cuda.Stream:
        """Make the device current on this thread; return the lane's stream."""
        self.gpu.use()
        with self._lock:
            if self._stream is None:
                self._stream = self.gpu.new_stream()
            return self._stream
