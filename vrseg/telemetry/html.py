"""The report of a job as one page that needs nothing else."""

from __future__ import annotations

from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from vrseg.telemetry.bottleneck import find_bottleneck
from vrseg.telemetry.report import stage_cells
from vrseg.version import __version__

if TYPE_CHECKING:
    from vrseg.telemetry.readings import Readings


def report_page(title: str, summary: str, readings: Readings) -> str:
    """Return the stage table and the verdict as HTML."""
    verdict = find_bottleneck(readings)
    rows = "\n".join(
        f'<tr class="{"limit" if stage.stage == verdict.stage else ""}">'
        + "".join(f"<td>{escape(cell)}" for cell in stage_cells(stage))
        + "</tr>"
        for stage in readings.stages
    )
    template = resources.files("vrseg.telemetry").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(title),
        summary=escape(summary),
        limit="Bottleneck unknown." if verdict.kind == "unknown" else f"Bottleneck: {escape(verdict.stage)}.",
        evidence=escape(verdict.evidence),
        rows=rows,
        version=__version__,
    )
