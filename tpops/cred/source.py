"""
What the accounts sources have in common.

Purpose: a source is a twisted.cred checker (requestAvatarId) and an account lookup in one.  Three bases:

    PasswordSource   has stored passwords at hand: says how to find a record, and answers at once where the password
                     can be verified at once, with bytes and no Deferred: the poll of a known user never leaves the
                     reactor's turn
    LookupSource     has stored passwords behind something that must be waited for, such as a database server
    AskingSource     somebody else judges the password

Limits: record() of a PasswordSource must not block for long; it runs in the reactor.
Errors: a disabled account is told as such only after its password was right, else the answer would show that
the name exists.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from tpops.coroutines import run
from tpops.cred import digests, schemes
from tpops.cred.hashes import RunInThread, Verifier
from tpops.credentials import CRAMMD5Credentials, NamePassword
from tpops.errors import AccountDisabled, BadCredentials, LookupUnavailable, UnknownUser
from tpops.interfaces import IAccounts, IKnowsElsewhere
from tpops.model import Account, Elsewhere, Peer

if TYPE_CHECKING:
    from tpops.upstream.servers import Upstream

_T = TypeVar("_T")

#: How long an account is remembered between the password and the opening of the maildrop.
REMEMBERED_SECONDS = 10.0

_REMEMBERED_ACCOUNTS = 10000


@attrs.frozen
class Means:
    """
    What sources work with; the same for all.

    @ivar verifier: compares passwords with stored hashes
    @ivar run_in_thread: runs a blocking function in a thread
    @ivar seconds: a clock that never goes back
    @ivar reactor: for sources that open connections or start processes; None for the command line
    @ivar split: local part and domain of a canonical name
    @ivar hostname: the server's name
    @ivar upstream: the POP3 servers behind this one, None where there are none
    """

    verifier: Verifier
    run_in_thread: RunInThread
    seconds: Callable[[], float]
    reactor: Any
    split: Callable[[str], tuple[str, str]]
    hostname: str
    upstream: Upstream | None = None


@attrs.frozen(slots=True)
class Record:
    """
    One line of an accounts source.

    @ivar account: the account
    @ivar password_hash: the stored password, "{SCHEME}data"
    @ivar enabled: whether he may log in
    @ivar why_disabled: what the log says where he may not
    @ivar why_wrong: what the log says of a password that does not match
    @ivar elsewhere: what the account has at another server that has its mail
    @ivar avatar_id: "source:name" in octets, what the checker answers
    """

    account: Account
    password_hash: str = attrs.field(repr=False)
    enabled: bool = True
    why_disabled: str = "account is disabled"
    why_wrong: str = "wrong password"
    elsewhere: Elsewhere | None = None
    avatar_id: bytes = attrs.field(init=False)

    @avatar_id.default
    def _make_avatar_id(self) -> bytes:
        return f"{self.account.driver}:{self.account.name}".encode()


def has_secret(record: Record) -> bool:
    """Whether a password is stored as it is."""
    if record.elsewhere is not None and record.elsewhere.password is not None:
        return True
    return schemes.plain_secret(record.password_hash) is not None


class Remembered(Generic[_T]):
    """
    What was found of a name, for a short time and bounded.

    @param seconds: the time
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._found: OrderedDict[str, tuple[float, _T]] = OrderedDict()

    def keep(self, name: str, found: _T) -> None:
        """Remember it."""
        self._found[name] = (self._seconds() + REMEMBERED_SECONDS, found)
        self._found.move_to_end(name)
        if len(self._found) > _REMEMBERED_ACCOUNTS:
            self._found.popitem(last=False)

    def get(self, name: str) -> _T | None:
        """What is remembered of a name, None for nothing."""
        until, found = self._found.get(name, (0.0, None))
        if until <= self._seconds():
            self._found.pop(name, None)
            return None
        return found


