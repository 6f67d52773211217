"""
"tpops apppasswd": passwords for single programs or devices.

Purpose: make, list and revoke application passwords; make and replace the keys that encrypt those for APOP.
Limits: an ordinary user, for whom sudo runs it as the server's user, works for his own account only (see
L{tpops.admin.asker}); the database and the keys are the administrator's.  A generated password is shown once, on
standard output, where nothing else is; one that the user chooses comes from a hidden prompt or, with --stdin, from
the first line of standard input.
"""

from __future__ import annotations

import json
import os
import time

import attrs
import click
from rich.table import Table

from tpops.admin import sources
from tpops.admin.asker import asked, ordinary_user
from tpops.admin.context import configuration, show
from tpops.admin.passwords import read_password, stdin_option
from tpops.config.app_passwords import AppPasswords
from tpops.config.schema import Config
from tpops.cred import app_password_store, app_password_text, hashes
from tpops.cred.app_password_store import AppPassword, AppPasswordStore
from tpops.cred.sealing import KeyFile
from tpops.process import privileges

#: How generated passwords are stored: they need no slow hash.  Chosen ones are stored as those of accounts.
_FAST_SCHEME = "SSHA256"

_user_option = click.option("--user", "-u", metavar="NAME", help="The account; your own, where sudo has started this.")


@click.group("apppasswd")
def apppasswd() -> None:
    """Application passwords: one for each program or device, to be revoked one by one."""


@apppasswd.command("init")
@click.pass_context
def init(context: click.Context) -> None:
    """Make the empty database that [app_passwords] path names."""
    config = _administrators(context)
    app_password_store.create(config.app_passwords.path)
    _give(config, config.app_passwords.path)
    click.echo(f"made {config.app_passwords.path}")


@apppasswd.command()
@click.argument("name")
@_user_option
@click.option("--ask", is_flag=True, help="Choose the password yourself; you are asked for it twice.")
@click.option("--apop", is_flag=True, help="Also for APOP, CRAM-MD5 and SCRAM: keep it encrypted as well.")
@stdin_option
@click.pass_context
def add(context: click.Context, name: str, user: str | None, ask: bool, apop: bool, from_stdin: bool) -> None:
    """Add the application password NAME, such as "phone", and show it once."""
    config, account = _account(context, user)
    settings = config.app_passwords
    if apop and not settings.key_file:
        raise click.ClickException("--apop needs key_file in [app_passwords]")
    try:
        app_password_text.name(name)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if sources.account_name(config, account) is None:
        # Surely mistyped.
        raise click.ClickException(f"no accounts source has an account {account}")
    if name in _names(config, account):
        raise click.ClickException(f"{account} has an application password {name!r} already")
    chosen = ask or from_stdin
    shown = _choose(from_stdin, settings.minimum_length) if chosen else app_password_text.generate().encode()
    try:
        _store(settings, account, name, shown, chosen, apop)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if chosen:
        click.echo(f"added {name!r} for {account}")
    else:
        click.echo(f"application password {name!r} of {account}; it is shown only now:", err=True)
        click.echo(shown)


@apppasswd.command("list")
@_user_option
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_context
def list_(context: click.Context, user: str | None, as_json: bool) -> None:
    """List application passwords, for an administrator those of all accounts."""
    config, account = asked(context, user)
    store = AppPasswordStore(_path(config))
    try:
        found = store.all() if account is None else list(store.held(account))
    finally:
        store.close()
    if as_json:
        rows = [
            {
                "account": one.account,
                "name": one.name,
                "created": _time(one.created_at),
                "last_used": _time(one.last_used_at),
                "chosen": one.chosen,
                "apop": one.secret is not None,
            }
            for one in found
        ]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = Table("Account", "Name", "Made", "Last used", "APOP")
    for one in found:
        made, used = _time(one.created_at), _time(one.last_used_at)
        table.add_row(one.account, one.name, made, used or "never", "yes" if one.secret is not None else "no")
    show(table)


