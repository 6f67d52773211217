"""
"tpops init": a configuration and an empty accounts database, ready to serve.

Purpose: the first command that somebody runs.
Limits: never overwrites; what is there already is named, and nothing is made.  Started as root it can make everything
for the user that the server will be; directories that were there keep their owners, but for the one that is written to.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
from collections.abc import Sequence

import click

from tpops.config.reference import render_sample, toml
from tpops.cred import sqlite
from tpops.errors import ConfigError
from tpops.process.privileges import Identity, identity

#: Names in the directory.
CONFIG_NAME, DATABASE_NAME = "tpops.toml", "accounts.sqlite"


def sample(address: str, port: int, user: str = "", state_dir: str = "") -> str:
    """
    The configuration file; its paths are relative to the directory it lies in.

    @param state_dir: absolute, for accounts and mail that lie elsewhere
    """
    mail = os.path.join(state_dir, "mail/$(user)/Maildir")
    return render_sample(
        {
            "server": {**({"user": toml(user)} if user else {}), "state_dir": toml(state_dir or ".")},
            "listen": {"address": toml(address), "port": toml(port)},
            "accounts": {"driver": toml("sqlite"), "path": toml(os.path.join(state_dir, DATABASE_NAME))},
            "mail": {"location": toml(f"maildir:{mail}")},
            "maildir": {"create": toml(True)},
            "last_login": {"keep": toml(True)},
        }
    )


def _ip(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """An IP address."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as problem:
        raise click.BadParameter(str(problem)) from problem


@click.command("init")
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(file_okay=False))
@click.option("--port", default=1110, show_default=True, type=click.IntRange(1, 65535), help="TCP port to listen on.")
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    metavar="IP",
    help="Address to listen on; 0.0.0.0 is all of the machine.",
    callback=_ip,
)
@click.option(
    "--state-dir",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Directory for what the server writes, accounts and mail; otherwise DIR has everything.",
)
@click.option(
    "--user",
    metavar="NAME",
    default="",
    help="Whom the server runs as: what it writes is his, and the configuration is for root and his group (as root).",
)
def init(directory: str, port: int, address: str, state_dir: str | None, user: str) -> None:
    """Make a configuration and an accounts database in DIR (default: here)."""
    who = _owner(user)
    state = os.path.abspath(state_dir) if state_dir else ""
    config, database = os.path.join(directory, CONFIG_NAME), os.path.join(state or directory, DATABASE_NAME)
    for path in (config, database):
        if os.path.lexists(path):
            raise click.ClickException(f"{path} is there already; nothing was changed")
    made = [one for one in (directory, state) if one and not os.path.isdir(one)]
    for path in made:
        os.makedirs(path, mode=0o750)
    with open(config, "x", encoding="utf-8") as file:
        file.write(sample(address, port, user, state))
    sqlite.create(database)
    mail = os.path.join(state or directory, "mail")
    os.makedirs(mail, mode=0o700, exist_ok=True)
    if who is not None:
        _give(who, config, [one for one in made if one == directory and state], [state or directory, database, mail])
    shown = shlex.quote(config)
    click.echo(f"made {config} and {database}\n")
    click.echo("Next steps:")
    click.echo(f"  tpops -c {shown} user add NAME        add an account")
    click.echo(f"  tpops -c {shown} check                look whether all is right")
    click.echo(f"  twistd -n tpops --config {shown}      serve on {address}, port {port}")
    if os.geteuid() == 0 and who is None:
        click.echo("You are root: serve as somebody else (--user NAME makes it so from the beginning), or set user")
        click.echo(f'in [server], and give that user the directory {directory} ("chown -R").')


def _owner(user: str) -> Identity | None:
    """The server's user; None where none is named."""
    try:
        who = identity(user, "")
    except ConfigError as problem:
        raise click.ClickException(f"there is no user {user!r} on this machine; nothing was changed") from problem
    if who is not None and os.geteuid() not in (0, who.uid):
        raise click.ClickException(f"only root can make files that belong to {user!r}; nothing was changed")
    return who


def _give(who: Identity, config: str, closed: Sequence[str], his: Sequence[str]) -> None:
    """
    Let the server's user have what he needs.

    @param closed: directories made for the configuration alone, which he may enter
    @param his: what belongs to him
    """
    os.chmod(config, 0o640)
    for path in (config, *closed):
        os.chown(path, -1, who.gid)
    for path in his:
        os.chown(path, who.uid, who.gid)
