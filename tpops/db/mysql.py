"""
One connection to MySQL or MariaDB, with time limits, TLS and a next server when one fails.

Purpose: run a SELECT, or a few statements in one transaction, on whichever server of the list answers.  Every step
(connecting, the TLS handshake, sending, waiting for an answer) is limited by the client library, so that a server that
hangs, or a network that swallows everything, costs a bounded time.  A connection that turns out to be dead is
replaced and a SELECT is run once more: a restart of the server, or an idle connection that a firewall forgot, fails
nobody's login.
Limits: blocking, for threads and command lines; one caller at a time.  Resolving a server's name is limited by the
machine's resolver only.  Sessions have a sql_mode of their own: backslashes escape, double quotes are strings,
what does not fit is an error.  A connection for lookups cannot change anything and gets two rows at most.
Security: values are quoted by the client library, which knows the connection's character set and mode; more than one
statement in a text is refused by the server.  LOAD DATA LOCAL is off.
Errors: L{DatabaseFailed}, with what went wrong at which server, and never with a value; L{CommitLost} where nobody can
say whether a transaction counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
import MySQLdb

# MySQLdb imports these with the first connection: then as a user who may not be able to read them.
import MySQLdb.connections
import MySQLdb.converters
import MySQLdb.cursors
from MySQLdb.constants import CLIENT, CR, ER

from tpops.db.mysql_servers import Access, Line, Server

_T = TypeVar("_T")

_MODE = "STRICT_ALL_TABLES"

#: Errors that say that a connection is gone; the same question may be asked on another one.
_GONE = frozenset(
    (
        CR.SERVER_GONE_ERROR,
        CR.SERVER_LOST,
        2055,  # CR_SERVER_LOST_EXTENDED
        ER.SERVER_SHUTDOWN,
        1927,  # MariaDB's ER_CONNECTION_KILLED
        4031,  # MySQL's ER_CLIENT_INTERACTION_TIMEOUT
    )
)

#: Errors that say that a value cannot be written in the character set of the column it is compared with.
_OTHER_CHARACTERS = frozenset(
    (
        ER.CANT_AGGREGATE_2COLLATIONS,
        ER.CANT_AGGREGATE_3COLLATIONS,
        ER.CANT_AGGREGATE_NCOLLATIONS,
        3988,  # MySQL's ER_IMPOSSIBLE_STRING_CONVERSION
    )
)

#: Rows of a lookup: two show that there is more than one.
_LOOKUP_ROWS = 2

#: Longest part of a server's message that goes into a log.
_MESSAGE_CHARACTERS = 300

#: One statement with its values.
Statement = tuple[str, Sequence[object]]

#: Said to the server on a connection that may change something.  Nobody's gaps are locked, and moments are in UTC.
_WRITING = ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET SESSION time_zone = '+00:00'")


class DatabaseFailed(Exception):
    """
    No server gave an answer, or it was an error.

    @ivar number: the error's number, 0 where it is none of the server's
    """

    def __init__(self, why: str, number: int = 0) -> None:
        super().__init__(why)
        self.number = number


class CommitLost(DatabaseFailed):
    """The connection was lost while a transaction was being completed: it counts, or it does not."""


@attrs.frozen
class Answer:
    """
    What a statement gave.

    @ivar columns: names of the columns
    @ivar rows: the rows
    @ivar affected: how many rows a change was for, whether they were so before or not
    @ivar identity: the number that a new row got
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...] = attrs.field(repr=False)
    affected: int
    identity: int = 0


#: Runs a statement within a transaction.
Execute = Callable[..., Answer]


