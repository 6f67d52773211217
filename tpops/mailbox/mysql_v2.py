"""
Mailboxes in the tables of schema v2 (tpops/db/schema/mysql-v2-mail.sql).

Purpose: a session leases its mailbox for a time by the database server's clock; each lease has a number, the fence,
that is higher than the last one's, and the transaction that removes messages counts only while the fence is still the
session's.  A mailbox has two counters that tell whether a listing is still true: C{next_sequence} grows with new
mail, C{rewritten} with every other change; both are written in the transaction that makes the change.
What it costs: a poll of an unchanged mailbox is three statements, each for one row, whatever it holds; new mail costs
one more for what is new.
A mailbox is made when somebody logs in or gets mail for the first time.
Limits: who is named is compared octet by octet.
"""

# ruff: noqa: S608 (statements are put together from constants; values are values)

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence

import attrs

from tpops.db.mysql import Client, DatabaseFailed, Execute
from tpops.db.mysql_changes import Changes
from tpops.errors import MaildropBroken
from tpops.interfaces import IIncomingMessage
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
from tpops.mailbox.quota import Quota, quota_of
from tpops.mailbox.snapshot import Snapshot
from tpops.model import Account
from tpops.protocol.transparency import Octets

_LOOK = (
    "SELECT m.id, m.name, m.rewritten, m.next_sequence, l.fence, l.owner, l.expires_at > UTC_TIMESTAMP(6) "
    "FROM tpops_mailbox m JOIN tpops_lease l ON l.mailbox = m.id WHERE m.name = %s"
)
_MAKE = "INSERT IGNORE INTO tpops_mailbox (name, created_at) VALUES (%s, %s)"
_MAKE_LEASE = "INSERT IGNORE INTO tpops_lease (mailbox) SELECT id FROM tpops_mailbox WHERE name = %s"
_EXPIRY = "UTC_TIMESTAMP(6) + INTERVAL %s SECOND"
_TAKE = (
    f"UPDATE tpops_lease SET owner = %s, fence = %s, expires_at = {_EXPIRY} "
    "WHERE mailbox = %s AND fence = %s AND (owner IN ('', %s) OR expires_at <= UTC_TIMESTAMP(6))"
)
_CLAIM = f"UPDATE tpops_lease SET expires_at = {_EXPIRY} WHERE mailbox = %s AND fence = %s AND owner = %s"
_RENEW = f"UPDATE tpops_lease SET expires_at = {_EXPIRY} WHERE owner = %s AND mailbox IN"
_RELEASE = "UPDATE tpops_lease SET owner = '' WHERE mailbox = %s AND fence = %s"
_LIST = (
    "SELECT sequence, wire_octets, unique_id FROM tpops_message "
    "WHERE mailbox = %s AND sequence >= %s AND sequence < %s ORDER BY sequence"
)
_FIRST = (
    "SELECT m.sequence, m.content, c.octets, SUBSTRING(k.data, 1, %s) FROM tpops_message m "
    "JOIN tpops_content c ON c.id = m.content "
    "LEFT JOIN tpops_chunk k ON k.content = c.id AND k.part = 0 WHERE m.mailbox = %s AND m.sequence IN"
)
_MORE = "SELECT SUBSTRING(data, %s, %s) FROM tpops_chunk WHERE content = %s AND part = %s"
_CONTENTS = (
    "SELECT m.content, c.octets FROM tpops_message m JOIN tpops_content c ON c.id = m.content "
    "WHERE m.mailbox = %s AND m.sequence IN"
)
_SHRINK = (
    "UPDATE tpops_mailbox SET rewritten = rewritten + 1, "
    "messages = IF(messages > %s, messages - %s, 0), octets = IF(octets > %s, octets - %s, 0) WHERE id = %s"
)
_HAS = "SELECT id, name, next_sequence, messages, octets FROM tpops_mailbox WHERE name = %s"
_ADD = (
    "INSERT INTO tpops_message (mailbox, sequence, wire_octets, unique_id, content, received_at) "
    "VALUES (%s, %s, %s, %s, %s, %s)"
)
_GROW = (
    "UPDATE tpops_mailbox SET next_sequence = next_sequence + 1, messages = messages + 1, octets = octets + %s "
    "WHERE id = %s"
)

#: How often a mailbox that changes hands all the time is looked at.
_TRIES = 4


@attrs.frozen
class Lease:
    """
    See L{Held}.

    @ivar fence: the number of this lease
    @ivar state: what the mailbox was like when it was leased
    """

    mailbox: int
    fence: int
    state: State


