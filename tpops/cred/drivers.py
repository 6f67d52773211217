"""
The kinds of accounts sources, by the name that the configuration uses.

Purpose: one table from "driver" to the class, for the service and for the command line.
Limits: nothing is opened here; a source opens its file at the first lookup.
"""

from __future__ import annotations

from collections.abc import Callable

from tpops.cred.hashes import Verifier
from tpops.cred.passwd_file import PasswdFile
from tpops.cred.source import PasswordSource
from tpops.cred.sqlite import SQLiteAccounts

_KINDS: dict[str, Callable[[str, str, Verifier], PasswordSource]] = {
    "sqlite": SQLiteAccounts,
    "passwd_file": PasswdFile,
}


def kinds() -> tuple[str, ...]:
    """What "driver" may be."""
    return tuple(_KINDS)


def make(kind: str, name: str, path: str, verifier: Verifier) -> PasswordSource:
    """An accounts source of one of the L{kinds}."""
    return _KINDS[kind](name, path, verifier)
