"""`vrseg models`: what is done to models before they work."""

from __future__ import annotations

import typer

from vrseg.cli.models_build import build, engines, forget
from vrseg.cli.models_convert import convert

models = typer.Typer(no_args_is_help=True, help="Convert models, and build engines for them.")
for command in (convert, build, engines, forget):
    models.command()(command)