@apppasswd.command()
@click.argument("name", required=False)
@_user_option
@click.option("--all", "everything", is_flag=True, help="All application passwords of the account.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def revoke(context: click.Context, name: str | None, user: str | None, everything: bool, yes: bool) -> None:
    """Revoke the application password NAME; it does not log in any more."""
    if everything == (name is not None):
        raise click.UsageError("give the NAME of one application password, or --all")
    config, account = _account(context, user)
    names = _names(config, account)
    if name is not None and name not in names:
        there = f"there are: {', '.join(names)}" if names else "there is none"
        raise click.ClickException(f"{account} has no application password {name!r}; {there}")
    if not yes:
        what = f"the application password {name!r}" if name is not None else f"all {len(names)} application passwords"
        click.confirm(f"Revoke {what} of {account}?", abort=True)
    with AppPasswordStore(config.app_passwords.path).writing() as writer:
        if name is None:
            click.echo(f"revoked {writer.revoke_all(account)} application passwords of {account}; open sessions go on")
        elif writer.revoke(account, name):
            click.echo(f"revoked {name!r} of {account}; open sessions go on")
        else:
            raise click.ClickException(f"somebody else has just revoked {name!r} of {account}")


@apppasswd.command()
@click.option("--rotate", is_flag=True, help="Put a new key before the others, and encrypt everything with it.")
@click.option("--drop-old", is_flag=True, help="Forget all keys but the first.")
@click.pass_context
def key(context: click.Context, rotate: bool, drop_old: bool) -> None:
    """Make the key file that [app_passwords] key_file names, or replace its key."""
    config = _administrators(context)
    if not config.app_passwords.key_file:
        raise click.ClickException("key_file is not set in [app_passwords]")
    if rotate and drop_old:
        raise click.UsageError("--rotate first; --drop-old once every server has read the new key")
    keys = KeyFile(config.app_passwords.key_file)
    if rotate:
        _rotate(AppPasswordStore(config.app_passwords.path), keys)
    elif drop_old:
        _drop_old(AppPasswordStore(config.app_passwords.path), keys)
    else:
        keys.make()
        _give(config, keys.path)
        click.echo(f"made {keys.path}; keep a copy where the copies of the database are not")


def revoke_all(config: Config, account: str) -> int:
    """Revoke what an account has, for commands that remove accounts; how many there were."""
    path = config.app_passwords.path
    if not path or not os.path.exists(path):
        return 0
    with AppPasswordStore(path).writing() as writer:
        return writer.revoke_all(account)


def _store(settings: AppPasswords, account: str, name: str, shown: bytes, chosen: bool, apop: bool) -> None:
    """
    Put a new one into the database.

    @raise ValueError: when the account has one of this name, or too many, or the password cannot be used
    """
    if chosen:
        hashed = hashes.hash_password(shown)
    else:
        hashed = hashes.hash_password(app_password_text.compact(shown) or b"", _FAST_SCHEME)
    new = AppPassword(account, name, hashed, chosen, None, int(time.time()))
    with AppPasswordStore(settings.path).writing() as writer:
        if apop:
            # In the transaction: the key that encrypts it cannot be dropped meanwhile.
            new = attrs.evolve(new, secret=KeyFile(settings.key_file).seal(shown, new.about))
        writer.add(new)


def _rotate(store: AppPasswordStore, keys: KeyFile) -> None:
    with store.writing() as writer:
        keys.rotate()
        sealed = [one for one in writer.rows() if one.secret is not None]
        for one in sealed:
            writer.set_secret(one, keys.seal(keys.unseal(one.secret or b"", one.about), one.about))
    click.echo(f"{keys.path} has a new key; {len(sealed)} application passwords are encrypted with it")


def _drop_old(store: AppPasswordStore, keys: KeyFile) -> None:
    with store.writing() as writer:
        if any(one.secret is not None and not keys.is_current(one.secret) for one in writer.rows()):
            raise click.ClickException("application passwords are still encrypted with an old key; use --rotate first")
        click.echo(f"{keys.drop_old()} old keys are gone from {keys.path}")


def _path(config: Config) -> str:
    path = config.app_passwords.path
    if not path:
        raise click.ClickException("there are no application passwords here: path is not set in [app_passwords]")
    return path


def _account(context: click.Context, user: str | None) -> tuple[Config, str]:
    """The configuration and the one account that a command is about."""
    config, account = asked(context, user)
    _path(config)
    if account is None:
        raise click.UsageError("name the account with --user")
    return config, account


def _administrators(context: click.Context) -> Config:
    """The configuration, for what ordinary users may not do."""
    if ordinary_user() is not None:
        raise click.ClickException("only an administrator may do this")
    config = configuration(context).config
    _path(config)
    return config


def _give(config: Config, path: str) -> None:
    """Let the server's user have a file that root has made."""
    who = privileges.identity(config.server.user, config.server.group)
    if who is not None and os.geteuid() == 0:
        os.chown(path, who.uid, who.gid, follow_symlinks=False)


def _names(config: Config, account: str) -> list[str]:
    """What the application passwords of an account are called."""
    store = AppPasswordStore(config.app_passwords.path)
    try:
        return [one.name for one in store.held(account)]
    finally:
        store.close()


def _choose(from_stdin: bool, minimum: int) -> bytes:
    chosen = read_password(from_stdin, twice=True, err=True)
    characters = len(chosen.decode("utf-8", "surrogateescape"))
    if characters < minimum:
        raise click.ClickException(f"it has {characters} characters, and at least {minimum} are needed")
    return chosen


def _time(at: int | None) -> str | None:
    return None if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
