"""
"tpops pipe" and "tpops store": the commands tpops-pipe and tpops-store under another name.

Purpose: the same arguments and the same exit statuses (L{tpops.delivery.exits}).
Limits: an MTA should start tpops-pipe itself, which is ready sooner, and has the right status even where tpops' own
installation is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from tpops.delivery import pipe as pipe_command
from tpops.delivery import store as store_command


class _AsItIs(click.Command):
    """A command that gets all words behind its name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep them as they are."""
        if args[:1] in (["-h"], ["--help"]):
            click.echo(ctx.get_help())
            ctx.exit()
        ctx.params["arguments"] = tuple(args)
        return []


@click.command("pipe", cls=_AsItIs, options_metavar="[-f SENDER] [--] ADDRESS...")
@click.pass_context
def pipe(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Deliver the message on standard input to every ADDRESS, as tpops-pipe does."""
    _run(context, pipe_command.command, arguments)


@click.command("store", cls=_AsItIs, options_metavar="[-f SENDER] [--] ADDRESS [FILE...]")
@click.pass_context
def store(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Put messages (in files, or on standard input) into the maildrop of ADDRESS, as tpops-store does."""
    _run(context, store_command.command, arguments)


def _run(context: click.Context, command: Callable[[Sequence[str]], int], arguments: tuple[str, ...]) -> None:
    config = context.find_root().params["config"]
    context.exit(command([*(("--config", config) if config else ()), *arguments]))
