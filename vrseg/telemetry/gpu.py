"""Metrics of a GPU, read at the moment of a scrape from whoever knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric


class Reading(Protocol):
    """What the driver says of the whole GPU; None and missing units are not told."""

    @property
    def utilization(self) -> Mapping[str, float]:
        """By unit, 0 to 1."""

    @property
    def memory_used_bytes(self) -> int | None: ...

    @property
    def encoder_sessions(self) -> int | None: ...

    @property
    def temperature_c(self) -> float | None: ...

    @property
    def power_w(self) -> float | None: ...


class Counts(Protocol):
    """What this process asked of the GPU since it began; the pools' bytes are those held now."""

    @property
    def launches(self) -> int: ...

    @property
    def host_waits(self) -> int: ...

    @property
    def device_allocations(self) -> int: ...

    @property
    def device_bytes(self) -> int: ...

    @property
    def pinned_allocations(self) -> int: ...

    @property
    def pinned_bytes(self) -> int: ...

    @property
    def to_device_bytes(self) -> int: ...

    @property
    def to_host_bytes(self) -> int: ...


class GpuCollector(Collector):
    """Everything of one GPU."""

    def __init__(
        self,
        gpu: str,
        read: Callable[[], Reading],
        count: Callable[[], Counts],
        encoder_fallbacks: Callable[[], Mapping[str, int]],
    ) -> None:
        """Keep what to ask at a scrape.

        Args:
            gpu: value of the label, the number of the GPU.
            read: gives the latest reading; must not block.
            count: gives the totals.
            encoder_fallbacks: gives how often an encoding fell back to software, by reason.
        """
        self._gpu = gpu
        self._read = read
        self._count = count
        self._encoder_fallbacks = encoder_fallbacks

    def collect(self) -> Iterator[Metric]:
        yield from self._driver(self._read())
        yield from self._process(self._count())
        yield _counter(
            "vrseg_encoder_fallbacks",
            "Encodings done in software because NVENC could not.",
            "reason",
            self._encoder_fallbacks(),
        )

    def _driver(self, reading: Reading) -> Iterator[Metric]:
        busy = GaugeMetricFamily(
            "vrseg_gpu_utilization_ratio", "Share of time in which a unit works.", labels=["gpu", "unit"]
        )
        for unit, ratio in reading.utilization.items():
            busy.add_metric([self._gpu, unit], ratio)
        yield busy
        gauges = (
            ("vrseg_gpu_memory_used_bytes", "Memory in use, of all processes.", reading.memory_used_bytes),
            ("vrseg_encoder_sessions", "Open NVENC sessions, of all processes.", reading.encoder_sessions),
            ("vrseg_gpu_temperature_celsius", "Temperature of the chip.", reading.temperature_c),
            ("vrseg_gpu_power_watts", "Power drawn.", reading.power_w),
        )
        for name, help_text, value in gauges:
            gauge = GaugeMetricFamily(name, help_text, labels=["gpu"])
            if value is not None:
                gauge.add_metric([self._gpu], value)
            yield gauge

    def _process(self, counts: Counts) -> Iterator[Metric]:
        yield _counter(
            "vrseg_copy_bytes",
            "Bytes copied over the bus; compressed packets, which the driver copies, are not counted.",
            "direction",
            {"to_device": counts.to_device_bytes, "to_host": counts.to_host_bytes},
        )
        yield CounterMetricFamily("vrseg_gpu_launches", "Kernels of our own launched.", value=counts.launches)
        yield CounterMetricFamily("vrseg_gpu_host_waits", "Times a thread waited for the GPU.", value=counts.host_waits)
        yield _counter(
            "vrseg_gpu_allocations",
            "Blocks taken for pools; constant in steady state.",
            "kind",
            {"device": counts.device_allocations, "pinned": counts.pinned_allocations},
        )
        pools = GaugeMetricFamily("vrseg_gpu_pool_bytes", "Memory held in pools.", labels=["kind"])
        pools.add_metric(["device"], counts.device_bytes)
        pools.add_metric(["pinned"], counts.pinned_bytes)
        yield pools


def _counter(name: str, help_text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    counter = CounterMetricFamily(name, help_text, labels=[label])
    for key, value in values.items():
        counter.add_metric([key], value)
    return counter
