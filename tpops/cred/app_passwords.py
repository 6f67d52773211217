"""
Application passwords: passwords for single programs or devices, beside the account's own.

Purpose: stands before the accounts sources in the ordered checker.  Whoever proves an application password gets the
first account that the sources know under his name; the account's own password goes to the sources as without
application passwords, or is refused where C{instead} says so.  Digests (APOP, CRAM-MD5) are compared
with those whose secret is stored encrypted, and SCRAM is given these secrets.
Limits: an account that is disabled stays shut, a password that is locked or expired does not shut it.  Revoked
passwords stop working with the next login.  Rows are read in the reactor, the time of the last use is written in a
thread.
Speed: a name that has none costs one lookup in memory; a generated password is verified at once, by one round of
SHA-256, which is enough for 100 random bits.
Errors: when the database or a key fails, the account's own password is still asked for, unless it is not accepted any
more; what would then be a wrong password is LookupUnavailable.
Security: where the account's own password is not accepted, as much work is done as for an unknown user.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tpops.coroutines import run
from tpops.cred import app_password_text
from tpops.cred.app_password_store import AppPassword, AppPasswordStore
from tpops.cred.hashes import RunInThread, Verifier
from tpops.cred.sealing import KeyFile
from tpops.errors import BadCredentials, LookupUnavailable
from tpops.model import Caller

#: Credentials with a password, or a digest of one, under the canonical name.
Credentials = IUsernamePassword | IUsernameHashedPassword

#: What the sources answer: the avatar id, at once or later.
Answer = bytes | Awaitable[bytes]

#: What an account can prove with a secret that is stored encrypted, as sources say it.
_BY_SECRET = frozenset(("APOP", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"))

#: How many complaints are remembered, so that they are not repeated.
_TOLD = 1000


class LastUses:
    """
    Notes when passwords were used, in a thread, several at once where they come at once.

    A database that cannot be written is logged, once until it can be written again, and hurts nobody.

    @param epoch: seconds since the epoch
    @param every_seconds: how exact it is; 0 notes nothing
    """

    log = Logger()

    def __init__(
        self, store: AppPasswordStore, run_in_thread: RunInThread, epoch: Callable[[], float], every_seconds: float
    ) -> None:
        self._store = store
        self._run_in_thread = run_in_thread
        self._epoch = epoch
        self._every_seconds = every_seconds
        self._noted: dict[tuple[str, str], int] = {}
        self._pending: dict[tuple[str, str], int] = {}
        self._writing: Deferred[None] | None = None
        self._failing = False

    def used(self, password: AppPassword) -> None:
        """A login has succeeded with it."""
        if self._every_seconds <= 0:
            return
        now = int(self._epoch())
        key = (password.account, password.name)
        last = max(password.last_used_at or 0, self._noted.get(key, 0))
        if 0 <= now - last < self._every_seconds:
            return
        self._noted[key] = self._pending[key] = now
        if self._writing is None:
            self._writing = Deferred()
            run(self._write(self._writing))

    async def written(self) -> None:
        """Wait until nothing is being written any more."""
        if self._writing is not None:
            done: Deferred[None] = Deferred()
            self._writing.addCallback(done.callback)
            await done

    async def _write(self, done: Deferred[None]) -> None:
        try:
            while self._pending:
                uses, self._pending = self._pending, {}
                await self._write_these(uses)
        finally:
            self._writing = None
            done.callback(None)

    async def _write_these(self, uses: dict[tuple[str, str], int]) -> None:
        try:
            await self._run_in_thread(self._note, uses)
        except LookupUnavailable as error:
            # They stay in memory as noted, so that the database is not tried at every login.
            if not self._failing:
                self.log.error("the last use of application passwords cannot be noted: {reason}", reason=str(error))
            self._failing = True
            return
        self._failing = False
        for key in uses:
            self._noted.pop(key, None)

    def _note(self, uses: dict[tuple[str, str], int]) -> None:
        with self._store.writing() as writer:
            writer.note_used(uses)


class AppPasswords:
    """
    See the module.

    @param keys: opens the encrypted secrets; None where the configuration has no key file
    @param instead: whether an account that has application passwords logs in with those only
    """

    log = Logger()

    def __init__(
        self,
        store: AppPasswordStore,
        verifier: Verifier,
        uses: LastUses,
        keys: KeyFile | None = None,
        instead: bool = False,
    ) -> None:
        self._store = store
        self._verifier = verifier
        self._uses = uses
        self._keys = keys
        self._instead = instead
        self._failing = ""
        self._told: set[str] = set()

    def concern(self, account: str) -> bool:
        """Whether L{verify} must be asked for the account of this name; does not wait."""
        try:
            return bool(self._store.held(account))
        except LookupUnavailable:
            return True

    def replace(self, account: str) -> bool:
        """
        Whether this account's own password is not accepted, in whatever way it is proven.

        @raise LookupUnavailable: when that cannot be said
        """
        return self._instead and bool(self._store.held(account))

    async def verify(
        self,
        account: str,
        credentials: Credentials,
        ordinary: Callable[[Credentials], Answer],
        find: Callable[[], Awaitable[bytes]],
    ) -> bytes:
        """
        Verify credentials with a canonical name.

        @param account: the name of the account that they are for
        @param ordinary: asks the sources to verify them
        @param find: asks the sources for the avatar id of the name once it is verified
        @raise LoginError: as the sources do
        """
        unavailable: LookupUnavailable | None = None
        try:
            held = self._held(account)
            proven = await self._proven(held, credentials)
        except LookupUnavailable as error:
            if self._instead:
                raise
            held, proven, unavailable = (), None, error
        if proven is not None:
            caller = getattr(credentials, "peer", None)
            if isinstance(caller, Caller):
                caller.forget_password()
            avatar_id = await find()
            self._uses.used(proven)
            return avatar_id
        if self._instead and held:
            if IUsernamePassword.providedBy(credentials):
                await self._verifier.dummy(credentials.password)
            raise BadCredentials("wrong password; this account has application passwords, and only those count")
        try:
            answer = ordinary(credentials)
            return answer if isinstance(answer, bytes) else await answer
        except BadCredentials:
            if unavailable is not None:
                raise unavailable from None
            raise

    def secrets(self, account: str) -> Iterable[tuple[bytes, Callable[[], None]]]:
        """
        Every form of the account's secrets that a client may have, each with what to call when it was proven.

        @raise LookupUnavailable: when one of them cannot be told
        """
        found: list[tuple[bytes, Callable[[], None]]] = []
        for one in self._held(account):
            if one.secret is not None:
                secret = self._unseal(one, one.secret)
                found += [(form, partial(self._uses.used, one)) for form in _forms(one, secret)]
        return found

    def mechanisms(self) -> Iterable[frozenset[str]]:
        """What each account that has application passwords can prove with them; nothing where that is unknown."""
        able: dict[str, bool] = {}
        try:
            for one in self._store.all():
                able[one.account] = able.get(one.account, False) or (one.secret is not None and self._keys is not None)
        except LookupUnavailable:
            return (frozenset(),)
        return [_BY_SECRET if secret else frozenset() for secret in able.values()]

    async def stop(self) -> None:
        """Let what is being written come to its end; the next login opens the database again."""
        self._store.close()
        await self._uses.written()

    async def _proven(self, held: tuple[AppPassword, ...], credentials: Credentials) -> AppPassword | None:
        """Which of them the credentials prove."""
        if IUsernamePassword.providedBy(credentials):
            return await self._by_password(held, credentials.password)
        return self._by_digest(held, credentials.checkPassword)

    async def _by_password(self, held: tuple[AppPassword, ...], password: bytes) -> AppPassword | None:
        generated = app_password_text.compact(password)
        # Those that are verified at once come first: most logins are with such a one.
        for one in sorted(held, key=lambda one: one.chosen):
            typed = password if one.chosen else generated
            if typed is None:
                continue
            right = self._verifier.verify(typed, one.password_hash)
            if right if isinstance(right, bool) else await right:
                return one
        return None

    def _by_digest(self, held: tuple[AppPassword, ...], fits: Callable[[bytes], bool]) -> AppPassword | None:
        closed: LookupUnavailable | None = None
        for one in held:
            if one.secret is None:
                continue
            try:
                secret = self._unseal(one, one.secret)
            except LookupUnavailable as error:
                closed = error
                continue
            if any(fits(form) for form in _forms(one, secret)):
                return one
        if closed is not None:
            self._complain(str(closed))
            raise closed
        return None

    def _held(self, account: str) -> tuple[AppPassword, ...]:
        """See L{AppPasswordStore.held}; the operator is told when the database fails, once until it works again."""
        try:
            held = self._store.held(account)
        except LookupUnavailable as error:
            self._complain(str(error))
            self._failing = str(error)
            raise
        self._told.discard(self._failing)
        return held

    def _complain(self, reason: str) -> None:
        """Tell the operator, who may see nothing of it in the logins; the same only once."""
        if reason in self._told:
            return
        self.log.error("application passwords: {reason}", reason=reason)
        if len(self._told) >= _TOLD:
            self._told.clear()
        self._told.add(reason)

    def _unseal(self, one: AppPassword, sealed: bytes) -> bytes:
        which = f"application password {one.name!r} of {one.account}"
        if self._keys is None:
            raise LookupUnavailable(f"{which} is encrypted, and app_passwords.key_file is not set")
        try:
            return self._keys.unseal(sealed, one.about)
        except LookupUnavailable as error:
            raise LookupUnavailable(f"{which}: {error}") from None


def _forms(one: AppPassword, secret: bytes) -> tuple[bytes, ...]:
    """What a user may have typed: dashes may be left out of what we have made."""
    return (secret,) if one.chosen else (secret, secret.replace(b"-", b""))
