"""
"tpops pbs": POP before SMTP.  Who may send mail now, from where, and why.

Purpose: look at logins, allow and deny by hand, ask what Postfix would be told, change how long a login counts.  The
senders of users and the rules of networks are in L{tpops.admin.pbs_maps}, what PBS has in L{tpops.admin.pbs_import}.
Limits: what is changed counts for the next question, in every process; mail that is on its way goes on.
"""

from __future__ import annotations

import json
import time

import click
from rich.table import Table

from tpops.admin import sources
from tpops.admin.context import show
from tpops.admin.pbs_import import import_
from tpops.admin.pbs_maps import access, user
from tpops.admin.pbs_store import json_option, opened, place
from tpops.db.addresses import canonical
from tpops.db.relay import Login
from tpops.postfix.relaying import Relaying
from tpops.postfix.rules import Verdict


@click.group()
def pbs() -> None:
    """POP before SMTP: who may send mail after a login."""


for _command in (user, access, import_):
    pbs.add_command(_command)


@pbs.command()
@click.pass_context
def init(context: click.Context) -> None:
    """Make the store where it is missing, which the server does too."""
    with opened(context) as (_, store):
        store.make()
        for problem in store.check():
            raise click.ClickException(problem)
        click.echo("the store is ready")


@pbs.command()
@click.argument("address")
@click.argument("name", metavar="USER")
@click.pass_context
def allow(context: click.Context, address: str, name: str) -> None:
    """Treat ADDRESS as if USER had just logged in from there."""
    with opened(context) as (config, store):
        login = Login(place(config, address), sources.canonical(config, name), int(time.time()))
        store.record([login])
        until = _time(login.at + store.expire_seconds())
        click.echo(f"{login.user} counts as logged in from {login.address} until {until}")


@pbs.command()
@click.argument("address")
@click.argument("name", metavar="[USER]", required=False)
@click.pass_context
def deny(context: click.Context, address: str, name: str | None) -> None:
    """Forget the logins from ADDRESS, those of USER or all; the next login counts again."""
    with opened(context) as (config, store):
        where = place(config, address)
        count = store.forget(where, None if name is None else sources.canonical(config, name))
        if not count:
            raise click.ClickException(f"there is no such login from {where}; 'tpops pbs list' shows all")
        click.echo(f"forgot {count} logins from {where}")


@pbs.command("list")
@json_option
@click.pass_context
def list_(context: click.Context, as_json: bool) -> None:
    """List the logins that count now, the newest first."""
    with opened(context) as (_, store):
        logins, expire = store.logins(), store.expire_seconds()
    if as_json:
        rows = [
            {"address": one.address, "user": one.user, "login": _time(one.at), "until": _time(one.at + expire)}
            for one in logins
        ]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = Table("Address", "User", "Login", "Until")
    for one in logins:
        table.add_row(one.address, one.user, _time(one.at), _time(one.at + expire))
    show(table)


@pbs.command()
@click.argument("address")
@click.argument("sender")
@click.pass_context
def ask(context: click.Context, address: str, sender: str) -> None:
    """What would be said of a client at ADDRESS that sends as SENDER ("<>" is the null sender); 1 where nothing."""
    if canonical(address) is None:
        raise click.ClickException(f"{address!r} is no IP address")
    with opened(context) as (config, store):
        settings = config.pop_before_smtp
        relaying = Relaying(store, settings.match == "address", settings.ipv6_prefix, time.monotonic)
        verdict = relaying.verdict(address, "" if sender == "<>" else sender)
        assert isinstance(verdict, Verdict)
        if verdict is Verdict.NOTHING:
            click.echo(f"no (DUNNO): {verdict.value}")
            context.exit(1)
        click.echo(f"yes ({settings.action}): {verdict.value}")


@pbs.command()
@click.argument("seconds", type=click.IntRange(1, 31_536_000), required=False)
@click.option("--default", "default", is_flag=True, help="As the configuration says.")
@click.pass_context
def expire(context: click.Context, seconds: int | None, default: bool) -> None:
    """Show how long a login counts, or change it at once, for everybody who has logged in too."""
    if default and seconds is not None:
        raise click.UsageError("give SECONDS or --default")
    with opened(context) as (config, store):
        if default or seconds is not None:
            store.set_expire(seconds)
        now, configured = store.expire_seconds(), config.pop_before_smtp.expire_seconds
        about = "as configured" if now == configured else f"the configuration says {configured}"
        click.echo(f"a login counts for {now} seconds ({about})")


@pbs.command()
@click.pass_context
def purge(context: click.Context) -> None:
    """Remove logins that count no more, and those in the future, which the server does every minute."""
    with opened(context) as (_, store):
        click.echo(f"removed {store.purge()} logins")


def _time(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
