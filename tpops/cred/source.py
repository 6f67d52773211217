"""
What the accounts sources with stored password hashes have in common.

Purpose: a source says how to find a record; from that come the twisted.cred checker (requestAvatarId), the
account lookup and the answers that a login needs.  When the password can be verified at once, requestAvatarId
answers at once with bytes, no Deferred: the poll of a known user never leaves the reactor's turn.
Limits: record() must not block for long; it runs in the reactor.
Errors: a disabled account is told as such only after its password was right, else the answer would show that
the name exists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterator

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tpops.cred import schemes
from tpops.cred.hashes import Verifier
from tpops.errors import AccountDisabled, BadCredentials, LookupUnavailable
from tpops.interfaces import IAccounts
from tpops.model import Account


@attrs.frozen(slots=True)
class Record:
    """
    One line of an accounts source.

    @ivar account: the account
    @ivar password_hash: the stored password, "{SCHEME}data"
    @ivar enabled: whether he may log in
    @ivar why_disabled: what the log says where he may not
    @ivar why_wrong: what the log says of a password that does not match
    @ivar avatar_id: "source:name" in octets, what the checker answers
    """

    account: Account
    password_hash: str = attrs.field(repr=False)
    enabled: bool = True
    why_disabled: str = "account is disabled"
    why_wrong: str = "wrong password"
    avatar_id: bytes = attrs.field(init=False)

    @avatar_id.default
    def _make_avatar_id(self) -> bytes:
        return f"{self.account.driver}:{self.account.name}".encode()


@implementer(ICredentialsChecker, IAccounts)
class PasswordSource(ABC):
    """
    Base of the sources that keep password hashes.

    @ivar name: the source's name in the configuration
    @ivar paths: its files, which the server's user must be able to use
    @ivar hint: what the operator should do where he is not, "" for nothing special
    """

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword)

    hint = ""

    def __init__(self, name: str, verifier: Verifier, paths: tuple[str, ...]) -> None:
        self.name = name
        self.paths = paths
        self._verifier = verifier

    @abstractmethod
    def record(self, name: str) -> Record:
        """
        Find a canonical name.

        @raise UnknownUser: when this source surely does not have it
        @raise LookupUnavailable: when the source cannot say
        """

    @abstractmethod
    def check(self) -> list[str]:
        """
        Open the source as a login would: what is wrong in it, one line each, for the operator.

        @raise LookupUnavailable: when the source cannot be used at all
        """

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """
        All accounts, for the command line.

        @raise LookupUnavailable: when the source cannot be used
        """

    def requestAvatarId(  # type: ignore[override]  # Portal takes bytes at once as well
        self, credentials: IUsernamePassword | IUsernameHashedPassword
    ) -> bytes | Deferred[bytes]:
        """
        Verify name and password, or a digest made with it (APOP, CRAM-MD5); the name is canonical, in UTF-8.

        @raise UnknownUser: when this source surely does not have the name
        @raise BadCredentials: when the password is wrong
        @raise AccountDisabled: when the password is right and the account may not log in
        @raise LookupUnavailable: when the source cannot say
        """
        record = self.record(credentials.username.decode("utf-8"))
        if not IUsernamePassword.providedBy(credentials):
            secret = schemes.plain_secret(record.password_hash)
            return _verdict(record, secret is not None and credentials.checkPassword(secret))
        right = self._verifier.verify(credentials.password, record.password_hash)
        if isinstance(right, bool):
            return _verdict(record, right)
        return Deferred.fromCoroutine(_verdict_later(record, right))

    def secrets(self) -> list[bool]:
        """For every account, whether its password is stored as it is; [False] where that cannot be said."""
        try:
            return [schemes.plain_secret(record.password_hash) is not None for record in self.records()]
        except LookupUnavailable:
            return [False]

    async def account(self, name: str) -> Account:
        """See L{IAccounts.account}."""
        record = self.record(name)
        if not record.enabled:
            raise _disabled(record)
        return record.account


def _verdict(record: Record, right: bool) -> bytes:
    if not right:
        raise BadCredentials(record.why_wrong)
    if not record.enabled:
        raise _disabled(record)
    return record.avatar_id


def _disabled(record: Record) -> AccountDisabled:
    return AccountDisabled(f"{record.why_disabled} (accounts source {record.account.driver})")


async def _verdict_later(record: Record, right: Awaitable[bool]) -> bytes:
    return _verdict(record, await right)
