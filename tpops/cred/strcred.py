"""
Any checker of twisted.cred, by its description: "file:/path", "unix", or what a plugin brings.

Purpose: whoever has written a checker for Twisted (L{twisted.cred.strcred}) uses it here unchanged.
Limits: the checker runs in the reactor's thread, and one that blocks stops the server; Twisted's own read a file.
Accounts have no home, uid and gid; mail lies where the configuration says.  The name is what the checker answers (its
avatar id).
Errors: UnauthorizedLogin is a wrong password; whatever else a checker raises is LookupUnavailable, and logged.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.cred import error as cred_error
from twisted.cred import strcred
from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops.coroutines import run
from tpops.cred import names
from tpops.cred.source import AskingSource, Means
from tpops.errors import BadCredentials, ConfigError, LoginError, LookupUnavailable, UnknownUser
from tpops.model import Account

_log = Logger()


class StrcredAccounts(AskingSource):
    """
    See the module.

    @param checker: the description
    @raise ConfigError: when there is no such checker, or it verifies neither passwords nor digests
    """

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword)

    def __init__(self, name: str, means: Means, checker: str) -> None:
        super().__init__(name, means)
        self._split = means.split
        self._checker = _made(name, checker)
        self._judges = tuple(self._checker.credentialInterfaces)
        if not {IUsernamePassword, IUsernameHashedPassword}.intersection(self._judges):
            text = f"the checker {checker.partition(':')[0]!r} verifies neither passwords nor digests of passwords"
            raise ConfigError([f"accounts source {name}: {text}"])

    def requestAvatarId(self, credentials: IUsernamePassword | IUsernameHashedPassword) -> bytes | Deferred[bytes]:
        """See L{Source.requestAvatarId}."""
        if not any(interface.providedBy(credentials) for interface in self._judges):
            raise UnknownUser(f"{self.name} does not verify such credentials")
        return run(self._judged(credentials))

    def mechanisms(self) -> Iterable[frozenset[str]]:
        """See L{Source.mechanisms}."""
        return (frozenset(("APOP", "CRAM-MD5") if IUsernameHashedPassword in self._judges else ()),)

    async def verify(self, credentials: IUsernamePassword | IUsernameHashedPassword) -> Account:
        """See L{AskingSource.verify}."""
        avatar = await self._answered(credentials)
        if avatar is ANONYMOUS or not isinstance(avatar, bytes | str):
            raise BadCredentials("the checker gives no name")
        try:
            name = avatar.decode("utf-8") if isinstance(avatar, bytes) else avatar
        except UnicodeDecodeError:
            raise LookupUnavailable(f"{self.name}: the checker's name is not UTF-8") from None
        if not all(map(names.harmless, filter(None, (name, *self._split(name))))) or not name:
            raise LookupUnavailable(f"{self.name}: the checker's name {name!r} would be dangerous in a path")
        return Account(name, self.name)

    def check(self) -> list[str]:
        """See L{Source.check}."""
        return []

    async def _judged(self, credentials: IUsernamePassword | IUsernameHashedPassword) -> bytes:
        account = await self.verify(credentials)
        self._remembered.keep(account.name, account)
        return f"{self.name}:{account.name}".encode()

    async def _answered(self, credentials: IUsernamePassword | IUsernameHashedPassword) -> object:
        def failed(failure: Failure) -> None:
            if failure.check(LoginError):
                failure.raiseException()
            if failure.check(cred_error.UnauthorizedLogin):
                raise BadCredentials("the checker says no")
            _log.failure("{source}: the checker failed", failure, source=self.name)
            raise LookupUnavailable(f"{self.name}: the checker failed: {type(failure.value).__name__}")

        return await maybeDeferred(self._checker.requestAvatarId, credentials).addErrback(failed)


def _made(name: str, description: str) -> ICredentialsChecker:
    try:
        made: ICredentialsChecker = strcred.makeChecker(description)
    except strcred.InvalidAuthType:
        known = ", ".join(sorted(factory.authType for factory in strcred.findCheckerFactories()))
        kind = description.partition(":")[0]
        raise ConfigError([f"accounts source {name}: there is no checker {kind!r}; known are {known}"]) from None
    except (strcred.StrcredException, TypeError, ValueError, OSError) as error:
        why = f"the checker {description.partition(':')[0]!r} cannot be made: {error or 'wrong argument'}"
        raise ConfigError([f"accounts source {name}: {why}"]) from None
    if isinstance(made, InMemoryUsernamePasswordDatabaseDontUse):
        # "memory:" of Twisted 26.4 keeps text, and credentials have octets.
        made.users = {_octets(user): _octets(password) for user, password in made.users.items()}
    return made


def _octets(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
