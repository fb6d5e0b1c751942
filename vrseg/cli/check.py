"""`vrseg check`: is the configuration right, and what would it do?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from vrseg.cli.resolved import resolve
from vrseg.cli.rows import print_rows
from vrseg.cli.run import SetOption
from vrseg.config.load import load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vrseg.cli.resolved import Resolved, ResolvedModel, ResolvedOutput, ResolvedStream

Row = tuple[str, str]
CLASSES_SHOWN = 4
LABEL_WIDTH = 7


def check(
    config: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    overrides: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Validate a configuration, and print what it would do."""
    resolved = resolve(load(config, overrides=overrides or ()), config.resolve().parent)
    if as_json:
        print(json.dumps(asdict(resolved), indent=2))
        return
    console = Console(highlight=False)
    _print(resolved, console)
    console.print(Text.assemble((str(config), "bold"), (" is right", "green")), soft_wrap=True)
    errors = Console(stderr=True, highlight=False)
    for warning in resolved.warnings:
        errors.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


def _print(resolved: Resolved, console: Console) -> None:
    _section(console, "device", resolved.device, [("why", resolved.device_reason)])
    for model in resolved.models:
        _section(console, "model", model.name, _model_rows(model))
    for stream in resolved.streams:
        _section(console, "stream", stream.name, _stream_rows(stream))
    access = "asks for a token" if resolved.token else "no token, this machine only"
    _section(console, "server", f"{'https' if resolved.tls else 'http'}://{resolved.listen}", [("access", access)])


def _section(console: Console, kind: str, name: str, rows: Iterable[Row]) -> None:
    console.print(Text.assemble((f"{kind} ", "dim"), (name, "bold cyan")), soft_wrap=True)
    print_rows(console, [(Text(f"  {label:<{LABEL_WIDTH}}", "dim"), value) for label, value in rows])


def _model_rows(model: ResolvedModel) -> list[Row]:
    fixed = f"; its graph is made for {model.batch_of_graph}" if model.batch_of_graph else ""
    threads = "1 thread" if model.threads == 1 else f"{model.threads} threads"
    names = ", ".join(model.classes[:CLASSES_SHOWN])
    more = len(model.classes) - CLASSES_SHOWN
    return [
        ("file", model.file),
        ("title", model.title),
        ("task", f"{model.task}, output read as {model.decode}"),
        ("input", model.input),
        ("classes", f"{names} and {more} more" if more > 0 else names),
        ("engine", f"{model.engine}, {model.precision}, {threads}"),
        ("batch", f"up to {model.batch_size} frames, waits at most {model.batch_delay}{fixed}"),
        ("licence", model.licence or "not stated"),
    ]


def _stream_rows(stream: ResolvedStream) -> list[Row]:
    age = f", older than {stream.max_age} dropped" if stream.max_age else ""
    rows = [
        ("source", f"{stream.source} ({stream.kind}, {'live' if stream.live else 'waits'})"),
        ("queue", f"{stream.queue_size} frames, {stream.queue_policy} when full{age}"),
        ("model", stream.model or "none: frames pass through unseen"),
        ("view", stream.view),
    ]
    rows += [("output", _output(output)) for output in stream.outputs]
    rows += [("results", "standard output" if uri == "-" else uri) for uri in stream.results]
    rows += [("watch", note) for note in stream.watched]
    return rows


def _output(output: ResolvedOutput) -> str:
    parts = [output.uri, f"{output.codec} by {output.encoder}", output.rate, f"key frame every {output.gop}"]
    if output.latency == "live":
        parts.append("low latency")
    if output.segment:
        parts.append(f"a new file every {output.segment}")
    if output.keep:
        parts.append(f"kept for {output.keep}")
    return ", ".join(parts)