@attrs.define
class Content:
    """
    See L{tpops.mailbox.mysql_schema.Rest}.

    @ivar left: octets that were not read yet
    @ivar part: the chunk to go on with
    @ivar offset: where in it
    """

    content: int
    left: int
    part: int
    offset: int

    def more(self, client: Client, until: float) -> bytes:
        """See L{Rest.more}."""
        while self.left:
            rows = client.select(_MORE, (self.offset + 1, PIECE_OCTETS, self.content, self.part), until).rows
            if not rows:
                raise DatabaseFailed("the message was removed while it was read")
            piece: bytes = rows[0][0][: self.left]
            if piece:
                self.offset += len(piece)
                self.left -= len(piece)
                return piece
            self.part, self.offset = self.part + 1, 0
        return b""


class V2:
    """
    See the module and L{tpops.mailbox.mysql_schema.Schema}.

    @param owner: what this process is called in the leases; no other is called so
    """

    def __init__(
        self, owner: str, lease_seconds: int, changes: Changes, clock: Callable[[], float] = time.time
    ) -> None:
        self.lease_seconds = lease_seconds
        self._owner = owner
        self._changes = changes
        self._clock = clock

    def key(self, name: str) -> bytes:
        """See L{Schema.key}."""
        return name.encode("utf-8", "surrogateescape")

    def take(self, client: Client, until: float, name: str) -> Lease | None:
        """See L{Schema.take}."""
        for _ in range(_TRIES):
            rows = client.select(_LOOK, (good_name(name),), until).rows
            if not rows:
                self._make(client, name)
                continue
            mailbox, called, rewritten, following, fence, owner, live = rows[0]
            _same(name, called)
            if owner not in ("", self._owner) and live:
                return None
            values = (self._owner, fence + 1, self.lease_seconds, mailbox, fence, self._owner)
            if client.select(_TAKE, values, until).affected:
                return Lease(mailbox, fence + 1, (mailbox, rewritten, following))
        return None

    def listing(
        self, client: Client, until: float, held: Held, kept: tuple[State, Snapshot] | None
    ) -> tuple[State, Snapshot]:
        """See L{Schema.listing}."""
        assert isinstance(held, Lease)
        mailbox, rewritten, following = held.state
        if kept is not None and kept[0][:2] == (mailbox, rewritten):
            begin, old = kept[0][2], kept[1]
        else:
            begin, old = 0, Snapshot.of([], [], [])
        if begin < following:
            rows = client.select(_LIST, (mailbox, begin, following), until).rows
            old = old.extended([row[1] for row in rows], [row[2] for row in rows], [b"%d" % row[0] for row in rows])
        return held.state, old

    def first(self, client: Client, until: float, held: Held, places: Sequence[bytes]) -> Mapping[bytes, First]:
        """See L{Schema.first}."""
        values = (FIRST_OCTETS, held.mailbox, *map(int, places))
        rows = client.select(f"{_FIRST} ({marks(places)})", values, until).rows
        return {b"%d" % row[0]: _first(row[1], row[2], row[3] or b"") for row in rows}

    def remove(self, client: Client, held: Held, places: Sequence[bytes]) -> None:
        """See L{Schema.remove}."""
        assert isinstance(held, Lease)
        numbers = batches(places)

        def work(execute: Execute) -> None:
            self._claim(execute, held)
            contents = [row for batch in numbers for row in _contents(execute, held.mailbox, batch)]
            for first in range(0, len(contents), len(numbers[0])):
                ids = [content for content, _ in contents[first : first + len(numbers[0])]]
                execute(f"DELETE FROM tpops_content WHERE id IN ({marks(ids)})", ids)
            gone, octets = len(contents), sum(size for _, size in contents)
            execute(_SHRINK, (gone, gone, octets, octets, held.mailbox))

        def landed(execute: Execute) -> bool:
            execute("SELECT fence FROM tpops_lease WHERE mailbox = %s FOR UPDATE", (held.mailbox,))
            return not any(_contents(execute, held.mailbox, batch) for batch in numbers)

        if numbers:
            self._changes.make(client, work, landed)

    def _claim(self, execute: Execute, held: Lease) -> None:
        """Make sure, for this transaction, that the mailbox is ours."""
        values = (self.lease_seconds, held.mailbox, held.fence, self._owner)
        if not execute(_CLAIM, values).affected:
            raise LockLost("the lease has run out, and another session has taken the mailbox over")

    def renew(self, client: Client, until: float, held: Sequence[Held]) -> None:
        """See L{Schema.renew}."""
        for batch in batches([b"%d" % one.mailbox for one in held]):
            client.select(f"{_RENEW} ({marks(batch)})", (self.lease_seconds, self._owner, *batch), until)

    def release(self, client: Client, until: float | None, held: Held) -> None:
        """See L{Schema.release}."""
        assert isinstance(held, Lease)
        client.select(_RELEASE, (held.mailbox, held.fence), until)

    def add(
        self,
        client: Client,
        name: str,
        message: IIncomingMessage,
        at: float,
        account: Account,
        unique_id: bytes | None = None,
    ) -> bytes:
        """
        See L{Schema.add}.

        The octets go first, and the mailbox is locked only when they are there, so a big message keeps nobody waiting.

        @param unique_id: the one it already has; without, it gets a new one
        """
        quota = quota_of(account) or Quota()
        self._check_room(client, name, quota)
        given = unique_id or b""
        token = b""

        def work(execute: Execute) -> bytes:
            nonlocal token
            token = given or secrets.token_hex(8).encode("ascii")
            content, stored, wire = _store(execute, message)
            mailbox, called, sequence, messages, octets = execute(f"{_HAS} FOR UPDATE", (name,)).rows[0]
            _same(name, called)
            quota.admit(name, octets, messages, stored)
            token = given or b"%x.%s" % (sequence, token)
            execute(_ADD, (mailbox, sequence, wire, token, content, int(at)))
            execute(_GROW, (stored, mailbox))
            return token

        def landed(execute: Execute) -> bool:
            mailbox = execute(f"{_HAS} FOR UPDATE", (name,)).rows[0][0]
            return bool(
                execute("SELECT 1 FROM tpops_message WHERE mailbox = %s AND unique_id = %s", (mailbox, token)).rows
            )

        self._changes.make(client, work, landed)
        return token

    def restore(self, client: Client, name: str, message: IIncomingMessage, unique_id: bytes, at: float) -> None:
        """Store a message that has a unique-id already, whatever the quota."""
        self.add(client, name, message, at, Account(name, ""), unique_id)

    def problems(self, client: Client) -> list[str]:
        """See L{Schema.problems}."""
        for table in ("mailbox", "lease", "message", "content", "chunk"):
            client.select(f"SELECT 1 FROM tpops_{table} LIMIT 1", ())
        return []

    def _check_room(self, client: Client, name: str, quota: Quota) -> None:
        """Refuse early where there is none; make the mailbox where that is missing."""
        rows = client.select(_HAS, (good_name(name),)).rows
        if not rows:
            self._make(client, name)
            return
        _, called, _, messages, octets = rows[0]
        _same(name, called)
        quota.admit(name, octets, messages, 0)

    def _make(self, client: Client, name: str) -> None:
        """A mailbox for somebody who has none."""

        def work(execute: Execute) -> None:
            execute(_MAKE, (name, int(self._clock())))
            execute(_MAKE_LEASE, (name,))

        self._changes.make(client, work, lambda execute: bool(execute(f"{_HAS} FOR UPDATE", (name,)).rows))


