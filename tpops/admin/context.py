"""
What all commands of "tpops" share: which configuration they work with, and how errors are told.

Purpose: finds and loads the configuration, prints tables, and turns every expected error into one line.
Limits: click only; no reactor.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tpops.errors import ConfigError, TpopsError

if TYPE_CHECKING:
    from rich.table import Table

    from tpops.config.load import Loaded

#: Room for a table that goes into a file or a pipe.
_WIDE_COLUMNS = 10_000


def config_path(context: click.Context) -> str:
    """The configuration file of this command."""
    from tpops.config.load import default_path

    return context.find_root().params["config"] or default_path()


def configuration(context: click.Context) -> Loaded:
    """The configuration of this command."""
    from tpops.config.load import load

    return load(config_path(context))


def show(table: Table) -> None:
    """Print a table: as wide as it needs where nobody's screen limits it."""
    from rich.console import Console

    out = sys.stdout
    Console(file=out, markup=False, width=None if out.isatty() else _WIDE_COLUMNS).print(table)


class Commands(click.Group):
    """A group whose commands may raise tpops' own errors: the operator sees lines, no traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(problem, err=True)
            ctx.exit(1)
        except TpopsError as error:
            raise click.ClickException(str(error)) from None
        except BrokenPipeError:
            # Whoever read the output has enough of it, as "head" has; click ends the command.
            raise
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{place}{error.strerror or error}") from None
