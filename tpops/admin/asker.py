"""
For whom a command works that ordinary users may run about themselves.

Purpose: an administrator lets users run one command of tpops as the server's user, through sudo.  sudo says in
SUDO_UID and SUDO_USER who they are; then the command works for that one account, with the machine's own configuration
and no other.
Limits: believes sudo (or run0, which sets the same), and nobody else that gives rights away.  root, and whoever is
the server's user without sudo, is an administrator.
"""

from __future__ import annotations

import os
import pwd

import click

from tpops.admin import sources
from tpops.admin.context import configuration
from tpops.config.load import DEFAULT_PATHS, load
from tpops.config.schema import Config

#: The configuration that ordinary users' commands work with.
MACHINE_CONFIG = DEFAULT_PATHS[-1]


def ordinary_user() -> str | None:
    """
    The name of the user who has run this through sudo, None for an administrator.

    @raise click.ClickException: when what sudo says is contradictory
    """
    uid, name = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_USER", "")
    if not uid and not name:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise click.ClickException(f"SUDO_USER is {name!r}, and there is no such user on this machine") from None
    if uid != str(found.pw_uid):
        raise click.ClickException(f"SUDO_UID is {uid!r}, and the user {name} has the uid {found.pw_uid}")
    return None if found.pw_uid in (0, os.geteuid()) else name


def asked(context: click.Context, user: str | None) -> tuple[Config, str | None]:
    """
    The configuration to work with, and the name of the account as its source calls it, where one has it.

    @param user: the account that the command line names; ordinary users may name their own only
    @return: None as the name when an administrator names no account
    """
    own = ordinary_user()
    if own is None:
        config = configuration(context).config
        return config, None if user is None else _account(config, sources.canonical(config, user))
    given = context.find_root().params["config"]
    if given not in (None, MACHINE_CONFIG):
        raise click.ClickException(f"users of sudo work with {MACHINE_CONFIG}; leave --config away")
    config = load(MACHINE_CONFIG).config
    name = sources.canonical(config, own)
    if user is not None and sources.canonical(config, user) != name:
        raise click.ClickException(
            f"{own} has started this through sudo, so it works for {name} only; "
            "an administrator writes: sudo env -u SUDO_UID -u SUDO_USER tpops ..."
        )
    return config, _account(config, name)


def _account(config: Config, name: str) -> str:
    """The account may have gone: then its name is as good as any."""
    return sources.account_name(config, name) or name