class Client:
    """
    See the module.

    @param line: the order of the servers, shared with other connections
    @param writable: whether it may change anything; then all rows are given
    @param seconds: the time, for the limit over all steps
    """

    def __init__(
        self, access: Access, line: Line, writable: bool = False, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._access = access
        self._line = line
        self._writable = writable
        self._seconds = seconds
        self._connection: Any = None
        self._server: Server | None = None

    def select(self, sql: str, values: Sequence[object], until: float | None = None) -> Answer:
        """
        Run a SELECT, or another statement that may as well be run twice.

        @param sql: with "%s" for each value, and "%%" for a percent sign
        @param until: when nobody waits for it any more, in C{seconds}
        @raise DatabaseFailed: see the module
        """
        until = self._until(until)
        idle = self._connection is not None
        try:
            return self._select(sql, values, until)
        except _Gone as error:
            if not idle:
                raise DatabaseFailed(str(error)) from None
        try:
            return self._select(sql, values, until)
        except _Gone as error:
            raise DatabaseFailed(str(error)) from None

    def transaction(self, work: Callable[[Execute], _T], until: float | None = None) -> _T:
        """
        Call C{work} with a function that runs statements; all of them count, or none when it raises.

        @raise CommitLost: when nobody can say which
        @raise DatabaseFailed: see the module
        """
        self._begin(self._until(until))
        try:
            result = work(self._execute)
        except MySQLdb.Error as error:
            self.close()
            raise _failed(self._server, error) from None
        except BaseException:
            self.close()  # which rolls back
            raise
        try:
            self._connection.commit()
        except MySQLdb.Error as error:
            self.close()
            failure = _failed(self._server, error)
            if failure.number and not _lost(error):
                raise failure from None
            raise CommitLost(str(failure), failure.number) from None
        return result

    def close(self) -> None:
        """Close the connection; the next call opens one.  Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _until(self, until: float | None) -> float:
        return self._seconds() + self._access.timeout_seconds if until is None else until

    def _begin(self, until: float) -> None:
        """Begin a transaction, on another connection where an idle one turns out to be dead."""
        idle = self._connection is not None
        try:
            self._connected(until).begin()
        except MySQLdb.Error as error:
            self.close()
            if not idle or not _lost(error):
                raise _failed(self._server, error) from None
            self._begin(until)

    def _select(self, sql: str, values: Sequence[object], until: float) -> Answer:
        """Once, on the connection that there is or on a new one."""
        self._connected(until)
        began = self._seconds()
        try:
            return self._execute(sql, values)
        except MySQLdb.Error as error:
            number = _number(error)
            if number in _OTHER_CHARACTERS and not all(str(value).isascii() for value in values):
                return Answer((), (), 0)
            failure = _failed(self._server, error)
            if _lost(error):
                self.close()
                if self._server is not None and self._seconds() - began >= self._access.share_seconds() - 0.5:
                    self._line.failed(self._server, str(failure))
                raise _Gone(str(failure)) from None
            raise failure from None

    def _execute(self, sql: str, values: Sequence[object] = ()) -> Answer:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, tuple(values))
            columns = tuple(str(column[0]) for column in cursor.description or ())
            return Answer(columns, tuple(cursor.fetchall()) if columns else (), cursor.rowcount, cursor.lastrowid or 0)

    def _connected(self, until: float) -> Any:
        """
        The connection, to the first server that answers.

        @raise DatabaseFailed: when none does, or when the time is up
        """
        if self._connection is not None:
            return self._connection
        problems: list[DatabaseFailed] = []
        servers = self._line.order()
        for position, server in enumerate(servers):
            left = until - self._seconds()
            if left <= 0:
                problems.append(DatabaseFailed("no time was left for the others" if problems else "no time was left"))
                break
            try:
                self._connection = self._connect(server, left / (len(servers) - position))
            except (MySQLdb.Error, DatabaseFailed) as error:
                problem = error if isinstance(error, DatabaseFailed) else _failed(server, error)
                self._line.failed(server, str(problem))
                problems.append(problem)
            else:
                self._line.answered(server)
                self._server = server
                return self._connection
        raise DatabaseFailed("; ".join(map(str, problems)), problems[0].number)

    def _connect(self, server: Server, seconds: float) -> Any:
        """A connection to this server, in about so many seconds or not at all."""
        access = self._access
        share = access.share_seconds()
        where: dict[str, Any] = {"unix_socket": server.path} if server.path else _tcp(server, access)
        connection = MySQLdb.connect(
            user=access.user,
            password=access.password,
            database=access.database,
            connect_timeout=max(1, min(share, int(seconds))),
            # These stay for as long as the connection does.
            read_timeout=share,
            write_timeout=share,
            charset="utf8mb4",
            sql_mode=_MODE,
            autocommit=True,
            client_flag=CLIENT.FOUND_ROWS,
            multi_statements=False,
            local_infile=False,
            binary_prefix=True,
            **where,
        )
        try:
            self._prepare(connection, server)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: Any, server: Server) -> None:
        """Make sure of TLS, which the library takes for a wish, and of what the connection may do."""
        with connection.cursor() as cursor:
            if self._access.tls != "off" and not server.path:
                cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
                if not cursor.fetchone()[1]:
                    raise DatabaseFailed(f"{server}: the server offers no TLS")
            if self._writable:
                for statement in _WRITING:
                    cursor.execute(statement)
                # Who waits for a lock hears of it from the server before the library gives the connection up.
                wait = max(1, self._access.share_seconds() - 1)
                cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {wait}")
            else:
                cursor.execute(f"SET SESSION sql_select_limit = {_LOOKUP_ROWS}")
                cursor.execute("SET SESSION TRANSACTION READ ONLY")


class _Gone(Exception):
    """The connection is lost."""


def _tcp(server: Server, access: Access) -> dict[str, Any]:
    """Where and how to connect by TCP."""
    where: dict[str, Any] = {"host": server.host, "port": server.port}
    if access.tls == "off":
        return {**where, "ssl_mode": "DISABLED"}
    files = {"ca": access.tls_ca, "cert": access.tls_certificate, "key": access.tls_key or access.tls_certificate}
    where["ssl_mode"] = "VERIFY_IDENTITY" if access.tls == "verify" else "REQUIRED"
    where["ssl"] = {name: path for name, path in files.items() if path}
    return where


def _lost(error: Exception) -> bool:
    """Whether the connection is gone."""
    return _number(error) in _GONE or isinstance(error, MySQLdb.InterfaceError)


def _number(error: Exception) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _failed(server: Server | None, error: Exception) -> DatabaseFailed:
    """What an operator is told."""
    number = _number(error)
    message = str(error.args[-1]) if error.args else type(error).__name__
    if number == ER.PARSE_ERROR:
        # The server quotes the statement, in which there is what a client sent.
        message = message.partition("near '")[0] + "(the rest would show values)"
    shown = "".join(sign if sign.isprintable() else "?" for sign in message[:_MESSAGE_CHARACTERS])
    return DatabaseFailed(f"{server}: {shown} (error {number})" if number else f"{server}: {shown}", number)
