"""
Accounts of TPOPS' table, copied to schema v2: name, password, Maildir, quota and address.

Limits: what schema v2 has already stays as it is.  Both are in one database.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from tpops.backend import Backend
from tpops.cred import drivers
from tpops.errors import BadCredentials, ConfigError, UnknownUser
from tpops.interfaces import IAddressAdmin
from tpops.model import Account


async def convert_accounts(behind: Backend, names: Iterable[str]) -> None:
    """
    Copy the accounts of these names, and tell how many there were.

    @raise ConfigError: when no accounts source is TPOPS' table
    """
    configured = next((one for one in behind.config.accounts if getattr(one, "preset", "") == "tpops-classic"), None)
    if configured is None:
        raise ConfigError(
            ['--accounts copies from TPOPS\' table: there is no [[accounts]] with preset = "tpops-classic"']
        )
    old: Any = next(source for source in behind.sources if source.name == configured.name)
    keys = {**configured.settings(), "preset": "tpops-v2", "password_scheme": "preset", "secrets": "auto"}
    new: Any = drivers.make(configured.driver, "schema v2", keys, behind.means)
    there = dict(new.names())
    copied = 0
    for given in names:
        try:
            name = behind.names.canonical(given.encode("utf-8", "surrogateescape"))
            record = await old.find(name, None)
        except UnknownUser:
            continue  # another source has it
        except BadCredentials as wrong:
            click.echo(f"{given}: {wrong}", err=True)
            continue
        account: Account = record.account
        if account.name in there:
            continue
        mail = old.address(account.name)
        address = behind.names.canonical(mail.encode()) if mail else account.name
        IAddressAdmin(new).add_with_address(account, record.password_hash, address)
        copied += 1
    click.echo(f"{copied} accounts copied to schema v2; those that were there stay as they are")
