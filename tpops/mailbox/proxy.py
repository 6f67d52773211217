"""
Maildrops on another POP3 server (TPOPS 0.8 C{pop-server}).

Purpose: L{ProxyStore} logs in there and lists; a L{ProxyMaildrop} passes messages on as they come.  The password is, in
this order: the one that the accounts source knows for the account there, the configured one, the client's own.
Lock: the other server's; its [IN-USE] is ours.
Removal: nothing is marked there before UPDATE.  Then come all DELEs, the QUIT behind them, and only the other server's
+OK to that counts.  A session that ends without QUIT ends there without QUIT, too.
Limits: when the connection to the other server is lost, the session goes on with what it knows and has no more
messages: message numbers of a new connection need not be the same.
Errors: what the other server says is in the text for the log; clients get its response codes with our words.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection

from twisted.logger import Logger
from zope.interface import implementer

from tpops.errors import (
    BadCredentials,
    MaildropBroken,
    MessageVanished,
    RemoveFailed,
    StorageError,
    StorageUnavailable,
    TpopsError,
)
from tpops.interfaces import IMaildrop, INotesRetrieval, IOpensTop, ISnapshot, IStoredMessage, IToldOfUpdate
from tpops.mailbox.proxy_listing import listing_of
from tpops.model import Account, Caller, Elsewhere
from tpops.upstream.login import Identity, refusal
from tpops.upstream.readers import Message, together
from tpops.upstream.replies import Status
from tpops.upstream.servers import LoggedIn, Place, Upstream

_log = Logger()

#: So many DELEs are on their way at once.
_AT_ONCE = 500

#: QUIT may take so many times the usual time: the other server removes then.
_QUIT_PATIENCE = 5.0

#: Octets that may come of an unwanted message beyond twice what was announced.
_SLACK = 1 << 20

#: Sizes that are known better than the other server announces them.
_MOST_CORRECTIONS = 100_000

#: Finds what an account has elsewhere.
Lookup = Callable[[Account], Awaitable[Elsewhere | None]]

#: Of a message: server and name there, unique-id.
_Key = tuple[str, bytes, bytes]


class Corrections:
    """Sizes that messages turned out to have, where the other server announced others; bounded, in memory only."""

    def __init__(self) -> None:
        self._octets: OrderedDict[_Key, int] = OrderedDict()
        self._users: dict[tuple[str, bytes], set[bytes]] = {}

    def note(self, place: str, user: bytes, unique_id: bytes, octets: int) -> None:
        """A message has so many octets."""
        self._octets[(place, user, unique_id)] = octets
        self._users.setdefault((place, user), set()).add(unique_id)
        if len(self._octets) > _MOST_CORRECTIONS:
            (oldest, of, gone), _ = self._octets.popitem(last=False)
            left = self._users[(oldest, of)]
            left.discard(gone)
            if not left:
                del self._users[(oldest, of)]

    def of(self, place: str, user: bytes) -> dict[bytes, int]:
        """What is known of one maildrop, by unique-id."""
        known = self._users.get((place, user), ())
        return {unique_id: self._octets[(place, user, unique_id)] for unique_id in known}


@implementer(IMaildrop, IOpensTop, IToldOfUpdate, INotesRetrieval)
class ProxyMaildrop:
    """See the module."""

    def __init__(self, session: LoggedIn, messages: ISnapshot, corrections: Corrections) -> None:
        self.messages = messages
        self._session = session
        self._connection = session.connection
        self._corrections = corrections

    async def open(self, number: int) -> IStoredMessage:
        """See L{IMaildrop.open}."""
        return await self._open(b"RETR %d" % number, number)

    async def open_top(self, number: int, lines: int) -> IStoredMessage:
        """See L{IOpensTop.open_top}; all of it where the other server has no TOP."""
        if not self._session.capabilities.may(b"TOP"):
            return await self.open(number)
        return await self._open(b"TOP %d %d" % (number, lines), number)

    async def _open(self, command: bytes, number: int) -> IStoredMessage:
        message = Message(self._connection, 2 * self.messages.sizes[number - 1] + _SLACK)
        try:
            status = await self._connection.send(command, message)
        except BaseException:
            message.close()
            raise
        if not status.positive:
            raise _not_there(status, self._connection.where, number)
        return message

    def sent(self, number: int, octets: int) -> None:
        """See L{INotesRetrieval.sent}: the other server announces sizes that are not exact."""
        session = self._session
        self._corrections.note(str(session.place), session.user, self.messages.unique_id(number), octets)

    async def mark_seen(self, numbers: Collection[int]) -> None:
        """See L{INotesRetrieval.mark_seen}: the other server knows."""

    async def remove(self, numbers: Collection[int]) -> None:
        """See L{IMaildrop.remove}."""
        wanted = list(numbers)
        kept: list[int] = []
        why = ""
        at_once = _AT_ONCE if b"PIPELINING" in self._session.capabilities.names else 1
        try:
            for first in range(0, len(wanted), at_once):
                some = wanted[first : first + at_once]
                for number, status in zip(some, await together([self._dele(one) for one in some]), strict=True):
                    if not status.positive:
                        kept.append(number)
                        why = f"{self._connection.where} says to DELE {number}: {status.text}"
        except StorageUnavailable as problem:
            # Without QUIT the other server removes nothing.
            self._session.close()
            raise RemoveFailed(wanted, f"nothing was removed, the session ended before QUIT: {problem}") from problem
        try:
            status = await self._quit()
        except StorageUnavailable as problem:
            raise RemoveFailed(wanted, f"nobody knows what was removed, no answer to QUIT: {problem}") from problem
        if not status.positive:
            where = self._connection.where
            raise RemoveFailed(wanted, f"some or all of {len(wanted)} messages stay; {where} says {status.text}")
        if kept:
            raise RemoveFailed(kept, f"{len(kept)} of {len(wanted)} messages stay; {why}")

    async def update(self) -> None:
        """See L{IToldOfUpdate.update}."""
        if not self._connection.alive:
            return
        try:
            status = await self._quit()
        except StorageUnavailable as problem:
            _log.info("QUIT without deletions: {problem}", problem=str(problem))
            return
        if not status.positive:
            _log.warn("{where} says to QUIT: {text}", where=self._connection.where, text=status.text)

    async def close(self) -> None:
        """See L{IMaildrop.close}."""
        self._session.close()

    async def _dele(self, number: int) -> Status:
        return await self._connection.send(b"DELE %d" % number)

    async def _quit(self) -> Status:
        status = await self._connection.send(b"QUIT", patience=_QUIT_PATIENCE)
        self._connection.close()
        return status


def _not_there(status: Status, where: str, number: int) -> TpopsError:
    """What a negative answer to RETR or TOP means."""
    if status.code:
        found = refusal(status, where)
        if isinstance(found, StorageError):
            return found
    return MessageVanished(f"{where} says of message {number}: {status.text}")


class ProxyStore:
    """
    See the module; a L{tpops.mailbox.locations.Store}.

    @param hashes: hashes of headers stand for unique-ids that another server does not have
    @param upstream: the other servers
    @param lookup: finds what an account has there
    """

    def __init__(self, hashes: bool, upstream: Upstream, lookup: Lookup) -> None:
        self._hashes = hashes
        self._upstream = upstream
        self._lookup = lookup
        self._corrections = Corrections()

    async def open_at(self, account: Account, place: bytes) -> ProxyMaildrop:
        """A maildrop, without anybody's password but those that we know."""
        return await self.open_for(account, place, None)

    async def open_for(self, account: Account, place: bytes, caller: Caller | None) -> ProxyMaildrop:
        """See L{tpops.interfaces.IOpensForCaller.open_for}."""
        server = self._upstream.place(account.name, os.fsdecode(place))
        session = self._brought(account, server, caller) or await self._log_in(account, server, caller)
        try:
            known = self._corrections.of(str(server), session.user)
            messages = await listing_of(session, self._hashes, known)
        except BaseException:
            session.close()
            raise
        return ProxyMaildrop(session, messages, self._corrections)

    def _brought(self, account: Account, server: Place, caller: Caller | None) -> LoggedIn | None:
        """The session in which the accounts source has verified the password."""
        found = None if caller is None else caller.brought.pop((account.name, server), None)
        return found if isinstance(found, LoggedIn) and found.connection.alive else None

    async def _log_in(self, account: Account, server: Place, caller: Caller | None) -> LoggedIn:
        elsewhere = await self._lookup(account) or Elsewhere()
        user = self._upstream.user(account.name) if elsewhere.user is None else elsewhere.user.encode()
        theirs = self._upstream.settings.password if elsewhere.password is None else elsewhere.password
        own = caller.password if caller is not None else None
        password = own if theirs is None else theirs
        if password is None:
            raise MaildropBroken(
                f"there is no password for {account.name!r} at {server}: the client has not sent the account's own "
                "(APOP, CRAM-MD5, SCRAM, a token, a certificate, an application password or a master user do not), and "
                f"neither the accounts source {account.driver} nor proxy.password has one"
            )
        try:
            return await self._upstream.log_in(server, Identity(user, password), caller)
        except BadCredentials as refused:
            if theirs is None:
                raise
            raise MaildropBroken(
                f"the password that is known for {account.name!r} is not accepted: {refused}"
            ) from None