@implementer(ICredentialsChecker, IAccounts)
class Source(ABC):
    """
    Base of all sources.

    @ivar name: the source's name in the configuration
    @ivar paths: its files, which the server's user must be able to use
    @ivar hint: what the operator should do where he is not, "" for nothing special
    @ivar needs_rights: whether C{start} needs the rights that the server was started with
    """

    credentialInterfaces: tuple[type[Interface], ...] = (IUsernamePassword, IUsernameHashedPassword)

    hint = ""
    needs_rights = False

    #: Told of each right password, and of the record that it is in; must not raise.
    right_password: Callable[[Record, bytes], None] | None = None

    def __init__(self, name: str, paths: tuple[str, ...] = ()) -> None:
        self.name = name
        self.paths = paths

    @abstractmethod
    def requestAvatarId(  # type: ignore[override]  # Portal takes bytes at once as well
        self, credentials: IUsernamePassword | IUsernameHashedPassword
    ) -> bytes | Deferred[bytes]:
        """
        Verify name and password, or a digest made with it (APOP, CRAM-MD5); the name is canonical, in UTF-8.

        @raise UnknownUser: when this source surely does not have the name, or cannot verify such credentials
        @raise BadCredentials: when the password is wrong
        @raise AccountDisabled: when the password is right and the account may not log in
        @raise LookupUnavailable: when the source cannot say
        """

    @abstractmethod
    async def account(self, name: str) -> Account:
        """See L{IAccounts.account}."""

    @abstractmethod
    def check(self) -> list[str]:
        """
        Use the source as a login would: what is wrong in it, one line each, for the operator.  May block.

        @raise LookupUnavailable: when the source cannot be used at all
        """

    def mechanisms(self) -> Iterable[frozenset[str]]:
        """
        What the accounts can prove beside their passwords: for each a set of "APOP" and names of SASL mechanisms.

        A source that need not look at every account gives one set for all.
        """
        return (schemes.NOTHING,)

    def records(self) -> Iterator[Record]:
        """
        All accounts, for the command line; none where they cannot be listed.

        @raise LookupUnavailable: when the source cannot be used
        """
        return iter(())

    def _verdict(self, credentials: IUsernamePassword | IUsernameHashedPassword, record: Record, right: bool) -> bytes:
        """The avatar id, where the credentials go with the record."""
        if not right:
            raise BadCredentials(record.why_wrong)
        avatar_id = _enabled(record).avatar_id
        if self.right_password is not None and IUsernamePassword.providedBy(credentials):
            self.right_password(record, credentials.password)
        return avatar_id

    def unsure_of(self, name: str) -> str:
        """
        Why there may be an account of this canonical name though it is not found; "" where surely there is none.

        For deliveries: mail for somebody who is surely not there comes back to its sender.
        """
        return ""

    def start(self) -> None:  # noqa: B027  # most need nothing
        """
        The server starts; rights are still those that it was started with.

        @raise ConfigError: when the source cannot be used as it is configured
        """

    def stop(self) -> Deferred[None] | None:
        """The server ends: let go of connections and processes."""
        return None


@implementer(IKnowsElsewhere)
class PasswordSource(Source):
    """Base of the sources that have stored passwords at hand."""

    def __init__(self, name: str, means: Means, paths: tuple[str, ...]) -> None:
        super().__init__(name, paths)
        self._verifier = means.verifier

    @abstractmethod
    def record(self, name: str) -> Record:
        """
        Find a canonical name.

        @raise UnknownUser: when this source surely does not have it
        @raise LookupUnavailable: when the source cannot say
        """

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """See L{Source.records}."""

    def requestAvatarId(self, credentials: IUsernamePassword | IUsernameHashedPassword) -> bytes | Deferred[bytes]:
        """See L{Source.requestAvatarId}."""
        record = self.record(credentials.username.decode("utf-8"))
        right = _matches(self._verifier, credentials, record)
        if isinstance(right, bool):
            return self._verdict(credentials, record, right)
        return Deferred.fromCoroutine(self._verdict_later(credentials, record, right))

    async def _verdict_later(
        self, credentials: IUsernamePassword | IUsernameHashedPassword, record: Record, right: Awaitable[bool]
    ) -> bytes:
        return self._verdict(credentials, record, await right)

    def mechanisms(self) -> Iterable[frozenset[str]]:
        """See L{Source.mechanisms}; nothing where the accounts cannot be listed now.  Locked ones do not count."""
        try:
            stored = [record.password_hash for record in self.records()]
            return [schemes.proves(one) for one in stored if not schemes.locked(one)]
        except LookupUnavailable:
            return (schemes.NOTHING,)

    async def account(self, name: str) -> Account:
        """See L{IAccounts.account}."""
        return _enabled(self.record(name)).account

    async def elsewhere(self, name: str) -> Elsewhere | None:
        """See L{tpops.interfaces.IKnowsElsewhere}."""
        return self.record(name).elsewhere


