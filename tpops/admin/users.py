"""
"tpops user": the accounts of the writable sources.

Purpose: add, change, disable, enable, remove and list accounts; their quotas.
Limits: passwords come from a hidden prompt or, with --stdin, from the first line of standard input; never from
the command line, where others could read them.  Mail is never touched.
The application passwords of an account go with it.
"""

from __future__ import annotations

import json

import click
from rich.table import Table

from tpops.admin import app_passwords, last_logins, sources
from tpops.admin.context import configuration, show
from tpops.admin.passwords import new_hash, scheme_option, stdin_option
from tpops.cred import quota_rules
from tpops.errors import MaildropBroken
from tpops.interfaces import IAccountAdmin, IQuotaAdmin
from tpops.mailbox import locations
from tpops.model import Account

_source_option = click.option("--source", metavar="NAME", help="Accounts source, where there are several.")


@click.group()
def user() -> None:
    """Accounts: add, change, remove and list them."""


@user.command()
@click.argument("name")
@click.option("--maildrop", metavar="LOCATION", help='Where the mail lies ("maildir:/path"), if not as configured.')
@click.option("--home", metavar="DIR", help='Home directory, for locations with "~" or $(home).')
@click.option("--quota", "octets", metavar="SIZE", default="default", help="Most mail (100M, 2G, none).")
@click.option("--quota-messages", "messages", metavar="N", default="default", help="Most messages (1000, none).")
@scheme_option
@stdin_option
@_source_option
@click.pass_context
def add(
    context: click.Context,
    name: str,
    maildrop: str | None,
    home: str | None,
    octets: str,
    messages: str,
    scheme: str,
    from_stdin: bool,
    source: str | None,
) -> None:
    """Add the account NAME."""
    config = configuration(context).config
    where, admin = sources.the_writable(config, source)
    account = Account(
        name=sources.canonical(config, name),
        driver=where,
        home=home,
        maildrop=maildrop,
        quota_octets=_limit(octets),
        quota_messages=_limit(messages),
    )
    if (account.quota_octets, account.quota_messages) != (None, None):
        _with_quotas(where, admin)
    try:
        places = locations.expand(config.mail.location, account, sources.login_names(config).split)
    except MaildropBroken as error:
        raise click.ClickException(f"{error}; give --home or --maildrop, or change mail.location") from None
    if account.name in dict(admin.names()):
        raise click.ClickException(f"there is already an account {account.name}")
    admin.add(account, new_hash(from_stdin, scheme))
    kind, path = places[0].kind, places[0].path
    click.echo(f"added {account.name}; mail in {f'the database, as {path}' if kind == 'mysql' else path}")


@user.command()
@click.argument("name")
@scheme_option
@stdin_option
@_source_option
@click.pass_context
def passwd(context: click.Context, name: str, scheme: str, from_stdin: bool, source: str | None) -> None:
    """Give the account NAME a new password."""
    name, admin = _existing(context, name, source)
    admin.set_password(name, new_hash(from_stdin, scheme))
    click.echo(f"new password for {name}; it counts from the next login on")


@user.command()
@click.argument("name")
@click.argument("octets", metavar="SIZE")
@click.argument("messages", metavar="[MESSAGES]", default="default")
@_source_option
@click.pass_context
def quota(context: click.Context, name: str, octets: str, messages: str, source: str | None) -> None:
    """
    Say how much mail the account NAME may have: SIZE in octets (100M, 2G) and a number of MESSAGES.

    Each may be "none", or "default" for what [quota] in the configuration says.
    """
    limits = _limit(octets), _limit(messages)
    wanted, admin = _existing(context, name, source)
    where, _ = sources.the_writable(configuration(context).config, source)
    _with_quotas(where, admin).set_quota(wanted, *limits)
    shown = ["as configured" if one is None else f"{one}" if one else "any" for one in limits]
    click.echo(f"{wanted} may have octets: {shown[0]}, messages: {shown[1]}; it counts for the next message")


@user.command()
@click.argument("name")
@_source_option
@click.pass_context
def disable(context: click.Context, name: str, source: str | None) -> None:
    """Refuse logins of the account NAME."""
    name, admin = _existing(context, name, source)
    admin.set_enabled(name, False)
    click.echo(f"disabled {name}; open sessions go on")


@user.command()
@click.argument("name")
@_source_option
@click.pass_context
def enable(context: click.Context, name: str, source: str | None) -> None:
    """Allow logins of the account NAME again."""
    name, admin = _existing(context, name, source)
    admin.set_enabled(name, True)
    click.echo(f"enabled {name}")


@user.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_source_option
@click.pass_context
def remove(context: click.Context, name: str, yes: bool, source: str | None) -> None:
    """Remove the account NAME; its mail stays."""
    name, admin = _existing(context, name, source)
    if not yes:
        click.confirm(f"Remove the account {name}? Its mail stays.", abort=True)
    admin.remove(name)
    revoked = app_passwords.revoke_all(configuration(context).config, name)
    last_logins.forget(configuration(context).config, name)
    also = f", its {revoked} application passwords are revoked" if revoked else ""
    click.echo(f"removed {name}; its mail is still there{also}")


@user.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def show_(context: click.Context, name: str, as_json: bool) -> None:
    """Show the account NAME of any source, and its last logins."""
    last_logins.show_account(configuration(context).config, name, as_json)


@user.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@_source_option
@click.pass_context
def list_(context: click.Context, as_json: bool, source: str | None) -> None:
    """List the accounts of the writable sources."""
    rows = [
        {"name": name, "enabled": enabled, "source": where}
        for where, admin in sources.writable(configuration(context).config, source)
        for name, enabled in admin.names()
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = Table("Name", "Logins", "Source")
    for row in rows:
        table.add_row(str(row["name"]), "allowed" if row["enabled"] else "refused", str(row["source"]))
    show(table)


def _limit(text: str) -> int | None:
    """What a quota on the command line means."""
    if text in ("default", "none"):
        return None if text == "default" else 0
    try:
        return quota_rules.octets(text)
    except ValueError as error:
        raise click.ClickException(f"{error}, none or default") from None


def _with_quotas(where: str, admin: IAccountAdmin) -> IQuotaAdmin:
    """The source, where it keeps quotas."""
    if not IQuotaAdmin.providedBy(admin):
        raise click.ClickException(f"quotas of the accounts source {where} are changed in its own tables or files")
    return IQuotaAdmin(admin)


def _existing(context: click.Context, name: str, source: str | None) -> tuple[str, IAccountAdmin]:
    """The canonical name of an account that is there, and its source."""
    config = configuration(context).config
    _, admin = sources.the_writable(config, source)
    wanted = sources.canonical(config, name)
    if wanted not in dict(admin.names()):
        raise click.ClickException(f"there is no account {wanted}")
    return wanted, admin
