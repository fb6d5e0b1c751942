"""One enqueue of a TensorRT engine: a context with its sizes and addresses, and the CUDA graph of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrseg.models.tensorrt_log import failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    import cupy

    from vrseg.infer.tensorrt_ports import Port, Ports
    from vrseg.models.tensorrt_api import ExecutionContext
    from vrseg.models.tensorrt_log import TensorRtLog


class Call:
    """Infers `size` frames, which always lie at the same place of the batch."""

    def __init__(self, context: ExecutionContext, ports: Ports, *, size: int, title: str, log: TensorRtLog) -> None:
        self.size = size
        self._context = context
        self._ports = ports
        self._what = f"{title}: TensorRT failed on {size} frames"
        self._log = log
        self._graph: cupy.cuda.Graph | None = None

    @property
    def captured(self) -> bool:
        """True when it is one launch of a CUDA graph."""
        return self._graph is not None

    def shape(self) -> tuple[tuple[Port, tuple[int, ...]], ...]:
        """Set the size; return the outputs with their shapes. A -1 is left where they depend on the data.

        Raises:
            ModelError: the engine was built for other sizes.
        """
        image = self._ports.input
        self._log.forget()
        if not self._context.set_input_shape(image.name, (self.size, *image.shape[1:])):
            raise failure(self._what, self._log)
        return tuple((port, tuple(self._context.get_tensor_shape(port.name))) for port in self._ports.outputs)

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Read and write at these device addresses, by name, from now on.

        Raises:
            ModelError: one is refused.
        """
        self._graph = None
        self._log.forget()
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise failure(f"{self._what}: address {address:#x} of '{name}' is refused", self._log)

    def enqueue(self, stream: cupy.cuda.Stream) -> None:
        """Put the call on the stream.

        Raises:
            DeviceError: CUDA failed.
            ModelError: TensorRT refused.
        """
        if self._graph is not None:
            self._graph.launch(stream)
            return
        self._log.forget()
        if not self._context.execute_async_v3(stream.ptr):
            raise failure(self._what, self._log)

    def capture(self, stream: cupy.cuda.Stream) -> str | None:
        """Record the call as a CUDA graph; it must have run once since `bind`.

        Returns:
            None when it is replayed from now on; else why it is not.
        """
        import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

        self._log.forget()
        enqueued = False
        try:
            with stream:
                # Relaxed: other threads of the process may allocate meanwhile.
                stream.begin_capture(cupy.cuda.runtime.streamCaptureModeRelaxed)
                try:
                    enqueued = self._context.execute_async_v3(stream.ptr)
                finally:
                    graph = stream.end_capture()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            return (self._log.errors() or [str(error)])[-1]
        if not enqueued:
            return (self._log.errors() or ["TensorRT refused, without a reason"])[-1]
        self._graph = graph
        return None
