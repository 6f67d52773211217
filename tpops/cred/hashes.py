"""
Verifying passwords without holding anybody up.

Purpose: cheap schemes and passwords seen lately are answered at once, in the reactor's turn; slow schemes
(argon2, crypt) run in a thread.  A bounded cache of positive answers keeps slow hashes off repeated polls:
its keys are HMACs under a random key of this process, over stored hash and password, so that it holds neither, and a
changed hash never hits.
Limits: wrong passwords are never cached.  Passwords with NUL or over 4096 octets are refused.
Errors: an unknown scheme or broken stored data is LookupUnavailable for the operator, never a wrong password.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol, TypeVar

from tpops.cred import schemes as _schemes
from tpops.cred.schemes import DEFAULT_SCHEME, MAX_PASSWORD_OCTETS, Scheme
from tpops.errors import LookupUnavailable

_P = ParamSpec("_P")
_T = TypeVar("_T", covariant=True)


class RunInThread(Protocol):
    """Runs a blocking function in a thread, as L{twisted.internet.threads.deferToThread} does."""

    def __call__(self, f: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Awaitable[_T]:
        """Call it there; the awaitable gives its result."""


def schemes() -> tuple[str, ...]:
    """The names of all schemes that can be verified and made, the best first."""
    return _schemes.names()


def aliases() -> dict[str, str]:
    """Other names of schemes, as Dovecot and tpop3d have them."""
    return _schemes.aliases()


def serves(scheme: str) -> frozenset[str]:
    """ "APOP" and the SASL mechanisms that work with passwords stored so, beside those that send the password."""
    return _schemes.serves(scheme)


def hash_password(password: bytes, scheme: str = DEFAULT_SCHEME) -> str:
    """
    The stored form of a new password.  Takes its time: for command lines and threads.

    @param scheme: its name, with ".b64" or ".hex" behind it where the data is to be encoded so
    @raise ValueError: when the scheme is not known, or the password cannot be used
    """
    if not password or not _acceptable(password):
        raise ValueError(f"a password has 1 to {MAX_PASSWORD_OCTETS} octets and no NUL")
    base, _, ending = scheme.partition(".")
    try:
        chosen = _schemes.by_name(base)
        return _schemes.render(chosen, chosen.make(password), ending)
    except _schemes.UnknownScheme:
        known = f"{', '.join(schemes())}; with .b64 or .hex behind them"
        raise ValueError(f"unknown password scheme {scheme!r}; known are {known}") from None


def password_is(password: bytes, stored: str) -> bool:
    """
    Whether it is the password.  Takes its time: for command lines and threads.

    @raise ValueError: when the stored hash cannot be used
    """
    if _schemes.locked(stored) or not _acceptable(password):
        return False
    try:
        scheme, data = _schemes.parse(stored)
    except _schemes.UnknownScheme as error:
        raise ValueError(f"unknown password scheme {{{error}}}") from None
    return bool(data) and scheme.check(password, data)


def _acceptable(password: bytes) -> bool:
    return len(password) <= MAX_PASSWORD_OCTETS and b"\0" not in password


def _broken(why: ValueError, scheme: str = "") -> LookupUnavailable:
    """What an operator is told of stored data that cannot be used; the data itself is not shown."""
    if isinstance(why, _schemes.UnknownScheme):
        return LookupUnavailable(f"unknown password scheme {{{why}}} in the accounts source")
    named = f" of scheme {{{scheme}}}" if scheme else ""
    return LookupUnavailable(f"stored password{named} is broken: {why}")


def _check(scheme: Scheme, password: bytes, data: bytes) -> bool:
    try:
        return scheme.check(password, data)
    except ValueError as error:
        raise _broken(error, scheme.name) from None


class Verifier:
    """
    Compares passwords with stored hashes; one for the whole process.

    @ivar run_in_thread: runs a blocking function in a thread
    @param seconds: the time, for the cache
    @param cache_entries: how many positive answers are kept, 0 for none
    @param cache_ttl_seconds: how long each is kept
    """

    def __init__(
        self,
        run_in_thread: RunInThread,
        seconds: Callable[[], float],
        cache_entries: int = 10000,
        cache_ttl_seconds: float = 3600.0,
    ) -> None:
        self.run_in_thread = run_in_thread
        self._seconds = seconds
        self._cache_entries = cache_entries
        self._cache_ttl_seconds = cache_ttl_seconds
        self._cache_key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def verify(self, password: bytes, stored: str) -> bool | Awaitable[bool]:
        """
        Whether it is the password.  A plain bool where that can be said at once.

        @raise LookupUnavailable: when the stored hash cannot be used
        """
        if _schemes.locked(stored) or not _acceptable(password):
            return False
        try:
            scheme, data = _schemes.parse(stored)
        except ValueError as error:
            raise _broken(error) from None
        if not data:
            return False
        if not scheme.slow:
            return _check(scheme, password, data)
        key = hmac.digest(self._cache_key, stored.encode() + b"\0" + password, "sha256")
        if self._is_known(key):
            return True
        return self._verify_slowly(key, scheme, password, data)

    async def dummy(self, password: bytes) -> bool:
        """Work as for a user whose password is stored with the default scheme, and say no."""
        await self.run_in_thread(_schemes.by_name(DEFAULT_SCHEME).make, password[:MAX_PASSWORD_OCTETS])
        return False

    def forget(self) -> None:
        """Drop every cached answer."""
        self._known.clear()

    async def _verify_slowly(self, key: bytes, scheme: Scheme, password: bytes, data: bytes) -> bool:
        right = await self.run_in_thread(_check, scheme, password, data)
        if right:
            self._remember(key)
        return right

    def _is_known(self, key: bytes) -> bool:
        until = self._known.get(key)
        if until is None:
            return False
        if until <= self._seconds():
            del self._known[key]
            return False
        self._known.move_to_end(key)
        return True

    def _remember(self, key: bytes) -> None:
        if self._cache_entries <= 0:
            return
        self._known[key] = self._seconds() + self._cache_ttl_seconds
        self._known.move_to_end(key)
        if len(self._known) > self._cache_entries:
            self._known.popitem(last=False)
