"""
New mail in the tables of TPOPS (see L{tpops.mailbox.mysql_classic}).

Purpose: a message is cut into header and body while it is read, its line ends become LF, and it is written with
statements of a bounded size, whatever its own: the first makes the row, the others append to it.  All of them are one
transaction, in which the user's row is locked, so that of two deliveries none gets over the quota.
Limits: columns of TPOPS (MEDIUMTEXT) take 16 MiB each; a bigger message does not fit and is refused as one over the
quota is.
"""

# ruff: noqa: S608 (statements are put together from constants; values are values)

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import attrs

from tpops.db.mysql import Client, DatabaseFailed, Execute
from tpops.db.mysql_changes import Changes
from tpops.errors import MaildropBroken, QuotaExceeded
from tpops.interfaces import IIncomingMessage
from tpops.mailbox.mysql_schema import PIECE_OCTETS, good_name
from tpops.mailbox.quota import Quota
from tpops.model import Account
from tpops.protocol.transparency import LineEnds, Octets

_USER = "SELECT uid, login, quota FROM user WHERE login = %s FOR UPDATE"
_HAS = "SELECT COUNT(*), COALESCE(SUM(size), 0), MAX(timestamp) FROM msg WHERE uid = %s"
#: TPOPS writes the server's local time; new mail goes behind all other mail.
_NOW = "CONVERT_TZ(FROM_UNIXTIME(%s), '+00:00', @@global.time_zone)"
_ADD = (
    "INSERT INTO msg (uid, timestamp, header, body, size) "
    f"VALUES (%s, GREATEST({_NOW}, CAST(COALESCE(%s, '1000-01-01') AS DATETIME)), %s, %s, %s)"
)
#: What is longer than the server takes becomes NULL, and then no row is found any more.
_APPEND = (
    "UPDATE msg SET header = CONCAT(header, %s), body = CONCAT(body, %s), size = %s "
    "WHERE id = %s AND header IS NOT NULL AND body IS NOT NULL"
)
_LENGTHS = "SELECT LENGTH(header), LENGTH(body), DATE_FORMAT(timestamp, '%%Y%%m%%d%%H%%i%%s') FROM msg WHERE id = %s"
_SUMS = "SELECT SHA2(header, 256), SHA2(body, 256) FROM msg WHERE id = %s AND uid = %s"
_ENGINES = (
    "SELECT table_name, engine FROM information_schema.tables "
    "WHERE table_schema = DATABASE() AND table_name IN ('user', 'msg', 'locks') AND engine <> 'InnoDB'"
)
_CHARACTERS = (
    "SELECT column_name, character_set_name FROM information_schema.columns WHERE table_schema = DATABASE() "
    "AND table_name = 'msg' AND column_name IN ('header', 'body') AND character_set_name <> 'latin1'"
)

#: The data are too long for the column, or for a statement.
_TOO_LONG = (1406, 1301, 1153)
_TOO_BIG = "the message does not fit into the table msg"

#: The octets are no text in the column's character set.
_NO_TEXT = (1366, 3988)


@attrs.define
class _Written:
    """
    What was written of a message.

    @ivar message: its id
    @ivar unique_id: once it is known
    """

    message: int = 0
    unique_id: bytes = b""
    header: hashlib._Hash = attrs.field(factory=lambda: hashlib.sha256(usedforsecurity=False))
    body: hashlib._Hash = attrs.field(factory=lambda: hashlib.sha256(usedforsecurity=False))
    header_octets: int = 0
    body_octets: int = 0

    def note(self, header: bytes, body: bytes) -> None:
        """So much more."""
        self.header.update(header)
        self.body.update(body)
        self.header_octets += len(header)
        self.body_octets += len(body)


