"""`vrseg doctor`: what this machine can do, and the commands that mend what is missing."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from vrseg.cli.rows import print_rows
from vrseg.doctor.graphics import look_at_graphics
from vrseg.doctor.inference import look_at_inference
from vrseg.doctor.processor import look_at_processor
from vrseg.doctor.video import look_at_video
from vrseg.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vrseg.doctor.finding import Finding, State

_SECTIONS = {
    "Processor": look_at_processor,
    "Video": look_at_video,
    "Inference": look_at_inference,
    "GPU": look_at_graphics,
}
# A word beside the colour: pipes and many eyes see no colours.
_WORDS: Mapping[State, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "optional": ("optional", "yellow"),
    "missing": ("MISSING", "bold red"),
}
_NAME_WIDTH = 14


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print all findings as JSON.")] = False) -> None:
    """Tell what this machine can do, what is missing, and the command that mends it."""
    console = Console(highlight=False)
    if as_json:
        sections = {title: look() for title, look in _SECTIONS.items()}
        print(json.dumps({title: [asdict(one) for one in findings] for title, findings in sections.items()}, indent=2))
    else:
        sections = {}
        for title, look in _SECTIONS.items():
            sections[title] = look()
            _print_section(console, title, sections[title])
        _print_remedies(console, [one for findings in sections.values() for one in findings])
    missing = [one.name for findings in sections.values() for one in findings if one.state == "missing"]
    if missing:
        raise DeviceError(f"vrseg needs what is missing here: {', '.join(missing)}; see above for how to mend it")
    if not as_json:
        console.print(Text("Everything that vrseg needs is here.", "bold green"))


def _print_section(console: Console, title: str, findings: Sequence[Finding]) -> None:
    console.print(Text(title, "bold"))
    print_rows(console, [(Text.assemble(_word(one), f"  {one.name:<{_NAME_WIDTH}}"), one.detail) for one in findings])
    console.print()


def _word(finding: Finding) -> tuple[str, str]:
    word, style = _WORDS[finding.state]
    return f"  {word:<8}", style


def _print_remedies(console: Console, findings: Sequence[Finding]) -> None:
    """Give each command a line of its own, unbroken, so that it can be copied."""
    remedies = {one.remedy: one for one in findings if one.remedy is not None}
    if remedies:
        console.print(Text("To mend or add", "bold"))
    for remedy, one in remedies.items():
        console.print(Text.assemble(_word(one), f"  {one.name}"))
        console.print(Text(f"    {remedy}", "cyan"), soft_wrap=True)
    if remedies:
        console.print()
