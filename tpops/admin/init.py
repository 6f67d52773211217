"""
"tpops init": a configuration and an empty accounts database, ready to serve.

Purpose: the first command that somebody runs.
Limits: never overwrites; what is there already is named, and nothing is made.
"""

from __future__ import annotations

import os
import shlex

import click

from tpops.config.reference import render_sample, toml
from tpops.cred import sqlite

#: Names in the directory.
CONFIG_NAME, DATABASE_NAME = "tpops.toml", "accounts.sqlite"


def sample(port: int) -> str:
    """The configuration file; its paths are relative to the directory it lies in."""
    return render_sample(
        {
            "server": {"state_dir": toml(".")},
            "listen": {"address": toml("127.0.0.1"), "port": toml(port)},
            "accounts": {"driver": toml("sqlite"), "path": toml(DATABASE_NAME)},
            "mail": {"location": toml("maildir:mail/$(user)/Maildir")},
            "maildir": {"create": toml(True)},
            "last_login": {"keep": toml(True)},
        }
    )


@click.command("init")
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(file_okay=False))
@click.option("--port", default=1110, show_default=True, type=click.IntRange(1, 65535), help="TCP port to listen on.")
def init(directory: str, port: int) -> None:
    """Make a configuration and an accounts database in DIR (default: here)."""
    config, database = os.path.join(directory, CONFIG_NAME), os.path.join(directory, DATABASE_NAME)
    for path in (config, database):
        if os.path.lexists(path):
            raise click.ClickException(f"{path} is there already; nothing was changed")
    os.makedirs(directory, mode=0o750, exist_ok=True)
    with open(config, "x", encoding="utf-8") as file:
        file.write(sample(port))
    sqlite.create(database)
    os.makedirs(os.path.join(directory, "mail"), mode=0o700, exist_ok=True)
    shown = shlex.quote(config)
    click.echo(f"made {config} and {database}\n")
    click.echo("Next steps:")
    click.echo(f"  tpops -c {shown} user add NAME        add an account")
    click.echo(f"  tpops -c {shown} check                look whether all is right")
    click.echo(f"  twistd -n tpops --config {shown}      serve on 127.0.0.1, port {port}")
    if os.geteuid() == 0:
        click.echo(f'You are root: set user in [server], and give that user the directory {directory} ("chown -R").')
