"""What limits the pipeline, with the evidence. One function serves the metric, the status page and every report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from vrseg.telemetry.readings import Readings, StageReading

Kind: TypeAlias = Literal["decode", "preprocess", "compute", "encode", "sink", "source", "cores", "unknown"]

_KIND: dict[str, Kind] = {
    "source": "source",
    "decode": "decode",
    "preprocess": "preprocess",
    "infer": "compute",
    "postprocess": "compute",
    "render": "compute",
    "encode": "encode",
    "sink": "sink",
}
_SPOKEN = {"infer": "inference", "preprocess": "preprocessing", "postprocess": "postprocessing"}

# A queue counts as full (or empty) when it was so for most of the window; between the two nothing is claimed.
MOSTLY = 0.5
RARELY = 0.2
# Below this, a stage has time to spare, whatever its queues say.
BUSY = 0.6
# The kernel, other processes and measuring itself take the rest.
CORES_SATURATED = 0.9
# Readings over less than this say more about the start than about the pipeline.
MIN_WINDOW_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The stage that limits, and why."""

    stage: str
    """A stage's name, or `none`."""
    kind: Kind
    evidence: str
    """A sentence for a person, with the prediction where there is one."""


def find_bottleneck(readings: Readings) -> Verdict:
    """Name the stage that is busiest while its input is full and its output is not.

    When there is none, the cores, the source or nothing that can be named limits.
    """
    stages = [stage for stage in readings.stages if stage.stage != "source"]
    if not stages or readings.window_s < MIN_WINDOW_S:
        return Verdict(stage="none", kind="unknown", evidence="too little has been measured yet")
    ranked = sorted(stages, key=lambda stage: stage.busy_ratio, reverse=True)
    cores = f"{readings.cores_busy:.1f} of {readings.cores} cores in use"
    limiting = [stage for stage in ranked if _holds_up(stage)]
    if limiting and limiting[0].busy_ratio >= BUSY:
        return _stage_verdict(limiting[0], ranked, cores)
    if readings.cores_busy >= CORES_SATURATED * readings.cores:
        top = ranked[0]
        return Verdict(
            stage=top.stage,
            kind="cores",
            evidence=f"all cores are busy ({cores}); {_spoken(top)} takes most, {_percent(top.busy_ratio)} busy; "
            "fewer or smaller streams, or more cores, would help",
        )
    if all(stage.input_full_ratio < RARELY for stage in stages) and ranked[0].busy_ratio < BUSY:
        return Verdict(
            stage="source",
            kind="source",
            evidence=f"every stage waits for frames; the busiest, {_spoken(ranked[0])}, is "
            f"{_percent(ranked[0].busy_ratio)} busy, so the source sets the pace",
        )
    return Verdict(
        stage="none",
        kind="unknown",
        evidence=f"no stage stands out: {_spoken(ranked[0])} is {_percent(ranked[0].busy_ratio)} busy, {cores}",
    )


def _holds_up(stage: StageReading) -> bool:
    return stage.input_full_ratio >= MOSTLY and stage.output_full_ratio < MOSTLY


def _stage_verdict(limit: StageReading, ranked: list[StageReading], cores: str) -> Verdict:
    evidence = (
        f"{_spoken(limit)} {_percent(limit.busy_ratio)} busy, its input full {_percent(limit.input_full_ratio)} "
        f"of the time"
    )
    others = [stage for stage in ranked if stage is not limit]
    if others:
        gain = min(2.0, limit.busy_ratio / max(others[0].busy_ratio, 0.01))
        evidence += (
            f"; next is {_spoken(others[0])} at {_percent(others[0].busy_ratio)}; "
            f"twice the speed of {_spoken(limit)} would give {max(gain, 1.0):.1f} x"
        )
    return Verdict(stage=limit.stage, kind=_KIND[limit.stage], evidence=f"{evidence} ({cores})")


def _spoken(stage: StageReading) -> str:
    return _SPOKEN.get(stage.stage, stage.stage)


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.0f} %"
