"""
When users logged in last, and from where: an SQLite file that the server and the commands share.

Purpose: several logins are written together, in a thread; see L{tpops.events.last_login}.
Limits: of each user the addresses that were used last are kept, so many of them, and nothing older than so many days.
A power cut may forget the logins of the last seconds.  A file that is missing is made when something is to be written.
Errors: all of SQLite's, and the file system's, are L{NotKept}.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator

import attrs

from tpops.db import sqlite as database

_FAMILY = "last-logins"

_DAY_SECONDS = 86400

_NOTE = """
    INSERT INTO last_logins VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
        SET at = max(at, excluded.at), count = count + excluded.count, mechanism = excluded.mechanism
"""

_FORGET_MORE = """
    DELETE FROM last_logins WHERE user = ?1 AND address NOT IN
        (SELECT address FROM last_logins WHERE user = ?1 ORDER BY at DESC, address LIMIT ?2)
"""


class NotKept(Exception):
    """The file cannot be read or written; the text says why."""


@attrs.frozen(slots=True)
class LastLogin:
    """
    The last login of a user from an address.

    @ivar address: "" for a UNIX socket
    @ivar at: seconds since the epoch
    @ivar count: how many there were from there
    @ivar mechanism: how he logged in the last time
    """

    user: str
    address: str
    at: int
    count: int
    mechanism: str


class LastLogins:
    """
    See the module.

    @param addresses: how many are kept of each user
    @param days: how long
    """

    def __init__(self, path: str, addresses: int, days: int) -> None:
        self.path = path
        self._addresses = addresses
        self._days = days
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._one_at_a_time = threading.Lock()

    def note(self, logins: Collection[LastLogin], now: int) -> None:
        """
        Write logins down, each with how many it stands for.  For any thread.

        @raise NotKept: when that cannot be done; then none is
        """
        with self._one_at_a_time, _as_not_kept(self.path):
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(_NOTE, [attrs.astuple(one) for one in logins])
                connection.executemany(_FORGET_MORE, [(user, self._addresses) for user in {one.user for one in logins}])
                connection.execute("DELETE FROM last_logins WHERE at < ?", (now - self._days * _DAY_SECONDS,))
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def of(self, user: str) -> list[LastLogin]:
        """
        A user's logins, the newest first.

        @raise NotKept: when the file cannot be read
        """
        with self._one_at_a_time, _as_not_kept(self.path):
            if not os.path.exists(self.path):
                return []
            rows = self._open().execute(
                "SELECT user, address, at, count, mechanism FROM last_logins WHERE user = ? ORDER BY at DESC, address",
                (user,),
            )
            return [LastLogin(*row) for row in rows]

    def forget(self, user: str) -> None:
        """
        Forget a user's logins.

        @raise NotKept: when the file cannot be written
        """
        with self._one_at_a_time, _as_not_kept(self.path):
            if os.path.exists(self.path):
                self._open().execute("DELETE FROM last_logins WHERE user = ?", (user,))

    def close(self) -> None:
        """Idempotent."""
        with self._one_at_a_time:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        """The connection to the file that has this name now."""
        if self._connection is not None:
            with contextlib.suppress(FileNotFoundError):
                facts = os.stat(self.path)
                if (facts.st_dev, facts.st_ino) == self._file:
                    return self._connection
            self._connection.close()
            self._connection = None
        with contextlib.suppress(FileExistsError):
            database.create(self.path, _FAMILY)
        self._connection = database.connect(self.path, _FAMILY, any_thread=True)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        facts = os.stat(self.path)
        self._file = (facts.st_dev, facts.st_ino)
        return self._connection


@contextlib.contextmanager
def _as_not_kept(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise NotKept(f"{path}: {problem.strerror}") from None
    except sqlite3.Error as problem:
        raise NotKept(f"{path}: {problem}") from None