def _first(content: int, octets: int, begin: bytes) -> First:
    """A message whose first octets are these."""
    left = octets - len(begin)
    return begin, Content(content, left, 0, len(begin)) if left else None


def _contents(execute: Execute, mailbox: int, batch: Sequence[int]) -> Sequence[tuple[int, int]]:
    """Those of these messages that are there: number of the content, and octets."""
    answer = execute(f"{_CONTENTS} ({marks(batch)}) FOR UPDATE", (mailbox, *batch))
    return [(row[0], row[1]) for row in answer.rows]


def _store(execute: Execute, message: IIncomingMessage) -> tuple[int, int, int]:
    """Put the octets there; gives their number, and how many there are, as stored and on the wire."""
    content = execute("INSERT INTO tpops_content (octets) VALUES (0)").identity
    wire, stored, part = Octets(), 0, 0
    for piece in message.chunks():
        wire.feed(piece)
        stored += len(piece)
        for first in range(0, len(piece), PIECE_OCTETS):
            data = piece[first : first + PIECE_OCTETS]
            execute("INSERT INTO tpops_chunk (content, part, data) VALUES (%s, %s, %s)", (content, part, data))
            part += 1
    execute("UPDATE tpops_content SET octets = %s WHERE id = %s", (stored, content))
    return content, stored, wire.total()


def _same(name: str, called: str) -> None:
    """The database takes more names for the same than we do."""
    if name != called:
        raise MaildropBroken(f"the owner {name!r} of mail is taken for {called!r} by the database")
