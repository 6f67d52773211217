"""
Mailboxes in the tables of TPOPS 0.4 to 0.8, beside a TPOPS that still runs (tpops/db/schema/mysql-classic.sql).

Purpose: messages are the rows of C{msg}: C{header} up to and with the last field's line end, C{body} from behind the
blank line, line ends LF, C{size} what LIST says.  Order is C{timestamp, id}; the unique-id is C{id.uid.timestamp}.
Locks: a row in C{locks} with uid, pid and timestamp, as TPOPS writes it.  A row that is older than TPOPS'
ConnectionKeepTime, or whose process is not there, is taken over, by TPOPS and by us; ours is renewed long before.
The pid and the moment in the row are what tells ours from everybody else's: a session whose row is another's removes
nothing.
What is not in C{size} (NULL) is counted by the server.  C{msgno}, in which TPOPS marks messages, is neither looked at
nor written.
What it costs: a poll is four statements; a listing that is still true is not read again, but the server goes through
the index of the user's messages to see that.
Limits: octets are read and written as they are in the columns; every octet can be in one that is latin1 or a BLOB.
Tables that have no transactions (MyISAM) are read, and messages are removed from them, but new mail is refused.
"""

# ruff: noqa: S608 (statements are put together from constants; values are values)

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence

import attrs

from tpops.db.mysql import Client, DatabaseFailed, Execute
from tpops.db.mysql_changes import Changes
from tpops.errors import MaildropBroken
from tpops.interfaces import IIncomingMessage
from tpops.mailbox import mysql_classic_store
from tpops.mailbox.mysql_schema import (
    FIRST_OCTETS,
    PIECE_OCTETS,
    First,
    Held,
    LockLost,
    State,
    batches,
    good_name,
    marks,
)
from tpops.mailbox.snapshot import Snapshot
from tpops.model import Account

_LOOK = (
    "SELECT u.uid, u.login, l.uid, l.pid, UNIX_TIMESTAMP(l.timestamp), UNIX_TIMESTAMP() "
    "FROM user u LEFT JOIN locks l ON l.uid = u.uid WHERE u.login = %s"
)
_LOCK = "INSERT INTO locks (uid, pid, timestamp) VALUES (%s, %s, FROM_UNIXTIME(%s))"
_OURS = "uid = %s AND pid <=> %s AND UNIX_TIMESTAMP(timestamp) <=> %s"
_TAKE_OVER = f"UPDATE locks SET pid = %s, timestamp = FROM_UNIXTIME(%s) WHERE {_OURS}"
_RENEW = f"UPDATE locks SET timestamp = FROM_UNIXTIME(%s) WHERE {_OURS}"
_STATE = "SELECT COUNT(*), COALESCE(SUM(id), 0), COALESCE(BIT_XOR(CRC32(id)), 0) FROM msg WHERE uid = %s"

_DUPLICATE = 1062


def _wire(column: str) -> str:
    """SQL for the octets that a column has on the wire."""
    plain = f"CAST({column} AS BINARY)"
    ends = f"LENGTH({plain}) - LENGTH(REPLACE({plain}, '\\n', ''))"
    pairs = f"(LENGTH({plain}) - LENGTH(REPLACE({plain}, '\\r\\n', ''))) DIV 2"
    return f"(LENGTH({plain}) + {ends} - {pairs} + IF({plain} = '' OR RIGHT({plain}, 1) = '\\n', 0, 2))"


_HEADER, _BODY = "COALESCE(header, '')", "COALESCE(body, '')"
_HEADER_WIRE = _wire(_HEADER)
_SIZE = f"COALESCE(size, IF({_BODY} = '', {_HEADER_WIRE}, {_HEADER_WIRE} + 2 + {_wire(_BODY)}))"
_LIST = (
    f"SELECT id, {_SIZE}, COALESCE(DATE_FORMAT(timestamp, '%%Y%%m%%d%%H%%i%%s'), '00000000000000') "
    "FROM msg WHERE uid = %s ORDER BY timestamp, id"
)
_FIRST = (
    f"SELECT id, CHAR_LENGTH({_HEADER}), CHAR_LENGTH({_BODY}), CAST(RIGHT(header, 1) AS BINARY), "
    f"{_BODY} <> '' OR {_SIZE} <> {_HEADER_WIRE}, "
    "CAST(SUBSTRING(header, 1, %s) AS BINARY), CAST(SUBSTRING(body, 1, %s) AS BINARY) "
    "FROM msg WHERE uid = %s AND id IN"
)
_MORE = "SELECT CAST(SUBSTRING({}, %s, %s) AS BINARY) FROM msg WHERE uid = %s AND id = %s"

