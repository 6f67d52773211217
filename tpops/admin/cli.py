"""
The command "tpops": everything an operator does apart from serving, which is "twistd tpops".

Purpose: everything works on one configuration file: --config, else the environment's TPOPS_CONFIG, else ./tpops.toml if
it exists, else /etc/tpops/tpops.toml; pw and doctor need none.
Errors: one line each on standard error and exit status 1 (2 for a wrong command line; store and pipe have an MTA's);
never a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module, metadata

import click

from tpops.admin.context import Commands
from tpops.process.garbage import collect_seldom

#: Where each command is; the others are not loaded with it.
_COMMANDS: Mapping[str, str] = {
    "apppasswd": "app_passwords:apppasswd",
    "check": "check:check",
    "config": "show:config",
    "db": "database:database",
    "doctor": "doctor.command:doctor",
    "drain": "running:drain",
    "init": "init:init",
    "kick": "running:kick",
    "mailbox": "mailbox:mailbox",
    "pbs": "pbs:pbs",
    "penalty": "running:penalty",
    "pipe": "deliveries:pipe",
    "plugins": "plugins:plugins",
    "pw": "passwords:pw",
    "reload": "running:reload",
    "stats": "running:stats",
    "store": "deliveries:store",
    "tls": "tls:tls",
    "top": "top:top",
    "user": "users:user",
    "who": "running:who",
}


class AllCommands(Commands):
    """All of L{_COMMANDS}, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them, None where there is none of this name."""
        module, _, name = _COMMANDS.get(cmd_name, "").partition(":")
        if not module:
            return None
        command: click.Command = getattr(import_module(f"tpops.admin.{module}"), name)
        return command


def _version() -> str:
    """The installed version; a source tree that is not installed has none."""
    try:
        return metadata.version("tpops")
    except metadata.PackageNotFoundError:
        return "(source tree, not installed)"


@click.group(cls=AllCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "-c",
    metavar="FILE",
    help="Configuration file.  [default: $TPOPS_CONFIG, else ./tpops.toml if it exists, else /etc/tpops/tpops.toml]",
)
@click.version_option(_version(), prog_name="tpops", message="%(prog)s %(version)s")
def tpops(config: str | None) -> None:
    """Administer tpops, a POP3 mail access service.  Serving is "twistd tpops"."""


def main() -> None:
    """The console script."""
    collect_seldom()
    try:
        tpops(prog_name="tpops")
    except Exception as error:
        print(f"Error: {type(error).__name__}: {error}; please report this", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
