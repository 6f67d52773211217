"""
The mail of an account, opened for a command.

Purpose: what the commands of "tpops mailbox" share: whose rights they work with, and the lock.  They open maildrops as
the server does, with the same exclusive lock as a POP3 session, and with the rights of the server's user where root
runs them, so that locks and listings that they make are his.  Where sessions run as the owners of mail
(C{sessions.run_as}), it is the owner's rights, and his places for locks and listings.
Limits: one command, one account; a reactor runs meanwhile (L{tpops.backend.run}).
Errors: click.ClickException with one line for the operator.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
import click
from twisted.internet.defer import Deferred

from tpops import backend
from tpops.admin.context import configuration
from tpops.admin.lock_holders import holders
from tpops.backend import Backend
from tpops.config.schema import Config
from tpops.coroutines import run
from tpops.errors import BadCredentials, ConfigError, MaildropBroken, MaildropBusy
from tpops.file_assembly import file_maildrops
from tpops.interfaces import IMaildrop, IStoredMessage
from tpops.mailbox.locations import Maildrops
from tpops.mailbox.stored_file import RunInThread
from tpops.model import Account
from tpops.process import own_places
from tpops.process.owners import group_ids, owner_of
from tpops.process.privileges import Deputy, Identity, identity

_T = TypeVar("_T")

#: Octets that are asked for at once.
CHUNK_OCTETS = 1 << 18


@attrs.frozen
class Mailbox:
    """
    Mail of one account.

    @ivar account: whose
    @ivar run_in_thread: runs a blocking function in a thread
    """

    account: Account
    run_in_thread: RunInThread
    _maildrops: Maildrops
    _reactor: Any
    _removals: list[Deferred[None]] = attrs.Factory(list)

    @property
    def name(self) -> str:
        """Of the account."""
        return self.account.name

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[IMaildrop]:
        """Within, the maildrop is open and locked."""
        try:
            maildrop = await self._maildrops.open_maildrop(self.account)
        except MaildropBusy as busy:
            raise click.ClickException(_in_use(self.name, busy)) from None
        except MaildropBroken as broken:
            hint = ""
            if isinstance(broken.__cause__, PermissionError) and os.geteuid() != 0:
                hint = "; run this as root, or as the user that the server runs as"
            raise click.ClickException(f"{broken}{hint}") from None
        reactor = self._reactor
        # Ctrl-C leaves no lock behind, and lets a removal that has begun come to its end.
        trigger = reactor.addSystemEventTrigger("before", "shutdown", lambda: run(self._release(maildrop)))
        try:
            yield maildrop
        finally:
            with contextlib.suppress(ValueError):
                reactor.removeSystemEventTrigger(trigger)  # it has gone off, or it may go
            await maildrop.close()

    async def remove(self, maildrop: IMaildrop, numbers: Collection[int]) -> None:
        """See L{IMaildrop.remove}."""
        over: Deferred[None] = Deferred()
        self._removals.append(over)
        try:
            await maildrop.remove(numbers)
        finally:
            over.callback(None)

    async def _release(self, maildrop: IMaildrop) -> None:
        for removal in self._removals:
            await removal
        await maildrop.close()


def work_on(context: click.Context, user: str, work: Callable[[Mailbox], Awaitable[_T]], deputy: Deputy) -> _T:
    """
    Do some work with the mail of an account.

    @param user: its name, as somebody wrote it
    @param deputy: begins when the accounts sources have started, or when the owner is known
    """
    config = configuration(context).config

    async def found(behind: Backend) -> _T:
        if not config.sessions.apart:
            deputy.begin()
        try:
            account = await behind.account(user)
        except BadCredentials as error:
            raise click.ClickException(f"there is no account {user!r}: {error}") from None
        # By now it is the one that runs.
        from twisted.internet import reactor

        maildrops = behind.maildrops
        if config.sessions.apart:
            maildrops = _as_owner(config, account, deputy, reactor, behind.run_in_thread)
        return await work(Mailbox(account, behind.run_in_thread, maildrops, reactor))

    return backend.run(config, found)


def _as_owner(config: Config, account: Account, deputy: Deputy, reactor: Any, run_in_thread: RunInThread) -> Maildrops:
    """Become the owner of an account's mail, as its sessions do; gives the maildrops that they have."""
    try:
        owner = owner_of(account, config.sessions.minimum_uid, group_ids(config.sessions.groups))
        for path in own_places.wanted(config):
            own_places.make(path, owner)
    except (MaildropBroken, ConfigError) as problem:
        raise click.ClickException(str(problem)) from None
    deputy.work_for(Identity(owner.uid, owner.gid, None), owner.groups)
    deputy.begin()
    spools = os.path.join(owner.home or "/", ".tpops", "mbox")
    return file_maildrops(config, spools, reactor, run_in_thread, whose=str(owner.uid))


def deputy_of(config: Config) -> Deputy:
    """
    Who works with the mail: the server's user, or whose it is, which is known later.

    @raise click.ClickException: when this process may not
    """
    if config.sessions.apart:
        if os.geteuid() != 0:
            raise click.ClickException('the mail belongs to many users (sessions.run_as = "owner"): run this as root')
        return Deputy(None)
    who = identity(config.server.user, config.server.group)
    if who is not None and os.geteuid() not in (0, who.uid):
        name = who.name or who.uid
        raise click.ClickException(f"the mail belongs to the server's user: run this as root or as {name}")
    return Deputy(who)


async def read(message: IStoredMessage, octets: int = CHUNK_OCTETS) -> bytes:
    """The next octets of a message, b"" at its end."""
    chunk = message.read(octets)
    return chunk if isinstance(chunk, bytes) else await chunk


def _in_use(name: str, busy: MaildropBusy) -> str:
    """Who is to be waited for."""
    found = holders(busy.lock) if busy.lock else []
    by = f", held by {' and '.join(found)}" if found else ""
    return f"the mail of {name} is in use: {busy}{by}; nothing was done, try again when that has ended"
