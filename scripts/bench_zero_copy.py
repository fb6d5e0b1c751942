"""What a call costs from host memory to host memory, and what is left of it where tensors stay on the device.

Usage: python scripts/bench_zero_copy.py MODEL.onnx [--description FILE.yaml] [--device cuda] [--batch 8] [--fp16]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import vrseg
from vrseg.config.schema import Model
from vrseg.infer.gate import compare
from vrseg.models.convert import as_fp16
from vrseg.models.load import load_spec
from vrseg.models.trial import trial_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP_CALLS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Milliseconds of one batch, medians; each step ends when the device is done with it."""

    regular_call: float
    """`Engine.run`: host arrays in, host arrays out."""
    device_call: float
    """`Engine.run_device` on the engine's own input buffer."""
    foreign_call: float
    """`Engine.run_device` on somebody else's tensor on the device."""
    copy_in: float
    copy_out: float

    @property
    def whole(self) -> float:
        """The three steps of a regular call, done one by one."""
        return self.copy_in + self.device_call + self.copy_out

    @property
    def saving_percent(self) -> float:
        """What a caller saves whose tensors are on the device, and stay there."""
        return 100 * (1 - self.device_call / self.regular_call)


def measure(engine: vrseg.Engine, host: Any, calls: int) -> Costs:
    """Time each way of calling an open engine with the batch `host`."""
    resident = engine.buffers().input[: len(host)]
    foreign = resident.copy()
    outputs = engine.run_device(resident)

    def settled(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            work()
            if engine.stream is not None:
                engine.stream.synchronize()

        return run

    def cost_ms(work: Callable[[], object]) -> float:
        run = settled(work)
        for _ in range(WARM_UP_CALLS):
            run()
        durations = []
        for _ in range(calls):
            start = time.perf_counter()
            run()
            durations.append(time.perf_counter() - start)
        return median(durations) * 1000

    return Costs(
        regular_call=cost_ms(lambda: engine.run(host)),
        copy_in=cost_ms(lambda: engine.copy_in(host)),
        device_call=cost_ms(lambda: engine.run_device(resident)),
        foreign_call=cost_ms(lambda: engine.run_device(foreign)),
        copy_out=cost_ms(lambda: engine.copy_out(outputs)),
    )


def table(title: str, costs: Costs) -> str:
    """Return the costs as Markdown."""
    rows = [
        ("regular call", costs.regular_call),
        ("device call", costs.device_call),
        ("device call, tensor of another library", costs.foreign_call),
        ("copy in", costs.copy_in),
        ("copy out", costs.copy_out),
        ("whole (copy in, device call, copy out)", costs.whole),
    ]
    lines = [f"{title}", "", "| | ms per batch |", "|---|---:|", *(f"| {name} | {value:.3f} |" for name, value in rows)]
    return "\n".join([*lines, f"| saved by staying on the device | {costs.saving_percent:.1f} % |"])


def main() -> None:
    """Measure one model and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--description", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--fp16", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        beside = str(asked.description.resolve()) if asked.description else None
        spec = load_spec("model", Model.model_validate({"path": str(asked.model), "description": beside}), Path.cwd())
        spec = as_fp16(spec, Path(folder), compare) if asked.fp16 else spec
        described = beside or str(asked.model.with_suffix(".yaml").resolve())
        description = described if Path(described).is_file() else None
        host = np.resize(trial_tensor(spec.input), (asked.batch, *spec.input.shape))
        with vrseg.Engine(spec.path, description=description, device=asked.device, batch=asked.batch) as engine:
            costs = measure(engine, host, asked.calls)
    kind = f"batch {asked.batch}, {spec.input.dtype}, {asked.device}"
    print(table(f"{asked.model.stem}, {kind}: {host.nbytes / 1e6:.1f} MB in", costs))


if __name__ == "__main__":
    main()
