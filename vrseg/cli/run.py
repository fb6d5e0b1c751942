"""`vrseg run`: the daemon, in the foreground."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer
import uvloop

from vrseg.backend.backend import Backend
from vrseg.config.load import load
from vrseg.daemon import PlanFile, run_daemon
from vrseg.heap import keep_arenas_few
from vrseg.plan import Plan, make_plan
from vrseg.running import Running
from vrseg.telemetry.logs import make_logger

LogFormatOption = Annotated[Literal["text", "json"], typer.Option("--log-format", help="How logs look on stderr.")]
LogLevelOption = Annotated[
    Literal["debug", "info", "warning", "error"], typer.Option("--log-level", help="What is worth a line.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as streams.door.source.uri=clip.mp4."),
]


def run(
    config: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    overrides: SetOption = None,
    log_format: LogFormatOption = "text",
    log_level: LogLevelOption = "info",
) -> None:
    """Run the daemon in the foreground."""
    keep_arenas_few()
    log = make_logger(log_format, log_level)

    def read_plan(backend: Backend | None = None) -> Plan:
        return make_plan(load(config, overrides=overrides or ()), config.resolve().parent, backend=backend)

    plan = read_plan()
    log.info("starting", device=plan.backend.device, why=plan.backend.reason, streams=len(plan.config.streams))

    def on_listening(address: str, _running: Running) -> None:
        log.info("listening", page=address)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            code = runner.run(
                run_daemon(plan, log, on_listening=on_listening, file=PlanFile(path=config, read=read_plan))
            )
        except asyncio.CancelledError:
            code = 1
    log.info("stopped", code=code)
    raise typer.Exit(code)
