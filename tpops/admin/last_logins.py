"""
"tpops user show": an account and its last logins.

Purpose: who is it, may he log in, and when did he, from where?
Limits: the account may be in any source; what only its password could tell is left out.
"""

from __future__ import annotations

import datetime
import json

import click
from rich.table import Table

from tpops import sinks
from tpops.admin import sources
from tpops.admin.context import show
from tpops.config.schema import Config
from tpops.db.last_logins import LastLogin, NotKept


def show_account(config: Config, name: str, as_json: bool) -> None:
    """Print what is known."""
    wanted = sources.canonical(config, name)
    found = sources.account_name(config, wanted)
    if found is None:
        raise click.ClickException(f"there is no account {wanted}")
    facts = _facts(config, found)
    logins = _logins(config, found)
    if as_json:
        rows = [
            {"address": one.address or None, "at": _time(one), "count": one.count, "mechanism": one.mechanism}
            for one in logins
        ]
        click.echo(json.dumps({**facts, "logins": rows}, ensure_ascii=False, indent=2))
        return
    for label, value in (("name", facts["name"]), ("source", facts["source"]), ("logins", facts["logins_are"])):
        if value:
            click.echo(f"{label:<8} {value}")
    if not logins:
        kept = config.last_login.keep
        click.echo("last     never, as far as is known" if kept else "last     not kept (set keep in [last_login])")
        return
    table = Table("Last login", "From", "Logins", "By")
    for one in logins:
        table.add_row(_time(one), one.address or "(UNIX socket)", str(one.count), one.mechanism)
    show(table)


def forget(config: Config, name: str) -> None:
    """The account is gone, and its logins with it."""
    if config.last_login.keep:
        try:
            sinks.last_logins(config).forget(name)
        except NotKept as problem:
            click.echo(f"warning: its last logins stay: {problem}", err=True)


def _facts(config: Config, name: str) -> dict[str, str]:
    """What a source that can be asked without a password says."""
    for where, admin in sources.writable(config):
        enabled = dict(admin.names()).get(name)
        if enabled is not None:
            return {"name": name, "source": where, "logins_are": "allowed" if enabled else "refused"}
    return {"name": name, "source": "", "logins_are": ""}


def _logins(config: Config, name: str) -> list[LastLogin]:
    if not config.last_login.keep:
        return []
    try:
        return sinks.last_logins(config).of(name)
    except NotKept as problem:
        raise click.ClickException(str(problem)) from None


def _time(login: LastLogin) -> str:
    """A moment, in the time of this machine."""
    return datetime.datetime.fromtimestamp(login.at).astimezone().isoformat(" ", "seconds")
