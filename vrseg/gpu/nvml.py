"""What the driver says of a GPU: how busy its engines are, and how full its memory. Read by a thread of its own."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vrseg.gpu.device import Gpu

SAMPLE_PERIOD_S = 1.0
"""The driver averages over 1/6 s to 1 s itself, and some of its answers take 30 ms."""

PATIENCE_S = 2.0
"""A call that takes longer hangs in the driver, and may not hold up the end of the process."""

Value = TypeVar("Value")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One sample, of all processes on the GPU together. What the GPU does not tell is left out, never zero."""

    utilization: Mapping[str, float] = field(default_factory=dict)
    """Share of time in which a unit worked, 0 to 1: `gpu` (some kernel ran), `memory` (its bus), `encoder`, `decoder`,
    `jpeg`, `ofa` (optical flow); several engines of a kind are averaged."""
    memory_used_bytes: int | None = None
    encoder_sessions: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None


class GpuSampler:
    """Reads a GPU once a second, on its own thread; `latest` never waits."""

    def __init__(self, gpu: Gpu, *, period_s: float = SAMPLE_PERIOD_S) -> None:
        self.latest = GpuReading()
        """Empty until the first sample is there, and where NVML does not answer."""
        self._gpu = gpu
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Begin. Without NVML there are no readings, which one warning says."""
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End. Safe to call at any time."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(PATIENCE_S)

    def _run(self) -> None:
        try:
            import pynvml  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen
        except ImportError as error:
            _log.warning("no readings of the GPU: pip install nvidia-ml-py", error=str(error))
            return
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            _log.warning("no readings of the GPU: NVML does not start", error=str(error))
            return
        try:
            handle = handle_of(self._gpu)
            while True:
                self.latest = read(handle)
                if self._stop.wait(self._period_s):
                    return
        except pynvml.NVMLError as error:
            self.latest = GpuReading()  # what was true once would be told for ever
            _log.warning("no more readings of the GPU", gpu=self._gpu.index, error=str(error))
        finally:
            pynvml.nvmlShutdown()


def handle_of(gpu: Gpu) -> Any:
    """Find the device as NVML knows it: CUDA_VISIBLE_DEVICES renumbers CUDA's devices and not NVML's.

    An instance of a divided GPU (MIG) is found as the whole GPU, which then tells no utilization.
    """
    import cupy  # noqa: PLC0415 -- as above
    import pynvml  # noqa: PLC0415 -- as above

    return pynvml.nvmlDeviceGetHandleByPciBusId(cupy.cuda.runtime.deviceGetPCIBusId(gpu.index))


def read(handle: Any) -> GpuReading:
    """Ask for everything once.

    Raises:
        pynvml.NVMLError: the GPU is lost, or the driver fails.
    """
    import pynvml as nvml  # noqa: PLC0415 -- as above

    rates = _if_told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    engines: dict[str, Callable[[Any], list[int]]] = {  # each gives a percentage, and the time it is the mean of
        "encoder": nvml.nvmlDeviceGetEncoderUtilization,
        "decoder": nvml.nvmlDeviceGetDecoderUtilization,
        "jpeg": nvml.nvmlDeviceGetJpgUtilization,
        "ofa": nvml.nvmlDeviceGetOfaUtilization,
    }
    percentages: dict[str, int | None] = {
        "gpu": None if rates is None else rates.gpu,
        "memory": None if rates is None else rates.memory,
        **{unit: _if_told(partial(_percentage, ask, handle)) for unit, ask in engines.items()},
    }
    power_mw = _if_told(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    return GpuReading(
        utilization={unit: percent / 100 for unit, percent in percentages.items() if percent is not None},
        memory_used_bytes=_if_told(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used),
        encoder_sessions=_if_told(lambda: nvml.nvmlDeviceGetEncoderStats(handle)[0]),
        temperature_c=_if_told(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        power_w=None if power_mw is None else power_mw / 1000,
    )


def _percentage(ask: Callable[[Any], list[int]], handle: Any) -> int:
    return ask(handle)[0]


def _if_told(ask: Callable[[], Value]) -> Value | None:
    """Return the answer, or None where this GPU, its driver or our rights do not give one."""
    import pynvml as nvml  # noqa: PLC0415 -- as above

    try:
        return ask()
    except (
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_NoPermission,
        nvml.NVMLError_NotFound,
    ):
        return None
