"""
The database of application passwords.

Purpose: several processes share it: the workers of the server read it at each login and note the time of the last
use, "tpops apppasswd" writes.  Reads happen in the reactor's thread, as those of accounts in SQLite do and for the
same reason; the rows of an account are kept in memory until somebody writes.
Limits: an account has at most L{MOST} of them, of which L{MOST_CHOSEN} were chosen by somebody, for these cost much
more to verify.
Errors: all of SQLite's are LookupUnavailable.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs

from tpops.db import sqlite as database
from tpops.db.reader import Reader
from tpops.errors import LookupUnavailable

_FAMILY = "app-passwords"

#: How many an account may have, together and of those that somebody chose.
MOST, MOST_CHOSEN = 100, 5

#: Accounts whose rows are kept in memory.
_CACHE_ACCOUNTS = 10000

_SELECT = "SELECT account, name, password_hash, chosen, secret, created_at, last_used_at FROM app_passwords"


@attrs.frozen(slots=True)
class AppPassword:
    """
    One application password.

    @ivar account: name of the account, as its source calls it
    @ivar name: what the user calls it
    @ivar password_hash: the stored password, "{SCHEME}data"; of a generated one without dashes
    @ivar chosen: whether somebody chose it; else we have made it
    @ivar secret: the password as it is, encrypted; None where only the hash is kept
    @ivar created_at: seconds since the epoch
    @ivar last_used_at: the same, not exact; None where it was never used
    """

    account: str
    name: str
    password_hash: str = attrs.field(repr=False)
    chosen: bool = attrs.field(converter=bool)
    secret: bytes | None = attrs.field(repr=False)
    created_at: int
    last_used_at: int | None = None

    @property
    def about(self) -> bytes:
        """What its secret is bound to."""
        return f"tpops application password\0{self.account}\0{self.name}".encode()


class Writer:
    """What can be written, in one transaction that nobody else writes in."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, account: str | None = None) -> list[AppPassword]:
        """The passwords of an account, or all."""
        return _rows(self._connection, account)

    def add(self, new: AppPassword) -> None:
        """
        Add one.

        @raise ValueError: when the account has one of this name, or too many
        """
        held = self.rows(new.account)
        if any(one.name == new.name for one in held):
            raise ValueError(f"{new.account} has an application password {new.name!r} already")
        if len(held) >= MOST:
            raise ValueError(f"{new.account} has {len(held)} application passwords, and {MOST} are the most")
        if new.chosen and sum(one.chosen for one in held) >= MOST_CHOSEN:
            raise ValueError(f"{new.account} has {MOST_CHOSEN} chosen application passwords, and that is the most")
        self._connection.execute("INSERT INTO app_passwords VALUES (?, ?, ?, ?, ?, ?, ?)", attrs.astuple(new))

    def revoke(self, account: str, name: str) -> bool:
        """Remove one; whether it was there."""
        done = self._connection.execute("DELETE FROM app_passwords WHERE account = ? AND name = ?", (account, name))
        return bool(done.rowcount)

    def revoke_all(self, account: str) -> int:
        """Remove all of an account; how many there were."""
        return self._connection.execute("DELETE FROM app_passwords WHERE account = ?", (account,)).rowcount

    def set_secret(self, of: AppPassword, secret: bytes) -> None:
        """Store the secret of one anew."""
        self._connection.execute(
            "UPDATE app_passwords SET secret = ? WHERE account = ? AND name = ?", (secret, of.account, of.name)
        )

    def note_used(self, uses: Mapping[tuple[str, str], int]) -> None:
        """Note when passwords, by account and name, were used; one that has gone meanwhile stays gone."""
        self._connection.executemany(
            "UPDATE app_passwords SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE account = ? AND name = ?",
            [(at, *key) for key, at in uses.items()],
        )


def create(path: str) -> None:
    """
    Make a new, empty database, mode 0600.

    @raise FileExistsError: when there is a file of that name
    @raise OSError: when it cannot be made
    """
    try:
        database.create(path, _FAMILY)
    except sqlite3.Error as error:
        raise OSError(0, str(error), path) from None


class AppPasswordStore:
    """
    See the module.

    @ivar path: the database's file
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._held: dict[str, tuple[AppPassword, ...]] = {}
        self._reader = Reader(path, _FAMILY, self._held.clear)

    def held(self, account: str) -> tuple[AppPassword, ...]:
        """
        The application passwords of an account, from memory where nobody has written.

        @raise LookupUnavailable: when the database cannot say
        """
        with self._errors():
            connection = self._reader.connection()
            found = self._held.get(account)
            if found is None:
                found = tuple(_rows(connection, account))
                if len(self._held) >= _CACHE_ACCOUNTS:
                    self._held.clear()
                self._held[account] = found
        return found

    def all(self) -> list[AppPassword]:
        """Every application password, by account and name."""
        with self._errors():
            return _rows(self._reader.connection(), None)

    def check(self) -> list[str]:
        """What is wrong with the database, one line each.  @raise LookupUnavailable: when it cannot be used at all"""
        with self._errors():
            verdict = str(self._reader.connection().execute("PRAGMA quick_check(1)").fetchone()[0])
        return [] if verdict == "ok" else [f"{self.path}: database is damaged: {verdict}"]

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """
        A transaction: all of it happens, or nothing when an exception leaves it.  Blocks: not for the reactor.

        @raise LookupUnavailable: when the database cannot be written
        """
        try:
            os.stat(self.path)
            connection = database.connect(self.path, _FAMILY)
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from None
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Writer(connection)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unavailable(error) from None
        finally:
            connection.close()

    def close(self) -> None:
        """Close what is open; the next call opens it again.  Idempotent."""
        self._reader.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What goes wrong in reading becomes LookupUnavailable; the connection is opened anew next time."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._unavailable(error) from None

    def _unavailable(self, error: sqlite3.Error | OSError) -> LookupUnavailable:
        if isinstance(error, FileNotFoundError):
            return LookupUnavailable(f"there is no database {self.path}; 'tpops apppasswd init' makes it")
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return LookupUnavailable(f"cannot use {self.path}: {reason}")


def _rows(connection: sqlite3.Connection, account: str | None) -> list[AppPassword]:
    if account is None:
        found = connection.execute(_SELECT + " ORDER BY account, name")
    else:
        found = connection.execute(_SELECT + " WHERE account = ? ORDER BY name", (account,))
    return [AppPassword(*row) for row in found]