@implementer(IKnowsElsewhere)
class LookupSource(Source):
    """Base of the sources whose stored passwords must be waited for."""

    def __init__(self, name: str, means: Means, paths: tuple[str, ...] = ()) -> None:
        super().__init__(name, paths)
        self._verifier = means.verifier
        self._remembered: Remembered[Record] = Remembered(means.seconds)

    @abstractmethod
    async def find(self, name: str, peer: Peer | None) -> Record:
        """
        Find a canonical name.

        @param peer: the far end, None where it is not known
        @raise UnknownUser: when this source surely does not have it
        @raise LookupUnavailable: when the source cannot say
        """

    def requestAvatarId(self, credentials: IUsernamePassword | IUsernameHashedPassword) -> bytes | Deferred[bytes]:
        """See L{Source.requestAvatarId}."""
        return run(self._verified(credentials))

    async def account(self, name: str) -> Account:
        """See L{IAccounts.account}."""
        record = self._remembered.get(name)
        return _enabled(record or await self.find(name, None)).account

    async def elsewhere(self, name: str) -> Elsewhere | None:
        """See L{tpops.interfaces.IKnowsElsewhere}."""
        record = self._remembered.get(name)
        return (record or await self.find(name, None)).elsewhere

    async def _verified(self, credentials: IUsernamePassword | IUsernameHashedPassword) -> bytes:
        name = credentials.username.decode("utf-8")
        record = await self.find(name, getattr(credentials, "peer", None))
        right = _matches(self._verifier, credentials, record)
        avatar_id = self._verdict(credentials, record, right if isinstance(right, bool) else await right)
        self._remembered.keep(record.account.name, record)
        return avatar_id


class AskingSource(Source):
    """Base of the sources where somebody else judges the password."""

    credentialInterfaces: tuple[type[Interface], ...] = (IUsernamePassword,)

    def __init__(self, name: str, means: Means, paths: tuple[str, ...] = ()) -> None:
        super().__init__(name, paths)
        self._remembered: Remembered[Account] = Remembered(means.seconds)

    @abstractmethod
    async def verify(self, credentials: NamePassword) -> Account:
        """
        The account of a name whose password is right.

        @raise LoginError: as L{Source.requestAvatarId}
        """

    def unsure_of(self, name: str) -> str:
        """See L{Source.unsure_of}."""
        return "may know somebody by his password only; see delivery.complete_sources"

    async def find(self, name: str) -> Account:
        """
        The account of a name that was verified by other means.

        @raise UnknownUser: when this source does not have it, or does not know without a password
        @raise LookupUnavailable: when the source cannot say
        """
        raise UnknownUser(f"{self.name} does not know names without a password")

    def requestAvatarId(self, credentials: IUsernamePassword | IUsernameHashedPassword) -> bytes | Deferred[bytes]:
        """See L{Source.requestAvatarId}."""
        if not isinstance(credentials, NamePassword):
            raise UnknownUser(f"{self.name} judges passwords only")
        return run(self._verified(credentials))

    async def account(self, name: str) -> Account:
        """See L{IAccounts.account}."""
        return self._remembered.get(name) or await self.find(name)

    async def _verified(self, credentials: NamePassword) -> bytes:
        account = await self.verify(credentials)
        self._remembered.keep(account.name, account)
        return f"{self.name}:{account.name}".encode()


def _matches(
    verifier: Verifier, credentials: IUsernamePassword | IUsernameHashedPassword, record: Record
) -> bool | Awaitable[bool]:
    """Whether the credentials go with the stored password."""
    if IUsernamePassword.providedBy(credentials):
        return verifier.verify(credentials.password, record.password_hash)
    if isinstance(credentials, CRAMMD5Credentials):
        contexts = schemes.cram_md5_contexts(record.password_hash)
        if contexts is not None:
            made = digests.cram_md5_digest(contexts, credentials.challenge)
            return hmac.compare_digest(made, credentials.digest)
    secret = schemes.plain_secret(record.password_hash)
    return secret is not None and bool(credentials.checkPassword(secret))


def _enabled(record: Record) -> Record:
    if not record.enabled:
        raise AccountDisabled(f"{record.why_disabled} (accounts source {record.account.driver})", record.account)
    return record
