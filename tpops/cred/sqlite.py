"""
Accounts in an SQLite database: the embedded default.

Purpose: the source that "tpops user" writes and the server reads.  Lookups run in the reactor's thread on one
connection: a row that was read before costs one stat and one "PRAGMA data_version", which tells whether another process
wrote meanwhile, so a changed password counts from the next login on.
Limits: the connection is opened at the first lookup, after rights were dropped and workers forked.  The process that
looks up must be able to write to the database's directory (SQLite's write-ahead log).  Writing waits up to
5 seconds for another writer, looking up a quarter of a second.
Errors: all of SQLite's are LookupUnavailable.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from zope.interface import implementer

from tpops.cred.source import Means, PasswordSource, Record
from tpops.db import sqlite as database
from tpops.db.reader import Reader
from tpops.errors import LookupUnavailable, UnknownUser
from tpops.interfaces import IAccountAdmin, IAccounts, IQuotaAdmin, IRenewsHashes
from tpops.model import Account

_FAMILY = "accounts"

#: Rows kept in memory.
_CACHE_ROWS = 10000

_SELECT_ALL = "SELECT name, password_hash, enabled, maildrop, home, uid, gid, quota_octets, quota_messages FROM users"
_SELECT = _SELECT_ALL + " WHERE name = ?"


def create(path: str) -> None:
    """
    Make a new, empty accounts database, mode 0600.

    @raise FileExistsError: when there is a file of that name
    @raise OSError: when it cannot be made
    """
    try:
        database.create(path, _FAMILY)
    except sqlite3.Error as error:
        raise OSError(0, str(error), path) from None


@implementer(IAccounts, IAccountAdmin, IQuotaAdmin, IRenewsHashes)
class SQLiteAccounts(PasswordSource):
    """
    Accounts of one database.

    @param path: the database's file
    @param clock: the time in seconds since the epoch, for created_at and changed_at
    """

    def __init__(self, name: str, means: Means, path: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(name, means, (path,))
        self._path = path
        self._clock = clock
        self._rows: dict[str, Record] = {}
        self._reader = Reader(path, _FAMILY, self._rows.clear)

    def record(self, name: str) -> Record:
        """See L{PasswordSource.record}."""
        try:
            connection = self._reader.connection()
            found = self._rows.get(name)
            return self._read(connection, name) if found is None else found
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from None

    def check(self) -> list[str]:
        """See L{PasswordSource.check}."""
        with self._errors():
            verdict = str(self._reader.connection().execute("PRAGMA quick_check(1)").fetchone()[0])
        return [] if verdict == "ok" else [f"{self._path}: database is damaged: {verdict}"]

    def records(self) -> Iterator[Record]:
        """See L{PasswordSource.records}."""
        with self._errors():
            rows = self._reader.connection().execute(_SELECT_ALL + " ORDER BY name").fetchall()
        return (self._record(*row) for row in rows)

    def add(self, account: Account, password_hash: str) -> None:
        """See L{IAccountAdmin.add}."""
        now = int(self._clock())
        row = (account.name, password_hash, account.maildrop, account.home, account.uid, account.gid, now, now)
        quota = (account.quota_octets, account.quota_messages)
        try:
            self._write("INSERT INTO users VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, *quota))
        except sqlite3.IntegrityError:
            raise ValueError(f"there is already an account {account.name}") from None

    def set_password(self, name: str, password_hash: str) -> None:
        """See L{IAccountAdmin.set_password}."""
        self._change(
            "UPDATE users SET password_hash = ?, changed_at = ? WHERE name = ?",
            (password_hash, int(self._clock()), name),
        )

    def renew_hash(self, name: str, old: str, new: str) -> bool:
        """See L{IRenewsHashes.renew_hash}; on a connection of its own, the server's belongs to the reactor's thread."""
        try:
            connection = database.connect(self._path, _FAMILY)
            try:
                statement = "UPDATE users SET password_hash = ?, changed_at = ? WHERE name = ? AND password_hash = ?"
                return connection.execute(statement, (new, int(self._clock()), name, old)).rowcount > 0
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise LookupUnavailable(f"cannot write {self._path}: {error}") from None

    def set_enabled(self, name: str, enabled: bool) -> None:
        """See L{IAccountAdmin.set_enabled}."""
        self._change("UPDATE users SET enabled = ?, changed_at = ? WHERE name = ?", (enabled, int(self._clock()), name))

    def set_quota(self, name: str, octets: int | None, messages: int | None) -> None:
        """See L{IQuotaAdmin.set_quota}."""
        self._change(
            "UPDATE users SET quota_octets = ?, quota_messages = ?, changed_at = ? WHERE name = ?",
            (octets, messages, int(self._clock()), name),
        )

    def remove(self, name: str) -> None:
        """See L{IAccountAdmin.remove}."""
        self._change("DELETE FROM users WHERE name = ?", (name,))

    def names(self) -> list[tuple[str, bool]]:
        """See L{IAccountAdmin.names}."""
        with self._errors():
            rows = self._reader.connection().execute("SELECT name, enabled FROM users ORDER BY name").fetchall()
        return [(name, bool(enabled)) for name, enabled in rows]

    def close(self) -> None:
        """Close the connection; the next call opens it again.  Idempotent."""
        self._reader.close()

    def stop(self) -> None:
        """See L{Source.stop}; the next call opens the connection again."""
        self.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What goes wrong in the database becomes LookupUnavailable."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from None

    def _failed(self, error: sqlite3.Error | OSError) -> LookupUnavailable:
        """What to raise for it; the connection is opened anew next time."""
        self.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return LookupUnavailable(f"cannot use {self._path}: {reason}")

    def _read(self, connection: sqlite3.Connection, name: str) -> Record:
        row = connection.execute(_SELECT, (name,)).fetchone()
        if row is None:
            raise UnknownUser(f"not in {self.name}")
        found = self._record(*row)
        if len(self._rows) >= _CACHE_ROWS:
            self._rows.clear()
        self._rows[name] = found
        return found

    def _record(
        self,
        name: str,
        password_hash: str,
        enabled: int,
        maildrop: str | None,
        home: str | None,
        uid: int | None,
        gid: int | None,
        quota_octets: int | None,
        quota_messages: int | None,
    ) -> Record:
        """The record of a row, its columns in the order of the query."""
        account = Account(name, self.name, home, maildrop, uid, gid, quota_octets, quota_messages)
        return Record(account, password_hash, bool(enabled))

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        """Write to one account, whose name is the last value."""
        if not self._write(statement, values):
            raise UnknownUser(f"there is no account {values[-1]} in {self.name}")

    def _write(self, statement: str, values: tuple[object, ...]) -> int:
        """Run one statement, at once durable; the number of rows that it touched."""
        with self._errors():
            os.stat(self._path)
            connection = database.connect(self._path, _FAMILY)
            try:
                return connection.execute(statement, values).rowcount
            except sqlite3.IntegrityError as error:
                integrity = error
            finally:
                connection.close()
        raise integrity
