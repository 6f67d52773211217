"""
The realm: from a verified user to his open mailbox.

Purpose: looks the account up, takes the maildrop with its lock, asks whether he may log in now, and hands out the
session's mailbox, whose logout lets go of all of it.
Limits: gives IMailboxPOP3 only.
Cancelling: the Deferred of requestAvatar may be cancelled at any time; a maildrop that is being opened is released
by its driver (see L{tpops.interfaces.IMaildropDriver}).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface import Interface, implementer

from tpops.coroutines import run
from tpops.interfaces import IMaildropDriver, IOpensForCaller, ITicket
from tpops.mailbox.view import Mailbox
from tpops.model import Account, Caller, Peer

#: What a login gives: the interface, the mailbox, and what to call at its end.
Avatar = tuple[type[Interface], Mailbox, Callable[[], Deferred[None]]]

#: The far end of a login over a protocol that does not say who is there.
_NOBODY = Peer(host="unknown")


class Accounts(Protocol):
    """Finds the account of an avatar id, as L{tpops.cred.ordered.OrderedChecker} does."""

    async def account(self, avatar_id: bytes) -> Account:
        """The account."""


@implementer(IRealm)
class Realm:
    """
    Opens mailboxes.

    @param accounts: finds the account of an avatar id
    @param maildrops: opens the maildrop of an account
    @param admit: called with peer and canonical name, and the folder behind it, which is a maildrop of its own; raises
        TooSoon when the last login was too short a time ago
    @param admit_user: called with peer and canonical name before the maildrop is touched, so that those who wait for
        its lock count, too; gives the session's place, raises LimitReached
    """

    def __init__(
        self,
        accounts: Accounts,
        maildrops: IMaildropDriver,
        admit: Callable[[Peer, str], None],
        admit_user: Callable[[Peer, str], ITicket | None],
    ) -> None:
        self._accounts = accounts
        self._maildrops = maildrops
        self._admit = admit
        self._admit_user = admit_user
        self._for_callers = IOpensForCaller(maildrops, None)

    def requestAvatar(  # type: ignore[override]  # never anonymous; logout's Deferred says when all is released
        self, avatarId: bytes, mind: object, *interfaces: type[Interface]
    ) -> Deferred[Avatar]:
        """
        Open the mailbox of a verified user.

        @param mind: the L{Peer}, or the L{Caller} with what he has brought along
        @raise NotImplementedError: when no mailbox is asked for
        """
        if IMailboxPOP3 not in interfaces:
            raise NotImplementedError("tpops gives IMailboxPOP3 only")
        peer = mind if isinstance(mind, Peer) else _NOBODY
        return run(self._open(avatarId, peer))

    async def _open(self, avatar_id: bytes, peer: Peer) -> Avatar:
        account = await self._accounts.account(avatar_id)
        ticket = self._admit_user(peer, account.name)
        if ticket is None:
            mailbox = await self._mailbox(account, peer)
            return IMailboxPOP3, mailbox, mailbox.logout
        try:
            mailbox = await self._mailbox(account, peer)
        except BaseException:
            ticket.release()
            raise
        return IMailboxPOP3, mailbox, partial(_log_out, mailbox, ticket)

    async def _mailbox(self, account: Account, peer: Peer) -> Mailbox:
        if self._for_callers is not None and isinstance(peer, Caller):
            maildrop = await self._for_callers.open_for(account, peer)
        else:
            maildrop = await self._maildrops.open_maildrop(account)
        try:
            # Last, so that only a login that succeeds counts for the next one's delay.
            self._admit(peer, f"{account.name}\n{account.folder}" if account.folder else account.name)
        except BaseException:
            await maildrop.close()
            raise
        return Mailbox(maildrop, account)


def _log_out(mailbox: Mailbox, ticket: ITicket) -> Deferred[None]:
    """Give the session's place back when its maildrop is free."""
    released = mailbox.logout()
    released.addBoth(partial(_give_back, ticket))
    return released


def _give_back(ticket: ITicket, result: None) -> None:
    ticket.release()
    return result