#: User and moment of the rows that are of this process and alive: there may be several drivers in it.
_living: set[tuple[int, int]] = set()

#: How often a lock that changes hands all the time is looked at.
_TRIES = 4


@attrs.define
class Lock:
    """
    See L{Held}.

    @ivar pid: what is in the row
    @ivar written: the moments that may be in the row, the last one first
    """

    mailbox: int
    pid: int
    written: tuple[int, ...]


@attrs.define
class Row:
    """
    The rest of a message; see L{tpops.mailbox.mysql_schema.Rest}.

    @ivar todo: column, offset in it and what is left there, in characters of the column, which may be octets
    """

    uid: int
    message: int
    todo: list[tuple[str, int, int]]

    def more(self, client: Client, until: float) -> bytes:
        """See L{Rest.more}."""
        if not self.todo:
            return b""
        column, offset, left = self.todo.pop(0)
        if not column:
            return b"\n" * left
        asked = min(left, PIECE_OCTETS)
        values = (offset + 1, asked, self.uid, self.message)
        rows = client.select(_MORE.format(column), values, until).rows
        piece: bytes = rows[0][0] if rows else b""
        if not piece:
            raise DatabaseFailed("the message was removed while it was read")
        if asked < left:
            self.todo.insert(0, (column, offset + asked, left - asked))
        return piece


class Classic:
    """
    See the module and L{tpops.mailbox.mysql_schema.Schema}.

    @param lease_seconds: TPOPS' ConnectionKeepTime
    @param by_pid: processes in C{locks} are of this machine
    @param pid: tells this process' number
    @param alive: whether there is a process of that number
    """

    def __init__(
        self,
        lease_seconds: int,
        changes: Changes,
        by_pid: bool = True,
        pid: Callable[[], int] = os.getpid,
        alive: Callable[[int], bool] | None = None,
    ) -> None:
        self.lease_seconds = lease_seconds
        self._changes = changes
        self._by_pid = by_pid
        self._pid = pid
        self._alive = alive or _alive

    def key(self, name: str) -> bytes:
        """See L{Schema.key}."""
        return name.lower().encode("utf-8", "surrogateescape")

    def take(self, client: Client, until: float, name: str) -> Lock | None:
        """See L{Schema.take}."""
        for _ in range(_TRIES):
            uid, locked, pid, written, now = _look(client, until, name)
            mine = Lock(uid, self._pid(), (now,))
            if locked and self._is_live(uid, pid, written, now):
                return None
            if self._write(client, until, mine, (pid, written) if locked else None):
                _living.add((uid, now))
                return mine
        return None

    def _is_live(self, uid: int, pid: int | None, written: int | None, now: int) -> bool:
        """Whether a lock is somebody's."""
        if pid is None or not written or now - written > self.lease_seconds:
            return False
        if pid == self._pid():
            # Of a process before this one, which had the same number, where we know nothing of it.
            return (uid, written) in _living
        return not self._by_pid or self._alive(pid)

    def _write(self, client: Client, until: float, mine: Lock, other: tuple[int | None, int | None] | None) -> bool:
        """Write our row, in place of another's or where there was none; whether nobody was quicker."""
        now = mine.written[0]
        if other is not None:
            return client.select(_TAKE_OVER, (mine.pid, now, mine.mailbox, *other), until).affected > 0
        try:
            client.select(_LOCK, (mine.mailbox, mine.pid, now), until)
        except DatabaseFailed as failed:
            if failed.number != _DUPLICATE:
                raise
            return False
        return True

    def listing(
        self, client: Client, until: float, held: Held, kept: tuple[State, Snapshot] | None
    ) -> tuple[State, Snapshot]:
        """See L{Schema.listing}."""
        uid = held.mailbox
        if kept is not None:
            state = (uid, *map(int, client.select(_STATE, (uid,), until).rows[0]))
            if state == kept[0]:
                return kept
        rows = client.select(_LIST, (uid,), until).rows
        places = [b"%d" % row[0] for row in rows]
        unique_ids = [b"%d.%d.%s" % (row[0], uid, row[2].encode("ascii")) for row in rows]
        check = 0
        for place in places:
            check ^= zlib.crc32(place)
        state = (uid, len(rows), sum(row[0] for row in rows), check)
        return state, Snapshot.of([max(0, int(row[1])) for row in rows], unique_ids, places)

    def first(self, client: Client, until: float, held: Held, places: Sequence[bytes]) -> Mapping[bytes, First]:
        """See L{Schema.first}."""
        values = (FIRST_OCTETS, FIRST_OCTETS, held.mailbox, *map(int, places))
        rows = client.select(f"{_FIRST} ({marks(places)})", values, until).rows
        return {b"%d" % row[0]: _first(held.mailbox, *row) for row in rows}

    def remove(self, client: Client, held: Held, places: Sequence[bytes]) -> None:
        """See L{Schema.remove}."""
        assert isinstance(held, Lock)
        numbers = batches(places)

        def work(execute: Execute) -> None:
            self._claim(execute, held)
            for batch in numbers:
                execute(f"DELETE FROM msg WHERE uid = %s AND id IN ({marks(batch)})", (held.mailbox, *batch))

        def landed(execute: Execute) -> bool:
            execute("SELECT pid FROM locks WHERE uid = %s FOR UPDATE", (held.mailbox,))
            sql = "SELECT id FROM msg WHERE uid = %s AND id IN ({}) LIMIT 1 FOR UPDATE"
            return not any(execute(sql.format(marks(batch)), (held.mailbox, *batch)).rows for batch in numbers)

        if numbers:
            self._changes.make(client, work, landed)

    def _claim(self, execute: Execute, held: Lock) -> None:
        """Make sure, for this transaction, that the mailbox is ours."""
        sql = "SELECT pid, UNIX_TIMESTAMP(timestamp) FROM locks WHERE uid = %s FOR UPDATE"
        rows = execute(sql, (held.mailbox,)).rows
        if not rows or rows[0][0] != held.pid or rows[0][1] not in held.written:
            raise LockLost("the row in the table locks is not ours any more: another session has the mailbox")

    def renew(self, client: Client, until: float, held: Sequence[Held]) -> None:
        """See L{Schema.renew}."""
        now = client.select("SELECT UNIX_TIMESTAMP()", (), until).rows[0][0]
        for one in held:
            assert isinstance(one, Lock)
            before = one.written
            one.written = (now, *before[:1])
            _living.add((one.mailbox, now))
            found = [client.select(_RENEW, (now, one.mailbox, one.pid, moment), until).affected for moment in before]
            if any(found):
                _living.difference_update((one.mailbox, moment) for moment in before if moment != now)
                one.written = (now,)

    def release(self, client: Client, until: float | None, held: Held) -> None:
        """See L{Schema.release}."""
        assert isinstance(held, Lock)
        _living.difference_update((held.mailbox, moment) for moment in held.written)
        for moment in held.written:
            client.select(f"DELETE FROM locks WHERE {_OURS}", (held.mailbox, held.pid, moment), until)

    def add(self, client: Client, name: str, message: IIncomingMessage, at: float, account: Account) -> bytes:
        """See L{Schema.add}."""
        return mysql_classic_store.add(client, self._changes, name, message, at, account)

    def problems(self, client: Client) -> list[str]:
        """See L{Schema.problems}."""
        client.select("SELECT uid, pid, timestamp FROM locks LIMIT 1", ())
        client.select("SELECT id, uid, timestamp, header, body, size FROM msg LIMIT 1", ())
        client.select("SELECT uid, login, quota FROM user LIMIT 1", ())
        return mysql_classic_store.problems(client)