def add(client: Client, changes: Changes, name: str, message: IIncomingMessage, at: float, account: Account) -> bytes:
    """See L{tpops.mailbox.mysql_schema.Schema.add}."""
    others = client.select(_ENGINES, ()).rows
    if others:
        raise MaildropBroken(f"no mail can be stored: {_engine(*others[0])}")
    written = _Written()
    uid = 0

    def work(execute: Execute) -> None:
        nonlocal written, uid
        written = _Written()
        uid, quota = _lock_user(execute, name, account)
        messages, octets, last = execute(_HAS, (uid,)).rows[0]
        quota.admit(name, int(octets), messages, 0)
        size = _write(execute, written, message, (uid, at, last))
        quota.admit(name, int(octets), messages, size)
        header, body, moment = execute(_LENGTHS, (written.message,)).rows[0]
        if (header, body) != (written.header_octets, written.body_octets):
            raise QuotaExceeded(_TOO_BIG)
        written.unique_id = b"%d.%d.%s" % (written.message, uid, moment.encode("ascii"))

    def landed(execute: Execute) -> bool:
        execute(_USER, (name,))
        rows = execute(_SUMS, (written.message, uid)).rows
        return rows == ((written.header.hexdigest(), written.body.hexdigest()),)

    try:
        changes.make(client, work, landed)
    except DatabaseFailed as failed:
        if failed.number in _TOO_LONG:
            raise QuotaExceeded(f"{_TOO_BIG}: {failed}") from None
        if failed.number in _NO_TEXT:
            raise MaildropBroken(f"{failed}; {_character_hint()}") from None
        raise
    return written.unique_id


def problems(client: Client) -> list[str]:
    """What keeps mail from being stored."""
    found = [_engine(*row) for row in client.select(_ENGINES, ()).rows]
    strange = client.select(_CHARACTERS, ()).rows
    if strange:
        found.append(f"{strange[0][0]} in the table msg is in {strange[0][1]}; {_character_hint()}")
    return found


def split(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool, bytes]]:
    """
    A message with LF line ends, in pieces: some of the header, whether the blank line comes now, some of the body.

    The blank line itself is in neither.
    """
    ends, in_header, at_line_start = LineEnds(), True, True
    for text in _converted(chunks, ends):
        if not in_header:
            yield b"", False, text
            continue
        end = 0 if at_line_start and text[:1] == b"\n" else text.find(b"\n\n") + 1
        if end or (at_line_start and text[:1] == b"\n"):
            in_header = False
            yield text[:end], True, text[end + 1 :]
        else:
            at_line_start = text[-1:] == b"\n"
            yield text, False, b""


def _converted(chunks: Iterable[bytes], ends: LineEnds) -> Iterator[bytes]:
    """Pieces that are not empty, with LF line ends."""
    for chunk in chunks:
        for first in range(0, len(chunk), PIECE_OCTETS):
            text = ends.feed(chunk[first : first + PIECE_OCTETS])
            if text:
                yield text
    rest = ends.finish()
    if rest:
        yield rest


def _write(execute: Execute, written: _Written, message: IIncomingMessage, about: tuple[int, float, object]) -> int:
    """
    Write a message; gives its size.

    @param about: whose it is, when it came, and when the last one before it did
    """
    wire, header, body = Octets(), b"", b""

    def flush(size: int) -> None:
        written.note(header, body)
        if written.message:
            if not execute(_APPEND, (header, body, size, written.message)).affected:
                raise QuotaExceeded(_TOO_BIG)
        else:
            uid, at, last = about
            written.message = execute(_ADD, (uid, int(at), last, header, body, size)).identity

    for of_header, blank, of_body in split(message.chunks()):
        if len(header) + len(body) + len(of_header) + len(of_body) > PIECE_OCTETS:
            flush(0)
            header = body = b""
        wire.feed(of_header)
        if blank:
            wire.feed(b"\n")
        wire.feed(of_body)
        header += of_header
        body += of_body
    flush(wire.total())
    return wire.total()


def _lock_user(execute: Execute, name: str, account: Account) -> tuple[int, Quota]:
    """The user's number, and what he may have; nobody else stores mail for him now."""
    rows = execute(_USER, (good_name(name),)).rows
    if not rows or str(rows[0][1]).lower() != name.lower():
        raise MaildropBroken(f"the table user has no login {name!r}, so he has no mail in the database")
    uid, _, limit = rows[0]
    octets = limit if account.quota_octets is None else account.quota_octets
    return uid, Quota(octets or 0, account.quota_messages or 0)


def _engine(table: str, engine: str) -> str:
    return f"the table {table} is in {engine}, which has no transactions: ALTER TABLE {table} ENGINE = InnoDB"


def _character_hint() -> str:
    return "not every message can be kept in it: ALTER TABLE msg MODIFY header MEDIUMBLOB, MODIFY body MEDIUMBLOB"
