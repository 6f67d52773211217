"""
The listing of a maildrop on another server.

Purpose: STAT, LIST and UIDL, asked at once where that server does pipelining (RFC 2449 §6.6), become a L{Snapshot}.
Unique-ids are those of the other server, so that clients go on with what they know.  One that RFC 1939 does not allow
is replaced by a hash of it, and one that an earlier message has by a hash of it and of how many had it before.
Where that server has no UIDL, hashes of the messages' headers and sizes can stand for it.
Limits: sizes are as the other server announces them, unless a message was found to have others when it was sent.
Errors: Malformed, where the three do not fit together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from tpops.errors import MaildropBroken
from tpops.mailbox.snapshot import Snapshot
from tpops.mailbox.unique_ids import from_base
from tpops.upstream.login import refusal
from tpops.upstream.readers import take, take_lines, together
from tpops.upstream.replies import Malformed, ScanListing, Status, UniqueIdListing, count_of
from tpops.upstream.servers import LoggedIn

#: So many headers are asked for at once.
_AT_ONCE = 50


class _Asking:
    """
    Asks for one listing.

    @param hashes: whether hashes of headers stand for the unique-ids that the server does not have
    """

    def __init__(self, session: LoggedIn, hashes: bool) -> None:
        self._session = session
        self._hashes = hashes
        self._sizes = ScanListing()
        self._unique_ids = UniqueIdListing()

    async def snapshot(self, corrected: Mapping[bytes, int]) -> Snapshot:
        """
        Ask.

        @param corrected: sizes of messages that are known better, by unique-id
        """
        capabilities = self._session.capabilities
        wants_ids = capabilities.may(b"UIDL")
        if b"PIPELINING" in capabilities.names:
            await together([self._stat(), self._list_sizes(), *([self._list_ids()] if wants_ids else [])])
        else:
            await self._stat()
            if self._count:
                await self._list_sizes()
                if wants_ids:
                    await self._list_ids()
        sizes = self._sizes.sizes
        if len(sizes) != self._count:
            raise Malformed(self._say(f"STAT tells of {self._count} messages, LIST of {len(sizes)}"))
        unique_ids = await self._all_ids(wants_ids)
        if corrected:
            sizes = [corrected.get(one, size) for one, size in zip(unique_ids, sizes, strict=True)]
        return Snapshot.of(sizes, unique_ids, [b""] * len(sizes))

    async def _stat(self) -> None:
        self._count = count_of(self._must(await self._session.connection.send(b"STAT")))

    async def _list_sizes(self) -> None:
        self._must(await take_lines(self._session.connection, b"LIST", self._sizes.take))

    async def _list_ids(self) -> None:
        status = await take_lines(self._session.connection, b"UIDL", self._unique_ids.take)
        if not status.positive and status.code:
            # An answer without a code is what a server gives that does not know UIDL.
            raise refusal(status, self._session.connection.where)

    async def _all_ids(self, asked: bool) -> list[bytes]:
        """The unique-ids, fit for clients."""
        found = self._unique_ids.unique_ids
        if not found and self._count:
            if not self._hashes:
                raise MaildropBroken(
                    self._say(
                        'no UIDL, without which clients cannot leave mail there; see proxy.unique_ids = "headers"'
                    )
                )
            found = await self._hash_headers()
        if len(found) != self._count:
            raise Malformed(self._say(f"STAT tells of {self._count} messages, UIDL of {len(found)}"))
        return _distinct(found)

    async def _hash_headers(self) -> list[bytes]:
        at_once = _AT_ONCE if b"PIPELINING" in self._session.capabilities.names else 1
        found: list[bytes] = []
        for first in range(1, self._count + 1, at_once):
            numbers = range(first, min(first + at_once, self._count + 1))
            found += await together([self._hash_header(number) for number in numbers])
        return found

    async def _hash_header(self, number: int) -> bytes:
        digest = hashlib.sha256(b"%d\n" % self._sizes.sizes[number - 1])
        self._must(await take(self._session.connection, b"TOP %d 0" % number, digest.update))
        return digest.hexdigest()[:40].encode("ascii")

    def _must(self, status: Status) -> Status:
        if not status.positive:
            raise refusal(status, self._session.connection.where)
        return status

    def _say(self, text: str) -> str:
        return f"{self._session.connection.where}: {text}"


async def listing_of(session: LoggedIn, hashes: bool, corrected: Mapping[bytes, int]) -> Snapshot:
    """
    The listing of a session's maildrop.

    @param hashes: whether hashes of headers stand for unique-ids that the server does not have
    @param corrected: sizes of messages that are known better, by unique-id
    @raise StorageUnavailable: when it cannot be had now
    @raise MaildropBroken: when it cannot be had at all
    """
    return await _Asking(session, hashes).snapshot(corrected)


def _distinct(found: list[bytes]) -> list[bytes]:
    """Unique-ids that RFC 1939 allows, no two alike."""
    times: dict[bytes, int] = {}
    distinct: list[bytes] = []
    taken = set(found)
    for one in found:
        nth = times.get(one, 0)
        times[one] = nth + 1
        fit = from_base(one)
        while nth and (fit := _hash(one, nth)) in taken:
            nth += 1
        distinct.append(fit)
    return distinct


def _hash(unique_id: bytes, nth: int) -> bytes:
    return hashlib.sha256(b"%s/%d" % (unique_id, nth)).hexdigest()[:40].encode("ascii")
