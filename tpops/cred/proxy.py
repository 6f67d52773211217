"""
Accounts of another POP3 server: a password is right when that server says so.

Purpose: no accounts are needed here.  The session in which the password was verified stays open, and becomes that of
the maildrop where the mail is on that server, so that it sees one login and not two.
Limits: passwords only; whoever comes with a digest or is looked up without a password does not exist here.
Security: the server is the configured one, which may depend on the domain of the login name; the domains that are
served are named in the configuration then, so that no client chooses where passwords go.
Errors: a maildrop that is in use there, or a login too soon after the last one, is told as such and no wrong password.
"""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from tpops.cred.source import AskingSource, Means
from tpops.credentials import NamePassword
from tpops.errors import ConfigError, LookupUnavailable, StorageError, UnknownUser
from tpops.interfaces import IAccounts
from tpops.model import Account, Caller
from tpops.upstream.login import Identity


@implementer(IAccounts)
class ProxyAccounts(AskingSource):
    """
    See the module.

    @param domains: the domains of the names that exist there, empty for any
    @param mailbox: where their mail is, "" for the configured location
    @raise ConfigError: when nothing knows how to reach the server
    """

    def __init__(self, name: str, means: Means, domains: Sequence[str] = (), mailbox: str = "proxy:") -> None:
        super().__init__(name, means)
        if means.upstream is None:
            raise ConfigError([f"accounts source {name}: there is no [proxy]"])
        self._upstream = means.upstream
        self._split = means.split
        self._domains = frozenset(domains)
        self._mailbox = mailbox or None

    async def verify(self, credentials: NamePassword) -> Account:
        """See L{AskingSource.verify}."""
        name = credentials.username.decode("utf-8")
        account = self._account(name)
        peer = credentials.peer
        try:
            place = self._upstream.place(name)
            identity = Identity(self._upstream.user(name), credentials.password)
            session = await self._upstream.log_in(place, identity, peer)
        except StorageError as problem:
            raise LookupUnavailable(f"accounts source {self.name}: {problem}") from problem
        if isinstance(peer, Caller):
            before = peer.brought.pop((name, place), None)
            if before is not None:
                before.close()
            peer.brought[(name, place)] = session
        else:
            session.close()
        return account

    def check(self) -> list[str]:
        """See L{Source.check}; the server is not asked, since it answers to passwords only."""
        return []

    def _account(self, name: str) -> Account:
        if self._domains and self._split(name)[1] not in self._domains:
            raise UnknownUser(f"{self.name} has none of this domain")
        return Account(name, self.name, maildrop=self._mailbox)
