"""
"tpops-useradd": add an account, with the arguments that TPOPS had.

    tpops-useradd [-c FILE] [--source NAME] [--scheme S] LOGIN PASSWORD MAIL [MAILDIR]

Where the accounts have addresses of their own (in MySQL) MAIL is written there; in all other sources the address is the
name, so LOGIN and MAIL must be the same.  In TPOPS' own table the password is stored as it is, which APOP needs.
Limits: others on the machine may see the command line while it runs; with "-" the password is the first line of
standard input.  "tpops user add" asks for it.
Errors: exit status 1, and 0 when the account was added.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tpops.delivery import exits

USAGE = "tpops-useradd [-c FILE] [--source NAME] [--scheme S] LOGIN PASSWORD MAIL [MAILDIR]"

_OPTIONS = {"-c": "config", "--config": "config", "--source": "source", "--scheme": "scheme"}


def run(arguments: Sequence[str]) -> str:
    """
    Add the account; what to tell.

    @raise WrongUsage: when the command line cannot be understood
    """
    given, words = exits.options(arguments, _OPTIONS)
    if len(words) not in (3, 4):
        raise exits.WrongUsage(f"needs 3 or 4 words, and there are {len(words)}")
    login, password, mail, *places = words
    from tpops.admin import sources
    from tpops.config.load import default_path, load
    from tpops.cred import hashes
    from tpops.interfaces import IAddressAdmin
    from tpops.model import Account

    config = load(given.get("config") or default_path()).config
    where, admin = sources.the_writable(config, given.get("source"))
    name, address = sources.canonical(config, login), sources.canonical(config, mail)
    if not password:
        raise exits.WrongUsage("the password is empty")
    secret = sys.stdin.buffer.readline().rstrip(b"\r\n") if password == "-" else os.fsencode(password)  # noqa: S105
    maildrop = f"maildir:{os.path.abspath(places[0])}" if places and places[0] else None
    account = Account(name=name, driver=where, maildrop=maildrop)
    with_addresses = IAddressAdmin.providedBy(admin)
    as_it_is = getattr(admin, "password_scheme", "") == "plain"
    stored = hashes.hash_password(secret, given.get("scheme") or ("PLAIN" if as_it_is else hashes.DEFAULT_SCHEME))
    if with_addresses:
        IAddressAdmin(admin).add_with_address(account, stored, address)
    elif name != address:
        raise ValueError(
            f"in the source {where} the address is the name, so mail for {address} would not be {name}'s; give the "
            "address as LOGIN, or set names.default_domain"
        )
    elif name in dict(admin.names()):
        raise ValueError(f"there is already an account {name}")
    else:
        admin.add(account, stored)
    return f"added {name}"


def command(arguments: Sequence[str]) -> int:
    """The exit status for a command line."""
    import click

    from tpops.errors import TpopsError

    try:
        exits.tell(run(arguments))
    except exits.WrongUsage as wrong:
        exits.tell(f"tpops-useradd: {wrong}\nusage: {USAGE}")
    except click.ClickException as error:
        exits.tell(f"tpops-useradd: {error.message}")
    except (TpopsError, ValueError, OSError) as error:
        exits.tell(f"tpops-useradd: {error}")
    else:
        return 0
    return 1


def main() -> NoReturn:
    """The console script."""
    sys.exit(command(sys.argv[1:]))
