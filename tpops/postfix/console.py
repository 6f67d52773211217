"""
The commands of PBS: tpops-pbsinsert and tpops-pbsdelete; tpops-pbsselect is in L{tpops.postfix.pbsselect}.

    pbsinsert   reads lines "login, user=U, client=IP" from standard input, from the pipeline of any POP server
    pbsdelete   removes logins that have expired, and those in the future

Purpose: as PBS had them, on the store of the configuration (--config).
Errors: standard error, and exit status 65 for a line that is not understood, 75 when something was not written down.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable

import click

from tpops.config.load import default_path, load
from tpops.config.schema import Config
from tpops.cred.names import LoginNames
from tpops.db.addresses import site
from tpops.db.relay import IRelayStore, Login, StoreFailed
from tpops.errors import BadCredentials, ConfigError
from tpops.postfix import stores

_LOGIN = re.compile(r"login, user=(?P<user>[^,\x00-\x1f]+), client=(?P<client>[0-9A-Fa-f:.%]\S*)")

config_option = click.option("--config", "-c", metavar="FILE", help="Configuration file, as for the command tpops.")

#: Octets of a line that are read at most.
_MOST_LINE = 1024

_PIECE = 65536


def open_store(path: str | None) -> tuple[Config, IRelayStore]:
    """
    The configuration and its store.

    @raise ConfigError: when there is none
    """
    config = load(path or default_path()).config
    if not config.pop_before_smtp.store:
        raise ConfigError(["there is no POP before SMTP here: store is not set in [pop_before_smtp]"])
    return config, stores.store(config)


def _or_exit(path: str | None) -> tuple[Config, IRelayStore]:
    try:
        return open_store(path)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(1)


@click.command("tpops-pbsinsert")
@config_option
def pbsinsert(config: str | None) -> None:
    """Write down logins that another POP server tells of: lines "login, user=U, client=IP" on standard input."""
    loaded, store = _or_exit(config)
    names = loaded.names
    canonical = LoginNames(names.default_domain, names.lowercase, names.separators).canonical
    worst = 0
    # Line by line as they come; a pipeline of a server never ends.
    while line := sys.stdin.buffer.readline(_MOST_LINE):
        try:
            login = _login(line, canonical, loaded.pop_before_smtp.ipv6_prefix)
            store.record([login])
        except (ValueError, BadCredentials) as error:
            click.echo(f"tpops-pbsinsert: {line[:100]!r}: {error}", err=True)
            worst = 65
        except StoreFailed as error:
            click.echo(f"tpops-pbsinsert: {error}", err=True)
            worst = 75
    store.close()
    sys.exit(worst)


def _login(line: bytes, canonical: Callable[[bytes], str], ipv6_prefix: int) -> Login:
    """@raise ValueError: when the line tells of none"""
    found = _LOGIN.fullmatch(line.rstrip(b"\r\n").decode("utf-8", "surrogateescape"))
    if not found:
        raise ValueError("is not like: login, user=joe, client=192.0.2.1")
    address = site(found["client"], ipv6_prefix)
    if address is None:
        raise ValueError(f"{found['client']!r} is no IP address")
    return Login(address, canonical(found["user"].encode("utf-8", "surrogateescape")), int(time.time()))


@click.command("tpops-pbsdelete")
@config_option
def pbsdelete(config: str | None) -> None:
    """Remove logins that have expired, and those in the future."""
    _, store = _or_exit(config)
    try:
        store.purge()
    except StoreFailed as error:
        click.echo(f"tpops-pbsdelete: {error}", err=True)
        sys.exit(75)
    finally:
        store.close()
