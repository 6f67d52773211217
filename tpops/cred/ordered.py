"""
The ordered checker: all accounts sources behind one twisted.cred checker.

Purpose: the Portal keeps one checker per kind of credentials, so the order of the sources lives here.  The name
is made canonical once, and the folder that it may name is taken off it; then the sources are asked in order and the
first yes wins, as in tpop3d.  "No such user" and "wrong password" go on to the next; "account is disabled" and "cannot
say" stop.
Application passwords stand before them, where there are such.
Limits: name and password (IUsernamePassword), a digest over a stored secret (IUsernameHashedPassword, for APOP and
CRAM-MD5), or a name that was verified by other means (IProven).
Speed: as long as the sources answer at once, so does this: no Deferred, no coroutine.
Security: when no source knew the name, work of the length of a password check is done before the same refusal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tpops.coroutines import run
from tpops.cred.hashes import Verifier
from tpops.cred.names import LoginNames, avatar_of, read_avatar_id
from tpops.cred.source import PasswordSource
from tpops.credentials import APOPCredentials, CRAMMD5Credentials, IProven, NamePassword
from tpops.errors import AccountDisabled, BadCredentials, LoginError, LookupUnavailable, UnknownUser
from tpops.interfaces import IKnowsElsewhere
from tpops.model import Account, Elsewhere

#: What a source may answer: the avatar id, at once or later.
Answer = bytes | Awaitable[bytes]


#: What a client may prove himself with.
Credentials = IUsernamePassword | IUsernameHashedPassword


#: Begins the avatar id of a disabled account that may be opened all the same; no source has it in its name.
_DISABLED = "!"

#: Digests that are handed on as they are, under the canonical name.
_DIGESTS = (APOPCredentials, CRAMMD5Credentials)


@implementer(IUsernameHashedPassword)
@attrs.frozen
class Digest:
    """
    A digest in credentials that are not ours, under the canonical name.

    @ivar username: canonical name, in UTF-8
    @ivar checkPassword: whether the digest was made with a secret
    """

    username: bytes
    checkPassword: Callable[[bytes], bool]


class Source(Protocol):
    """An accounts source: ICredentialsChecker and IAccounts in one, with its name in the configuration."""

    @property
    def name(self) -> str:
        """What stands before the colon of its avatar ids."""

    def requestAvatarId(self, credentials: Credentials) -> Answer:
        """See L{ICredentialsChecker.requestAvatarId}."""

    async def account(self, name: str) -> Account:
        """See L{tpops.interfaces.IAccounts.account}."""


class Before(Protocol):
    """Something that is asked before the sources, as L{tpops.cred.app_passwords.AppPasswords}."""

    def concern(self, account: str) -> bool:
        """Whether it has a say about the account of this name; else the sources are asked as if it were not there."""

    def replace(self, account: str) -> bool:
        """Whether what the sources know of this account proves nothing any more."""

    async def verify(
        self,
        account: str,
        credentials: Credentials,
        ordinary: Callable[[Credentials], Answer],
        find: Callable[[], Awaitable[bytes]],
    ) -> bytes:
        """The avatar id for these credentials: C{find} finds it without them, C{ordinary} asks the sources."""


def account_name(sources: Iterable[object], name: str) -> str | None:
    """
    What the first source that has a canonical name calls its account, as far as that can be said without waiting.

    @return: the name itself where it cannot be said, None where surely nobody has it
    """
    for source in sources:
        if not isinstance(source, PasswordSource):
            return name
        try:
            return source.record(name).account.name
        except UnknownUser:
            continue
        except LookupUnavailable:
            return name
    return None


def _went_on(error: UnauthorizedLogin) -> str:
    """
    Why a source that knew the name said no, "" where it did not; the next one may be asked.

    @raise LoginError: when its no is final
    """
    if isinstance(error, UnknownUser):
        return ""
    if isinstance(error, LoginError) and not isinstance(error, BadCredentials):
        raise error
    return str(error) or "wrong password"


@implementer(ICredentialsChecker)
class OrderedChecker:
    """
    Asks the sources one after the other.

    @param drivers: the sources, in the order of the configuration
    @param names: how login names become canonical
    @param verifier: does the work for names that nobody knows
    @param before: is asked before the sources
    """

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword, IProven)

    def __init__(
        self, drivers: Sequence[Source], names: LoginNames, verifier: Verifier, before: Before | None = None
    ) -> None:
        self._drivers = tuple(drivers)
        self._by_name = {driver.name: driver for driver in drivers}
        self._names = names
        self._verifier = verifier
        self._before = before

    def requestAvatarId(  # type: ignore[override]  # Portal takes bytes at once as well
        self, credentials: Credentials | IProven
    ) -> bytes | Deferred[bytes]:
        """
        Verify a name as the client sent it, and the password; or find a name that was verified.

        @raise BadCredentials: when no source says yes
        @raise AccountDisabled: when the password is right and the account may not log in
        @raise LookupUnavailable: when a source that was asked cannot say
        """
        name, folder = self._names.parted(credentials.username)
        answer = self._verified(name, credentials)
        if not folder:
            return answer
        return _in_folder(answer, folder) if isinstance(answer, bytes) else run(_in_folder_later(answer, folder))

    def _verified(self, name: str, credentials: Credentials | IProven) -> bytes | Deferred[bytes]:
        """The same under the canonical name, without a folder."""
        if IProven.providedBy(credentials):
            source, disabled = getattr(credentials, "source", ""), getattr(credentials, "disabled", False)
            return run(self._proven(name, source, disabled))
        handed = _under(name.encode(), credentials)
        if self._before is None:
            return self._ask(handed)
        account = account_name(self._drivers, name) or name
        if self._before.concern(account):
            return run(self._before.verify(account, handed, self._ask, lambda: self._find(name)))
        try:
            answer = self._ask(handed)
        except BadCredentials as refused:
            return run(self._by_other_name(self._before, name, handed, refused))
        if isinstance(answer, bytes) and _account_of(answer) == account:
            return answer
        return run(self._by_source(self._before, name, handed, answer))

    def _ask(self, handed: Credentials) -> bytes | Deferred[bytes]:
        """Ask the sources, in their order, at once as long as they answer at once."""
        reason = ""
        for position, driver in enumerate(self._drivers, start=1):
            try:
                answer = driver.requestAvatarId(handed)
            except UnauthorizedLogin as error:
                reason = _went_on(error) or reason
                continue
            if isinstance(answer, bytes):
                return answer
            return Deferred.fromCoroutine(self._go_on(handed, answer, position, reason))
        if reason:
            raise BadCredentials(reason)
        return Deferred.fromCoroutine(self._refuse(handed))

    async def account(self, avatar_id: bytes) -> Account:
        """
        The account of an avatar id that requestAvatarId gave.  Does not wait where its source does not.

        @raise UnknownUser: when it has gone meanwhile
        @raise LookupUnavailable: when its source cannot say
        """
        source, name, folder = read_avatar_id(avatar_id)
        driver = self._by_name.get(source.removeprefix(_DISABLED))
        if driver is None:
            raise LookupUnavailable(f"there is no accounts source {source!r}")
        try:
            account = await driver.account(name)
        except AccountDisabled as refused:
            if refused.account is None or not source.startswith(_DISABLED):
                raise
            account = refused.account
        return attrs.evolve(account, folder=folder) if folder else account

    async def find(self, name: str) -> Account:
        """
        The account of a canonical name, from the first source that has it, whether it may log in now or not.

        @raise UnknownUser: when surely no source has it
        @raise AccountDisabled: when it may not log in, and its source tells no more
        @raise LookupUnavailable: when a source that was asked cannot say
        """
        for driver in self._drivers:
            try:
                return await driver.account(name)
            except UnknownUser:
                continue
            except AccountDisabled as refused:
                if refused.account is None:
                    raise
                return refused.account
        raise UnknownUser("no source has this name")

    async def elsewhere(self, account: Account) -> Elsewhere | None:
        """
        What its source knows of an account's place at another server, None for nothing.

        @raise LookupUnavailable: when its source cannot say
        """
        knows = IKnowsElsewhere(self._by_name.get(account.driver), None)
        return None if knows is None else await knows.elsewhere(account.name)

    async def _proven(self, name: str, source: str, disabled: bool) -> bytes:
        """A name that was verified, by a secret of C{source} where that is named."""
        avatar_id = await self._find(name, source, disabled)
        if source:
            self._not_replaced(avatar_id)
        return avatar_id

    def _not_replaced(self, avatar_id: bytes) -> None:
        """@raise BadCredentials: when a secret of its source does not let the account in any more"""
        if self._before is not None and self._before.replace(_account_of(avatar_id)):
            raise BadCredentials("wrong password; this account has application passwords, and only those count")

    async def _by_source(self, before: Before, name: str, handed: Credentials, answer: Answer) -> bytes:
        """What the sources answer, who may know the account by another name."""
        try:
            avatar_id = await _settled(answer)
        except BadCredentials as refused:
            return await self._by_other_name(before, name, handed, refused)
        self._not_replaced(avatar_id)
        return avatar_id

    async def _by_other_name(self, before: Before, name: str, handed: Credentials, refused: BadCredentials) -> bytes:
        """The sources have refused; the account may have something in C{before} under its own name."""
        try:
            avatar_id = await self._find(name)
        except LoginError:
            raise refused from None
        account = _account_of(avatar_id)
        if account == name or not before.concern(account):
            raise refused

        def ordinary(_: Credentials) -> Answer:
            raise refused

        async def find() -> bytes:
            return avatar_id

        return await before.verify(account, handed, ordinary, find)

    async def _find(self, name: str, source: str = "", disabled: bool = False) -> bytes:
        """The first account of a name that needs no password any more; of one source where that is named."""
        for driver in self._drivers:
            if source and driver.name != source:
                continue
            try:
                found = await driver.account(name)
            except UnknownUser:
                continue
            except AccountDisabled as refused:
                if refused.account is None or not disabled:
                    raise
                return avatar_of(_DISABLED + refused.account.driver, refused.account.name)
            return avatar_of(found.driver, found.name)
        raise BadCredentials("unknown user")

    async def _go_on(self, handed: Credentials, answer: Answer, position: int, reason: str) -> bytes:
        """Wait for an answer, then ask the sources from C{position} on."""
        try:
            return await _settled(answer)
        except UnauthorizedLogin as error:
            reason = _went_on(error) or reason
        for driver in self._drivers[position:]:
            try:
                return await _settled(driver.requestAvatarId(handed))
            except UnauthorizedLogin as error:
                reason = _went_on(error) or reason
        if reason:
            raise BadCredentials(reason)
        return await self._refuse(handed)

    async def _refuse(self, handed: Credentials) -> bytes:
        """Nobody knows the name."""
        if isinstance(handed, NamePassword):
            await self._verifier.dummy(handed.password)
        raise BadCredentials("unknown user")


def _under(name: bytes, credentials: Credentials) -> Credentials:
    """The same credentials under the canonical name."""
    if IUsernamePassword.providedBy(credentials):
        return NamePassword(name, credentials.password, getattr(credentials, "peer", None))
    if isinstance(credentials, _DIGESTS):
        return attrs.evolve(credentials, username=name)
    return Digest(name, credentials.checkPassword)


def _account_of(avatar_id: bytes) -> str:
    """The name of the account that an avatar id is about."""
    return read_avatar_id(avatar_id)[1]


def _in_folder(answer: bytes, folder: str) -> bytes:
    """The same avatar with a folder of its mail."""
    source, name, _ = read_avatar_id(answer)
    return avatar_of(source, name, folder)


async def _in_folder_later(answer: Deferred[bytes], folder: str) -> bytes:
    return _in_folder(await answer, folder)


async def _settled(answer: Answer) -> bytes:
    return answer if isinstance(answer, bytes) else await answer