def _look(client: Client, until: float, name: str) -> tuple[int, bool, int | None, int | None, int]:
    """
    The user's number, and his row in C{locks}: whether there is one, its pid and moment; and the time.

    @raise MaildropBroken: when there is no such user
    """
    rows = client.select(_LOOK, (good_name(name),), until).rows
    if not rows or str(rows[0][1]).lower() != name.lower():
        raise MaildropBroken(f"the table user has no login {name!r}, so he has no mail in the database")
    uid, _, locked, pid, written, now = rows[0]
    return uid, locked is not None, pid, None if written is None else int(written), int(now)


def _first(
    uid: int,
    message: int,
    of_header: int,
    of_body: int,
    last: bytes | None,
    blank: int,
    header: bytes | None,
    body: bytes | None,
) -> First:
    """A message whose columns have so many characters and begin so; C{blank} when a blank line follows the header."""
    begin, ends = header or b"", 0
    if blank:
        ends = 1 if last in (None, b"", b"\n") else 2
    todo = [("header", FIRST_OCTETS, of_header - FIRST_OCTETS), ("", 0, ends), ("body", 0, of_body)]
    if of_header <= FIRST_OCTETS:
        begin += b"\n" * ends + (body or b"")
        todo = [("body", FIRST_OCTETS, of_body - FIRST_OCTETS)]
    left = [one for one in todo if one[2] > 0]
    return begin, Row(uid, message, left) if left else None


def _alive(pid: int) -> bool:
    """Whether there is a process of that number on this machine."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
