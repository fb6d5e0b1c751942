"""The stage table and the verdict, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vrseg.telemetry.bottleneck import Verdict, find_bottleneck

if TYPE_CHECKING:
    from vrseg.telemetry.readings import Readings, StageReading


def stage_table(readings: Readings) -> Table:
    """Return one row a stage: how busy, how long items wait, how long they take, how full its input is."""
    verdict = find_bottleneck(readings)
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("stage")
    for heading in ("items", "busy", "wait p50", "work p50", "p95", "p99", "input full"):
        table.add_column(heading, justify="right")
    for stage in readings.stages:
        table.add_row(*stage_cells(stage), style="bold yellow" if stage.stage == verdict.stage else "")
    return table


def verdict_line(verdict: Verdict) -> Text:
    """Return the bottleneck in words."""
    head = {"unknown": "bottleneck unknown", "source": "bottleneck: the source", "cores": "bottleneck: the CPU"}.get(
        verdict.kind, f"bottleneck: {verdict.stage}"
    )
    return Text.assemble((head, "bold"), f" -- {verdict.evidence}")


def stage_cells(stage: StageReading) -> list[str]:
    """Return the row of one stage as text: name, items, busy, wait, work (p50, p95, p99), input full."""
    return [
        stage.stage,
        f"{stage.items:,}",
        f"{100 * stage.busy_ratio:.0f} %",
        _ms(stage.wait.p50_s),
        _ms(stage.duration.p50_s),
        _ms(stage.duration.p95_s),
        _ms(stage.duration.p99_s),
        f"{100 * stage.input_full_ratio:.0f} %",
    ]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
