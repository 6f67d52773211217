"""
"tpops pbs user" and "tpops pbs access": which senders a user may use, and networks with rules of their own.

Purpose: what PBS had in USERMAP and ACCESSMAP, written by commands that know what can be right.
Limits: a user need not have an account here: another POP server may tell of his logins (tpops-pbsinsert).
"""

from __future__ import annotations

import json

import attrs
import click
from rich.table import Table

from tpops.admin import sources
from tpops.admin.context import show
from tpops.admin.pbs_store import json_option, opened
from tpops.db import addresses, relay
from tpops.db.relay import Contents, Rule, Sender

#: What a status means, for people.
USER_STATUS = {1: "may use it", 0: "may not"}
RULE_STATUS = {
    1: "after a login from there",
    2: "after a login of its user from anywhere",
    0: "no rule, whatever larger networks have",
}


@click.group()
def user() -> None:
    """Users and the sender addresses that they may use."""


@user.command("add")
@click.argument("name")
@click.argument("senders", nargs=-1, required=True)
@click.option("--status", type=click.IntRange(0, 1), default=1, show_default=True, help="1 may use it, 0 may not.")
@click.pass_context
def add_user(context: click.Context, name: str, senders: tuple[str, ...], status: int) -> None:
    """Let the user NAME send as each of SENDERS; one that he has gets the new status."""
    with opened(context) as (config, store):
        entries = [Sender(sources.canonical(config, name), _sender(one), status) for one in senders]
        store.put(Contents(senders=entries))
        for entry in entries:
            click.echo(f"{entry.user} {'may' if status else 'may not'} send as {entry.sender}")


@user.command("remove")
@click.argument("name")
@click.argument("senders", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All senders of the user.")
@click.pass_context
def remove_user(context: click.Context, name: str, senders: tuple[str, ...], everything: bool) -> None:
    """Forget that NAME may send as each of SENDERS."""
    if everything == bool(senders):
        raise click.UsageError("give SENDERS, or --all")
    with opened(context) as (config, store):
        name = sources.canonical(config, name)
        if everything:
            click.echo(f"forgot {store.remove_sender(name, None)} senders of {name}")
            return
        wanted = [_sender(one) for one in senders]
        missing = set(wanted) - {one.sender for one in store.senders(name)}
        if missing:
            raise click.ClickException(f"{name} has no sender {', '.join(sorted(missing))}; nothing was changed")
        for one in wanted:
            store.remove_sender(name, one)
            click.echo(f"forgot that {name} may send as {one}")


@user.command("list")
@click.argument("name", required=False)
@json_option
@click.pass_context
def list_users(context: click.Context, name: str | None, as_json: bool) -> None:
    """List the senders of the user NAME, or of all."""
    with opened(context) as (config, store):
        found = store.senders(None if name is None else sources.canonical(config, name))
    if as_json:
        click.echo(json.dumps([attrs.asdict(one) for one in found], ensure_ascii=False, indent=2))
        return
    table = Table("User", "Sender", "Status")
    for one in found:
        table.add_row(one.user, one.sender, f"{one.status}: {USER_STATUS.get(one.status, '?')}")
    show(table)


@click.group()
def access() -> None:
    """Addresses and networks with rules of their own."""


@access.command("add")
@click.argument("network")
@click.argument("sender", required=False)
@click.option(
    "--status",
    type=click.IntRange(0, 2),
    default=1,
    show_default=True,
    help="1: after a login from there; 2: after a login of SENDER's user, from anywhere; 0: no rule.",
)
@click.pass_context
def add_access(context: click.Context, network: str, sender: str | None, status: int) -> None:
    """Let clients in NETWORK, an address or CIDR, send as SENDER, or as anybody, once somebody has logged in."""
    rule = Rule(_network(network), None if sender is None else _sender(sender), status)
    if status == 2 and sender is None:
        raise click.UsageError("--status 2 needs a SENDER: without one, any login would open the network to everybody")
    with opened(context) as (_, store):
        store.put(Contents(rules=[rule]))
    click.echo(f"{rule.network}, {rule.sender or 'any sender'}: {RULE_STATUS[status]}")


@access.command("remove")
@click.argument("network")
@click.argument("sender", required=False)
@click.pass_context
def remove_access(context: click.Context, network: str, sender: str | None) -> None:
    """Forget the rule of NETWORK for SENDER, or for any sender."""
    rule = Rule(_network(network), None if sender is None else _sender(sender), 0)
    with opened(context) as (_, store):
        if not store.remove_rule(rule.network, rule.sender):
            raise click.ClickException(f"there is no rule of {rule.network} for {rule.sender or 'any sender'}")
        click.echo(f"forgot the rule of {rule.network} for {rule.sender or 'any sender'}")


@access.command("list")
@json_option
@click.pass_context
def list_access(context: click.Context, as_json: bool) -> None:
    """List the rules."""
    with opened(context) as (_, store):
        found = store.rules()
    if as_json:
        click.echo(json.dumps([attrs.asdict(one) for one in found], ensure_ascii=False, indent=2))
        return
    table = Table("Network", "Sender", "Status")
    for one in found:
        table.add_row(one.network, one.sender or "(any)", f"{one.status}: {RULE_STATUS.get(one.status, '?')}")
    show(table)


def _sender(text: str) -> str:
    try:
        return relay.sender_to_store(text)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def _network(text: str) -> str:
    try:
        return addresses.network(text)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
