"""`vrseg`: the commands, and how their failures are told."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vrseg.cli.bench import bench
from vrseg.cli.check import check
from vrseg.cli.demo import demo
from vrseg.cli.doctor import doctor
from vrseg.cli.probe import probe
from vrseg.cli.process import process
from vrseg.cli.run import run
from vrseg.cli.schema import schema
from vrseg.errors import VrsegError
from vrseg.version import __version__

app = typer.Typer(
    name="vrseg",
    help="Understand cameras, RTSP streams and VR video frame by frame, live, on your own machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (run, process, demo, check, probe, doctor, bench, schema):
    app.command()(command)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Understand cameras, RTSP streams and VR video frame by frame, live, on your own machine."""
    if version:
        print(f"vrseg {__version__}")
        raise typer.Exit


def main() -> int:
    """Run one command; errors become one line each on stderr and the exit code of their kind.

    Raises:
        SystemExit: from the command line's parser, with the code to end with.
    """
    try:
        app()
    except VrsegError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return error.exit_code
    return 0
