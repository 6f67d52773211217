"""
What the driver of maildrops in MySQL needs of a schema.

Purpose: tables are of one kind or another (L{tpops.mailbox.mysql_v2}, L{tpops.mailbox.mysql_classic}); the driver and
its sessions know only this.  Everything here blocks and is for the threads of L{tpops.db.mysql_pool}.
Errors: L{DatabaseFailed} where nothing else is said.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from tpops.db.mysql import Client, DatabaseFailed
from tpops.db.mysql_servers import Access, Line
from tpops.errors import MaildropBroken, StorageError, StorageUnavailable
from tpops.interfaces import IIncomingMessage
from tpops.mailbox.snapshot import Snapshot
from tpops.model import Account

#: Octets of a message that one statement carries or asks for: quoted, they are at most 1 MiB.
PIECE_OCTETS = 1 << 19

#: Octets that are asked for at first: enough for most messages, and for TOP.
FIRST_OCTETS = 1 << 16

#: Messages that one statement names.
BATCH = 500

#: Most characters of a name.
_NAME_CHARACTERS = 255

#: What makes a listing old.
State = tuple[int, ...]

#: Server's errors after which an administrator is needed, and what he should do.
_BROKEN = {
    1142: "the database's user may not do that; see docs/mail/mysql.md for what to GRANT",
    1146: 'is [mysql] `schema` right? "tpops db status" says what is there, "tpops db init" makes the tables',
    1054: '"tpops db status" says what is there, "tpops db upgrade" makes tables of an older tpops new',
    1290: "the server takes no changes; name only servers that do in [mysql] `servers`",
}


class LockLost(Exception):
    """Another session has taken the maildrop over."""


class Held(Protocol):
    """A mailbox that a session has locked."""

    @property
    def mailbox(self) -> int:
        """Its number."""


class Rest(Protocol):
    """The rest of a message's octets."""

    def more(self, client: Client, until: float) -> bytes:
        """
        The next ones, some but at most L{PIECE_OCTETS}; b"" at the end.

        @raise DatabaseFailed: also when the message is gone
        """


#: The first octets of a message, and what gives the others; None where there are none.
First = tuple[bytes, Rest | None]


class Schema(Protocol):
    """See the module; C{name} is whose mail it is."""

    lease_seconds: int

    def key(self, name: str) -> bytes:
        """What is the same for all names of one mailbox."""

    def take(self, client: Client, until: float, name: str) -> Held | None:
        """
        Lock a mailbox that no session of this process has; None when another one has it.

        @raise MaildropBroken: when nobody of this name can have mail
        """

    def listing(
        self, client: Client, until: float, held: Held, kept: tuple[State, Snapshot] | None
    ) -> tuple[State, Snapshot]:
        """The messages of a locked mailbox, whose places are for C{first} and C{remove}."""

    def first(self, client: Client, until: float, held: Held, places: Sequence[bytes]) -> Mapping[bytes, First]:
        """The first octets of messages, and what gives the rest; those that are gone are not in it."""

    def remove(self, client: Client, held: Held, places: Sequence[bytes]) -> None:
        """
        Remove messages in one transaction.

        @raise LockLost: nothing was removed
        """

    def renew(self, client: Client, until: float, held: Sequence[Held]) -> None:
        """Keep what is locked from being taken over."""

    def release(self, client: Client, until: float | None, held: Held) -> None:
        """Let go of a mailbox, if it is still ours."""

    def add(self, client: Client, name: str, message: IIncomingMessage, at: float, account: Account) -> bytes:
        """
        Store a message; gives its unique-id.

        @param account: whose quota counts
        @raise OSError: when the message cannot be read
        @raise QuotaExceeded: see L{tpops.interfaces.IAppendable}
        @raise MaildropBroken: likewise
        """

    def problems(self, client: Client) -> list[str]:
        """What an operator should put right before this can work."""


def storage_error(failed: DatabaseFailed) -> StorageError:
    """What clients and deliveries are told."""
    hint = _BROKEN.get(failed.number)
    return MaildropBroken(f"{failed}; {hint}") if hint else StorageUnavailable(str(failed))


def look(access: Access, schema: Schema) -> list[str]:
    """What is wrong with a database, for an operator."""
    client = Client(access, Line(access.servers, time.monotonic), writable=True)
    try:
        found = schema.problems(client)
        if client.select("SELECT @@global.read_only", ()).rows[0][0]:
            found.append("the server takes no changes; name only servers that do in [mysql] `servers`")
        return [f"{access.servers[0]}: {problem}" for problem in found]
    except DatabaseFailed as failed:
        return [str(storage_error(failed))]
    finally:
        client.close()


def good_name(name: str) -> str:
    """
    A name that can be an owner's.

    @raise MaildropBroken: when it cannot
    """
    if not name or len(name) > _NAME_CHARACTERS or not name.isprintable() or name != name.strip():
        # The database takes "joe " for "joe".
        raise MaildropBroken(
            f"{name!r} cannot be the owner of mail in the database: 255 printable characters, no space at an end"
        )
    return name


def batches(places: Sequence[bytes]) -> list[list[int]]:
    """The numbers of places, a statement's worth each."""
    return [[int(place) for place in places[first : first + BATCH]] for first in range(0, len(places), BATCH)]


def marks(values: Sequence[object]) -> str:
    """As many "%s" as there are values."""
    return ", ".join(["%s"] * len(values))
