"""
The kinds of accounts sources, by the name that the configuration uses.

Purpose: one table from "driver" to the class, for the service and for the command line.  A driver's module is imported
when the configuration asks for it, so that nobody needs the libraries of the others.
Limits: the keys that a kind has in the configuration are its arguments, by name.  Nothing is opened here; a source
opens its file at the first lookup.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from tpops import plugins
from tpops.cred.source import Means, Source
from tpops.errors import ConfigError

#: Module, class (or what makes an object), and the extra that has the library, "" for none.
_KINDS: dict[str, tuple[str, str, str]] = {
    "sqlite": ("tpops.cred.sqlite", "SQLiteAccounts", ""),
    "passwd_file": ("tpops.cred.passwd_file", "PasswdFile", ""),
    "shadow": ("tpops.cred.shadow", "ShadowAccounts", ""),
    "apop_db": ("tpops.cred.apop_db", "ApopTable", ""),
    "pam": ("tpops.cred.pam", "PAMAccounts", ""),
    "external": ("tpops.cred.external", "ExternalAccounts", ""),
    "checkpassword": ("tpops.cred.checkpassword", "CheckpasswordAccounts", ""),
    "strcred": ("tpops.cred.strcred", "StrcredAccounts", ""),
    "ldap": ("tpops.cred.ldap", "LDAPAccounts", "ldap"),
    "proxy": ("tpops.cred.proxy", "ProxyAccounts", ""),
    "mysql": ("tpops.cred.mysql_tables", "open_accounts", "mysql"),
}


def kinds() -> tuple[str, ...]:
    """What "driver" may be."""
    return tuple(_KINDS)


def make(kind: str, name: str, settings: Mapping[str, object], means: Means) -> Source:
    """
    An accounts source of one of the L{kinds}, or of another package.

    @param settings: the keys of this kind
    @raise ConfigError: when a library that it needs is not installed, or the settings cannot be used
    """
    if kind.startswith(plugins.PREFIX):
        theirs: Source = plugins.factory("accounts", kind).make(name, means, settings)
        return theirs
    module, class_name, extra = _KINDS[kind]
    driver = load(module, class_name, extra, f'accounts source {name}: driver "{kind}"')
    made: Source = driver(name=name, means=means, **settings)
    return made


def load(module: str, class_name: str, extra: str, what: str) -> Any:
    """
    A class whose library not everybody has.

    @param what: who needs it, for the operator
    @raise ConfigError: when a library that it needs is not installed
    """
    try:
        return getattr(import_module(module), class_name)
    except ImportError as problem:
        if not extra:
            raise
        raise ConfigError([missing(what, extra, problem)]) from problem


def missing(what: str, extra: str, problem: ImportError) -> str:
    """What an operator is told of a library that is not there."""
    return f"{what} needs a library that cannot be used here ({problem}); install it: pip install 'tpops[{extra}]'"
