"""`vrseg`: the commands, and how their failures are told."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from vrseg.address import presentable
from vrseg.errors import NO_MEMORY, VrsegError
from vrseg.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMANDS = ("run", "process", "demo", "check", "probe", "doctor", "bench", "models", "schema")
"""Each is a function in a module of its name; or, of commands of its own, a Typer."""


def make_app(commands: Iterable[str]) -> typer.Typer:
    """Return the command line with these commands."""
    app = typer.Typer(
        name="vrseg",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(options)
    for name in commands:
        command = getattr(import_module(f"vrseg.cli.{name}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def print_version(wanted: bool) -> None:
    """Print the version and end, if that is wanted."""
    if wanted:
        print(f"vrseg {__version__}")
        raise typer.Exit


def options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Understand cameras, RTSP streams and VR video frame by frame, live, on your own machine."""


def main() -> int:
    """Run one command; errors become one line each on stderr and the exit code of their kind.

    Only the module of the command that is asked for is loaded: `doctor` must work where the libraries of others do not.

    Raises:
        SystemExit: from the command line's parser, with the code to end with.
    """
    asked = [name for name in sys.argv[1:2] if name in COMMANDS]
    try:
        make_app(asked or COMMANDS)()
    except VrsegError as error:
        for line in str(error).splitlines():
            print(f"error: {presentable(line)}", file=sys.stderr)
        return error.exit_code
    except (MemoryError, BaseExceptionGroup) as error:
        if not is_want_of_memory(error):
            raise
        print(f"error: {NO_MEMORY}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # while a command was still being loaded
        print("interrupted", file=sys.stderr)
        return 1
    return 0


def is_want_of_memory(error: BaseException) -> bool:
    """Tell whether there was no memory, and nothing else was wrong."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_want_of_memory, error.exceptions))
    return isinstance(error, MemoryError)
