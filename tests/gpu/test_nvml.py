from __future__ import annotations

import sys
import threading
import time
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from vrseg.gpu.counts import Counts
from vrseg.gpu.device import Gpu, open_gpu
from vrseg.gpu.nvml import GpuReading, GpuSampler, handle_of, read
from vrseg.telemetry.gpu import GpuCollector

if TYPE_CHECKING:
    from collections.abc import Callable

GPU = Gpu(index=0, name="a card", compute_capability=(9, 0), memory_bytes=1 << 30)


class FakeNvml(ModuleType):
    """`pynvml` of one card. Answers are values, or errors to raise; calls that are not here do not exist."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.NVMLError = type("NVMLError", (Exception,), {})
        for name in ("NotSupported", "FunctionNotFound", "NoPermission", "NotFound", "GpuIsLost", "LibraryNotFound"):
            setattr(self, f"NVMLError_{name}", type(f"NVMLError_{name}", (self.NVMLError,), {}))
        self.answers: dict[str, Any] = {
            "UtilizationRates": SimpleNamespace(gpu=73, memory=12),
            "EncoderUtilization": [0, 167000],
            "DecoderUtilization": [41, 167000],
            "JpgUtilization": [0, 167000],
            "OfaUtilization": [5, 167000],
            "MemoryInfo": SimpleNamespace(total=80, used=21, free=59),
            "EncoderStats": (3, 30, 900),
            "PowerUsage": 312_500,
            "Temperature": 54,
        }
        self.begun = 0
        self.bus_ids: list[str] = []
        self.starts = True

    def nvmlInit(self) -> None:  # noqa: N802 -- its name
        if not self.starts:
            raise self.error("LibraryNotFound")
        self.begun += 1

    def nvmlShutdown(self) -> None:  # noqa: N802 -- its name
        self.begun -= 1

    def nvmlDeviceGetHandleByPciBusId(self, pciBusId: str) -> str:  # noqa: N802, N803 -- its names
        self.bus_ids.append(pciBusId)
        return "handle"

    def error(self, name: str) -> Exception:
        made: Exception = getattr(self, f"NVMLError_{name}")(name)
        return made

    def __getattr__(self, name: str) -> Callable[..., Any]:
        asked = name.removeprefix("nvmlDeviceGet")
        if asked not in self.__dict__.get("answers", {}):
            raise AttributeError(name)

        def ask(handle: str, *sensor: int) -> Any:
            assert handle == "handle"
            assert sensor == ((self.NVML_TEMPERATURE_GPU,) if asked == "Temperature" else ())
            answer = self.answers[asked]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return ask


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    runtime = SimpleNamespace(deviceGetPCIBusId=lambda index: f"0000:{0x18 + index:02X}:00.0")
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)))
    return fake


@pytest.mark.usefixtures("nvml")
def test_all_that_is_told_is_read_in_base_units() -> None:
    assert read("handle") == GpuReading(
        utilization={"gpu": 0.73, "memory": 0.12, "encoder": 0.0, "decoder": 0.41, "jpeg": 0.0, "ofa": 0.05},
        memory_used_bytes=21,
        encoder_sessions=3,
        temperature_c=54,
        power_w=312.5,
    )


@pytest.mark.parametrize("refusal", ["NotSupported", "FunctionNotFound", "NoPermission", "NotFound"])
def test_what_the_gpu_does_not_tell_is_left_out_and_is_not_zero(nvml: FakeNvml, refusal: str) -> None:
    for name in ("UtilizationRates", "EncoderUtilization", "OfaUtilization", "EncoderStats", "PowerUsage"):
        nvml.answers[name] = nvml.error(refusal)
    reading = read("handle")
    assert set(reading.utilization) == {"decoder", "jpeg"}
    assert (reading.encoder_sessions, reading.power_w, reading.memory_used_bytes) == (None, None, 21)


def test_the_device_is_found_by_its_place_on_the_bus(nvml: FakeNvml) -> None:
    handle_of(Gpu(index=1, name="a card", compute_capability=(9, 0), memory_bytes=1))
    assert nvml.bus_ids == ["0000:19:00.0"]


def sampled(sampler: GpuSampler, told: Callable[[GpuReading], bool]) -> GpuReading:
    deadline_s = time.monotonic() + 10
    while not told(sampler.latest) and time.monotonic() < deadline_s:
        time.sleep(0.005)
    return sampler.latest


def test_samples_are_taken_again_and_again_by_a_thread_that_ends(nvml: FakeNvml) -> None:
    sampler = GpuSampler(GPU, period_s=0.01)
    assert sampler.latest == GpuReading()
    sampler.open()
    assert sampled(sampler, lambda reading: reading.memory_used_bytes == 21).memory_used_bytes == 21
    nvml.answers["MemoryInfo"] = SimpleNamespace(total=80, used=33, free=47)
    assert sampled(sampler, lambda reading: reading.memory_used_bytes == 33).memory_used_bytes == 33
    sampler.close()
    sampler.close()
    assert nvml.begun == 0
    assert "nvml" not in {thread.name for thread in threading.enumerate()}


def test_a_lost_gpu_is_no_longer_reported(nvml: FakeNvml, capsys: pytest.CaptureFixture[str]) -> None:
    sampler = GpuSampler(GPU, period_s=0.01)
    sampler.open()
    sampled(sampler, lambda reading: reading != GpuReading())
    nvml.answers["MemoryInfo"] = nvml.error("GpuIsLost")
    assert sampled(sampler, lambda reading: reading == GpuReading()) == GpuReading()
    sampler.close()
    assert nvml.begun == 0
    assert capsys.readouterr().out.count("no more readings of the GPU") == 1


def test_without_nvml_there_are_no_readings_and_one_warning(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nvml.starts = False
    for library in (nvml, None):
        monkeypatch.setitem(sys.modules, "pynvml", library)
        sampler = GpuSampler(GPU)
        sampler.open()
        sampler.close()
        assert sampler.latest == GpuReading()
    assert capsys.readouterr().out.count("no readings of the GPU") == 2


def scraped(reading: GpuReading, counts: Counts) -> set[str]:
    registry = CollectorRegistry()
    registry.register(GpuCollector("0", lambda: reading, counts.snapshot, lambda: {"limit": 2}))
    lines = generate_latest(registry).decode().splitlines()
    return {line for line in lines if not line.startswith("#")}


def test_a_scrape_tells_what_is_known_under_the_names_of_the_contract() -> None:
    counts = Counts()
    counts.add(launches=12, host_waits=2, pinned_allocations=3, pinned_bytes=4096, to_host_bytes=77)
    reading = GpuReading(utilization={"gpu": 0.5, "decoder": 1.0}, memory_used_bytes=21, encoder_sessions=3)
    assert scraped(reading, counts) == {
        'vrseg_gpu_utilization_ratio{gpu="0",unit="gpu"} 0.5',
        'vrseg_gpu_utilization_ratio{gpu="0",unit="decoder"} 1.0',
        'vrseg_gpu_memory_used_bytes{gpu="0"} 21.0',
        'vrseg_encoder_sessions{gpu="0"} 3.0',
        'vrseg_encoder_fallbacks_total{reason="limit"} 2.0',
        'vrseg_copy_bytes_total{direction="to_device"} 0.0',
        'vrseg_copy_bytes_total{direction="to_host"} 77.0',
        "vrseg_gpu_launches_total 12.0",
        "vrseg_gpu_host_waits_total 2.0",
        'vrseg_gpu_allocations_total{kind="device"} 0.0',
        'vrseg_gpu_allocations_total{kind="pinned"} 3.0',
        'vrseg_gpu_pool_bytes{kind="device"} 0.0',
        'vrseg_gpu_pool_bytes{kind="pinned"} 4096.0',
    }


def test_a_scrape_without_readings_has_no_gauges_of_the_driver() -> None:
    assert not [line for line in scraped(GpuReading(), Counts()) if "utilization" in line or "memory_used" in line]


@pytest.mark.gpu
def test_a_real_gpu_tells_of_its_memory_and_of_work() -> None:
    import cupy

    gpu = open_gpu()
    gpu.use()
    held = cupy.cuda.Memory(256 << 20)
    sampler = GpuSampler(gpu, period_s=0.1)
    sampler.open()
    reading = sampled(sampler, lambda reading: reading.memory_used_bytes is not None)
    sampler.close()
    assert held.size == 256 << 20
    assert reading.memory_used_bytes is not None
    assert 256 << 20 <= reading.memory_used_bytes <= gpu.memory_bytes
    assert {"gpu", "memory", "decoder"} <= set(reading.utilization)
    assert all(0 <= ratio <= 1 for ratio in reading.utilization.values())
