"""
The store for POP before SMTP in an SQLite file, the embedded default.

Purpose: all workers, the policy service and the commands share one file.  Reading is for one thread and never waits
for a writer (write-ahead log); what was read is kept until somebody writes.  Writing is for any thread.
Limits: a login is on disk when the system writes it there: a power cut may forget those of the last seconds, and their
users log in again.  What ends the process alone forgets nothing.  What operators store is on disk at once.
A file that is missing is made, when something is to be written.
Errors: all of SQLite's are L{StoreFailed}.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import attrs
from zope.interface import implementer

from tpops.db import sqlite as database
from tpops.db.addresses import networks_around
from tpops.db.reader import Reader
from tpops.db.relay import Contents, Facts, IRelayStore, Login, Rule, Sender, StoreFailed, smallest

_FAMILY = "pbs"

#: Pairs of client and sender whose rows are kept in memory.
_CACHE_PAIRS = 10000

_COUNTING = "SELECT address, user, at FROM logins WHERE at > :since AND at <= :now ORDER BY at DESC, address, user"
_PURGE = "DELETE FROM logins WHERE NOT (at > :since AND at <= :now)"

#: The newest logins for L{_Rows}.
_NEWEST = """
    SELECT
        (SELECT max(at) FROM logins WHERE address = :site AND at <= :now),
        (SELECT max(at) FROM usermap JOIN logins USING (user)
            WHERE sender = :sender AND status = 1 AND address = :site AND at <= :now),
        (SELECT max(at) FROM usermap JOIN logins USING (user) WHERE sender = :sender AND at <= :now)
"""

_RULES_FOR = """
    SELECT network, sender, status FROM json_each(?) JOIN accessmap ON network = value
        WHERE sender IS NULL OR sender = ?
