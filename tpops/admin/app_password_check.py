"""
What "tpops check" says of application passwords.

Purpose: the database, the key file and the rights of the server's user on them; and whether every secret can be opened.
Limits: the keys are read as whoever runs the command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from tpops.config.schema import Config
from tpops.cred.app_password_store import AppPasswordStore
from tpops.cred.sealing import KeyFile
from tpops.errors import LookupUnavailable

#: How many secrets that cannot be opened are named.
_NAMED_SECRETS = 5


def problems(config: Config, may: Callable[[str, int], bool]) -> Iterator[str]:
    """
    One line for each problem.

    @param may: whether the server's user has these rights (os.R_OK, os.W_OK, os.X_OK) on a file or directory
    """
    settings = config.app_passwords
    store = AppPasswordStore(settings.path)
    try:
        yield from (f"app_passwords.path: {problem}" for problem in store.check())
        yield from _database_rights(settings.path, may)
        if settings.key_file:
            yield from _key_problems(settings.key_file, may)
        yield from _secret_problems(store, settings.key_file)
    except LookupUnavailable as error:
        yield f"app_passwords: {error}"
    finally:
        store.close()


def _database_rights(path: str, may: Callable[[str, int], bool]) -> Iterator[str]:
    directory = os.path.dirname(path)
    if not may(path, os.R_OK | os.W_OK):
        yield f"app_passwords.path: the server's user may not read and write {path}"
    elif not may(directory, os.W_OK | os.X_OK):
        yield f"app_passwords.path: the server's user may not write in {directory}"


def _key_problems(path: str, may: Callable[[str, int], bool]) -> Iterator[str]:
    """@raise LookupUnavailable: when the file cannot be used"""
    KeyFile(path).check()
    if not may(path, os.R_OK):
        yield f"app_passwords.key_file: the server's user may not read {path}"


def _secret_problems(store: AppPasswordStore, key_file: str) -> Iterator[str]:
    sealed = [one for one in store.all() if one.secret is not None]
    if sealed and not key_file:
        yield f"app_passwords.key_file is not set, and {len(sealed)} application passwords are encrypted"
        return
    keys = KeyFile(key_file)
    bad = 0
    for one in sealed:
        try:
            keys.unseal(one.secret or b"", one.about)
        except LookupUnavailable as error:
            bad += 1
            if bad <= _NAMED_SECRETS:
                yield f"app_passwords: {one.name!r} of {one.account}: {error}"
    if bad > _NAMED_SECRETS:
        yield f"app_passwords: {bad - _NAMED_SECRETS} more that cannot be decrypted"
