"""
The kinds of accounts sources, by the name that the configuration uses.

Purpose: one table from "driver" to the class, for the service and for the command line.
Limits: the keys that a kind has in the configuration are its arguments, by name.  Nothing is opened here; a source
opens its file at the first lookup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tpops.cred.hashes import Verifier
from tpops.cred.passwd_file import PasswdFile
from tpops.cred.shadow import ShadowAccounts
from tpops.cred.source import PasswordSource
from tpops.cred.sqlite import SQLiteAccounts

_KINDS: dict[str, Callable[..., PasswordSource]] = {
    "sqlite": SQLiteAccounts,
    "passwd_file": PasswdFile,
    "shadow": ShadowAccounts,
}


def kinds() -> tuple[str, ...]:
    """What "driver" may be."""
    return tuple(_KINDS)


def make(kind: str, name: str, settings: Mapping[str, str | int], verifier: Verifier) -> PasswordSource:
    """
    An accounts source of one of the L{kinds}.

    @param settings: the keys of this kind
    """
    return _KINDS[kind](name=name, verifier=verifier, **settings)
