"""
The accounts sources of a configuration, for the command line.

Purpose: opens what [[accounts]] names, and finds the one that a command may write to.
Limits: no reactor runs here, so slow password checks are done on the spot.
Errors: click.ClickException with one line for the operator.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import click
from twisted.internet.defer import Deferred, succeed

from tpops import assembly
from tpops.config.schema import Config
from tpops.cred import drivers, ordered
from tpops.cred.hashes import Verifier
from tpops.cred.names import LoginNames
from tpops.cred.source import Means, Source
from tpops.errors import BadCredentials
from tpops.interfaces import IAccountAdmin

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _at_once(f: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Awaitable[_T]:
    """Run a blocking function here and now."""
    done: Deferred[_T] = succeed(f(*args, **kwargs))
    return done


def open_all(config: Config) -> list[Source]:
    """Every accounts source, in order."""
    verifier = Verifier(_at_once, time.monotonic)
    split = login_names(config).split
    hostname = config.server.hostname
    upstream = assembly.upstream(config, None) if assembly.proxied(config) else None
    means = Means(verifier, _at_once, time.monotonic, None, split, hostname, upstream)
    return [drivers.make(source.driver, source.name, source.settings(), means) for source in config.accounts]


def account_name(config: Config, name: str) -> str | None:
    """What its source calls the account of this canonical name; None where surely nobody has it."""
    return ordered.account_name(open_all(config), name)


def writable(config: Config, name: str | None = None) -> list[tuple[str, IAccountAdmin]]:
    """The sources that can be written, with their names; or the one with this name."""
    found = [(source.name, source) for source in open_all(config) if IAccountAdmin.providedBy(source)]
    if name is not None:
        found = [(other, source) for other, source in found if other == name]
        if not found:
            raise click.ClickException(f"there is no writable accounts source {name!r}")
    return [(other, IAccountAdmin(source)) for other, source in found]


def the_writable(config: Config, name: str | None) -> tuple[str, IAccountAdmin]:
    """The one source that a command writes to."""
    found = writable(config, name)
    if not found:
        raise click.ClickException("no accounts source of the configuration can be written; edit its file instead")
    if len(found) > 1:
        names = ", ".join(other for other, _ in found)
        raise click.ClickException(f"there are several writable accounts sources; choose one with --source: {names}")
    return found[0]


def login_names(config: Config) -> LoginNames:
    """The rules for login names."""
    return LoginNames(config.names.default_domain, config.names.lowercase, config.names.separators)


def canonical(config: Config, name: str) -> str:
    """A name as the server will see it."""
    try:
        return login_names(config).canonical(name.encode("utf-8", "surrogateescape"))
    except BadCredentials as error:
        raise click.ClickException(f"{name!r} cannot be a login name: {error}") from None