"""

_LOGIN = "INSERT INTO logins VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at"
_SENDER = (
    "INSERT INTO usermap (user, sender, status) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET status = excluded.status"
)
_RULE = "INSERT OR REPLACE INTO accessmap (network, sender, status) VALUES (?, ?, ?)"
_EXPIRE = "INSERT INTO param VALUES ('expire', ?) ON CONFLICT DO UPDATE SET value = excluded.value"


@attrs.frozen(slots=True)
class _Rows:
    """What was read for a client and a sender; times are of the newest login, 0 where there is none."""

    any_sender: int
    this_sender: int
    here_at: int
    owner_here_at: int
    owner_anywhere_at: int


@implementer(IRelayStore)
class SQLiteRelayStore:
    """
    See the module.

    @param expire_seconds: how long a login counts, unless the file says otherwise
    @param epoch: seconds since the epoch
    @param made: called with the path of a file that was missing and has been made
    """

    detailed = True

    def __init__(
        self,
        path: str,
        expire_seconds: int,
        epoch: Callable[[], float] = time.time,
        made: Callable[[str], None] = lambda path: None,
    ) -> None:
        self.path = path
        self._configured = expire_seconds
        self._epoch = epoch
        self._made = made
        self._known: dict[tuple[str, str, str], _Rows] = {}
        self._expire: int | None = None
        self._reader = Reader(path, _FAMILY, self._forget_all)
        self._writer: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._one_at_a_time = threading.Lock()

    def make(self) -> None:
        """See L{IRelayStore.make}."""
        with self._writing():
            pass

    # Reading.

    def facts(self, site: str, address: str, sender: str) -> Facts:
        """See L{IRelayStore.facts}."""
        with self._reading() as connection:
            key = (site, address, sender)
            rows = self._known.get(key)
            if rows is None:
                if len(self._known) >= _CACHE_PAIRS:
                    self._known.clear()
                rows = self._known[key] = _read(connection, site, address, sender, int(self._epoch()))
            now = int(self._epoch())
            since = now - self._expire_now(connection)
        return Facts(
            rows.any_sender,
            rows.this_sender,
            since < rows.here_at <= now,
            since < rows.owner_here_at <= now,
            since < rows.owner_anywhere_at <= now,
        )

    def logins(self) -> list[Login]:
        """See L{IRelayStore.logins}."""
        with self._reading() as connection:
            counting = self._counting(self._expire_now(connection))
            rows = connection.execute(_COUNTING, counting)
            return [Login(*row) for row in rows]

    def expire_seconds(self) -> int:
        """See L{IRelayStore.expire_seconds}."""
        with self._reading() as connection:
            return self._expire_now(connection)

    def senders(self, user: str | None) -> list[Sender]:
        """See L{IRelayStore.senders}."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT user, sender, status FROM usermap WHERE ?1 IS NULL OR user = ?1 ORDER BY user, sender", (user,)
            )
            return [Sender(*row) for row in rows]

    def rules(self) -> list[Rule]:
        """See L{IRelayStore.rules}."""
        with self._reading() as connection:
            rows = connection.execute("SELECT network, sender, status FROM accessmap ORDER BY network, sender")
            return [Rule(*row) for row in rows]

    def check(self) -> list[str]:
        """See L{IRelayStore.check}."""
        with self._reading() as connection:
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        return [] if verdict == "ok" else [f"{self.path}: database is damaged: {verdict}"]

    # Writing.

    def record(self, logins: Collection[Login]) -> None:
        """See L{IRelayStore.record}."""
        with self._writing(durable=False) as connection:
            connection.executemany(_LOGIN, [attrs.astuple(login) for login in logins])

    def purge(self) -> int:
        """See L{IRelayStore.purge}."""
        with self._writing(durable=False) as connection:
            expire = _expire(connection, self._configured)
            return connection.execute(_PURGE, self._counting(expire)).rowcount

    def forget(self, address: str, user: str | None) -> int:
        """See L{IRelayStore.forget}."""
        with self._writing() as connection:
            statement = "DELETE FROM logins WHERE address = ?1 AND (?2 IS NULL OR user = ?2)"
            return connection.execute(statement, (address, user)).rowcount

    def set_expire(self, seconds: int | None) -> None:
        """See L{IRelayStore.set_expire}."""
        with self._writing() as connection:
            if seconds is None:
                connection.execute("DELETE FROM param WHERE name = 'expire'")
            else:
                connection.execute(_EXPIRE, (seconds,))

    def put(self, contents: Contents) -> None:
        """See L{IRelayStore.put}."""
        with self._writing() as connection:
            connection.executemany(_LOGIN, [attrs.astuple(login) for login in contents.logins])
            connection.executemany(_SENDER, [attrs.astuple(one) for one in contents.senders])
            connection.executemany(_RULE, [attrs.astuple(rule) for rule in contents.rules])
            if contents.expire_seconds is not None:
                connection.execute(_EXPIRE, (contents.expire_seconds,))

    def remove_sender(self, user: str, sender: str | None) -> int:
        """See L{IRelayStore.remove_sender}."""
        with self._writing() as connection:
            statement = "DELETE FROM usermap WHERE user = ?1 AND (?2 IS NULL OR sender = ?2)"
            return connection.execute(statement, (user, sender)).rowcount

    def remove_rule(self, network: str, sender: str | None) -> bool:
        """See L{IRelayStore.remove_rule}."""
        with self._writing() as connection:
            statement = "DELETE FROM accessmap WHERE network = ? AND sender IS ?"
            return connection.execute(statement, (network, sender)).rowcount > 0

    def close(self) -> None:
        """See L{IRelayStore.close}."""
        self._reader.close()
        with self._one_at_a_time:
            self._close_writer()

    # The connections.

    def _forget_all(self) -> None:
        self._known.clear()
        self._expire = None

    def _expire_now(self, connection: sqlite3.Connection) -> int:
        if self._expire is None:
            self._expire = _expire(connection, self._configured)
        return self._expire

    def _counting(self, expire_seconds: int) -> dict[str, int]:
        now = int(self._epoch())
        return {"now": now, "since": now - expire_seconds}

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._reader.connection()
        except (sqlite3.Error, OSError) as error:
            self._reader.close()
            raise self._failed(error) from None

    @contextmanager
    def _writing(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it, or nothing when an exception leaves it."""
        with self._one_at_a_time:
            try:
                connection = self._connected()
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    # SQLite may have done that already, where the disk is full for instance.
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
                self._close_writer()
                raise self._failed(error) from None

    def _connected(self) -> sqlite3.Connection:
        """The connection for writing, to the file that has the path now."""
        try:
            facts = os.stat(self.path)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                database.create(self.path, _FAMILY)
                self._made(self.path)
            facts = os.stat(self.path)
        if self._writer is not None and self._file != (facts.st_dev, facts.st_ino):
            self._close_writer()
        if self._writer is None:
            self._writer = database.connect(self.path, _FAMILY, any_thread=True)
            self._file = (facts.st_dev, facts.st_ino)
        return self._writer

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _failed(self, error: sqlite3.Error | OSError) -> StoreFailed:
        if isinstance(error, FileNotFoundError):
            return StoreFailed(
                f"there is no database {self.path}; it is made at the first login, or by 'tpops pbs init'"
            )
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return StoreFailed(f"cannot use {self.path}: {reason}")


def _expire(connection: sqlite3.Connection, configured: int) -> int:
    row = connection.execute("SELECT value FROM param WHERE name = 'expire'").fetchone()
    return configured if row is None else int(row[0])


def _read(connection: sqlite3.Connection, site: str, address: str, sender: str, now: int) -> _Rows:
    """What there is of a client and a sender; logins in the future are left out."""
    here, owner_here, owner_anywhere = connection.execute(
        _NEWEST, {"site": site, "sender": sender, "now": now}
    ).fetchone()
    any_sender, this_sender = _rules(connection, address, sender)
    return _Rows(any_sender, this_sender, here or 0, owner_here or 0, owner_anywhere or 0)


def _rules(connection: sqlite3.Connection, address: str, sender: str) -> tuple[int, int]:
    """The status of the rule of the smallest network around an address for any sender, and for this one."""
    if connection.execute("SELECT 1 FROM accessmap LIMIT 1").fetchone() is None:
        return 0, 0
    around = networks_around(address)
    found = connection.execute(_RULES_FOR, (json.dumps(around), sender)).fetchall()
    return smallest([Rule(*row) for row in found], around)
