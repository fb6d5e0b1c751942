"""A network for one batch size on the GPU: bound to fixed addresses, and replayed as one CUDA graph where that works.

ONNX Runtime can replay graphs by itself, but captures in a mode in which an allocation of any other thread of the
process fails, binds the graph to the thread that captured it, and before 1.27 waited after each replay
(microsoft/onnxruntime #28686). So the run, which only enqueues, is captured from outside, in relaxed mode. Each size
has a session of its own: a convolution keeps what cuDNN built for one shape, and drops it for the next, which a graph
that holds it would not survive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from vrseg.errors import ModelError
from vrseg.gpu.memory import recorded
from vrseg.infer.cuda_session import run_options

if TYPE_CHECKING:
    import cupy
    import numpy.typing as npt

    from vrseg.infer.output_block import OutputBlock
    from vrseg.models.spec import ModelSpec

    Array = npt.NDArray[Any]

CAPTURABLE_SINCE = (1, 31)
"""Earlier versions of ONNX Runtime hand back pinned memory that a graph still copies from (#32121)."""
# One run allocates, the next learns the pattern of memory, the third only uses what is there.
WARM_UP_RUNS = 3
_TIMED_RUNS = 10
# A replay runs the very kernels of the plain run; only sums of atomic additions may differ in the last digits.
_TOLERANCE = 1e-2
_NUMPY_NAMES = {"tensor(float)": "float32", "tensor(double)": "float64"}


class Program:
    """A session for `size` frames at a time. It belongs to the thread that made it."""

    def __init__(self, session: Any, spec: ModelSpec, device_index: int, stream: cupy.cuda.Stream, size: int) -> None:
        self.size = size
        self._session = session
        self._spec = spec
        self._device_index = device_index
        self._stream = stream
        self._options = run_options()
        self._binding = session.io_binding()
        self._graph: cupy.cuda.Graph | None = None

    @property
    def captured(self) -> bool:
        """True when a run is one launch of a CUDA graph."""
        return self._graph is not None

    def bind_input(self, address: int) -> None:
        """Read the frames, (size, ...), from this address from now on."""
        target = self._spec.input
        shape = (self.size, *target.shape)
        self._binding.bind_input(target.name, "cuda", self._device_index, np.dtype(target.dtype), shape, address)

    def discover_outputs(self) -> tuple[tuple[str, tuple[int, ...], str], ...]:
        """Run once into memory of the session's own; return name, shape of one frame and dtype of each output.

        Raises:
            ModelError: an output's first dimension is not the frame.
        """
        for name in self._spec.outputs:
            self._binding.bind_output(name, "cuda", self._device_index)
        self._session.run_with_iobinding(self._binding, self._options)
        values = dict(zip(self._spec.outputs, self._binding.get_outputs(), strict=True))
        self._binding.clear_binding_outputs()
        for name, value in values.items():
            if not value.shape() or value.shape()[0] != self.size:
                raise ModelError(
                    f"{self._spec.path}: output '{name}' is {value.shape()} for {self.size} frames; its first "
                    "dimension must be the frame"
                )
        return tuple((name, tuple(value.shape()[1:]), numpy_name(value.data_type())) for name, value in values.items())

    def bind_outputs(self, block: OutputBlock, address: int) -> None:
        """Write the outputs of all frames to their places behind this address from now on."""
        for place in block.places:
            shape = (self.size, *place.frame_shape)
            self._binding.bind_output(
                place.name,
                "cuda",
                self._device_index,
                np.dtype(place.dtype),
                shape,
                address + place.offset_bytes,
            )

    def enqueue(self) -> None:
        """Put one run on the stream; nobody waits."""
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._session.run_with_iobinding(self._binding, self._options)

    def warm_up(self) -> None:
        """Run until nothing is allocated any more; waits for the GPU."""
        for _ in range(WARM_UP_RUNS):
            self.enqueue()
        self._stream.synchronize()

    def capture(self) -> str | None:
        """Record one run as a CUDA graph; to be called warm.

        Returns:
            None when later runs replay it; else why they do not.
        """
        version = tuple(int(part) for part in ort.__version__.split(".")[:2])
        if version < CAPTURABLE_SINCE:
            return f"ONNX Runtime {ort.__version__} cannot be captured safely; 1.31 can"
        failed: Exception | None = None
        with self._stream:
            self._stream.begin_capture()
            try:
                self._session.run_with_iobinding(self._binding, self._options)
            except Exception as error:  # noqa: BLE001 -- ONNX Runtime's errors have no common class; plain runs still work
                failed = error
            try:
                graph = self._stream.end_capture()
            except Exception as error:  # noqa: BLE001 -- a spoilt capture; the first error says by what
                failed = failed or error
        if failed is not None:
            return (str(failed).strip() or type(failed).__name__).splitlines()[0]
        self._graph = graph
        return None

    def forget_graph(self) -> None:
        """Run plainly from now on."""
        self._graph = None

    def duration_ms(self) -> float:
        """GPU time of one run, the mean of ten; waits for the GPU."""
        import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

        start = recorded(self._stream, timed=True)
        for _ in range(_TIMED_RUNS):
            self.enqueue()
        end = recorded(self._stream, timed=True)
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(start, end)) / _TIMED_RUNS


def numpy_name(tensor_type: str) -> str:
    """Translate ONNX Runtime's `tensor(float16)` into NumPy's `float16`."""
    return _NUMPY_NAMES.get(tensor_type, tensor_type.removeprefix("tensor(").removesuffix(")"))


def agree(expected: list[Array], found: list[Array]) -> bool:
    """Tell whether two runs of the same kernels gave the same numbers."""
    return all(
        np.allclose(one.astype(np.float64), other.astype(np.float64), rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
        for one, other in zip(expected, found, strict=True)
    )
