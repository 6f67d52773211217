"""
The public keys with which bearer tokens are signed: a JSON Web Key Set (RFC 7517) in a file or at an address.

Purpose: says which keys may have signed a token.  A file is read again when it has changed.  What an address gives is
kept; it is asked again after L{FRESH_SECONDS} and, at most every C{refetch_seconds}, when a token names a key that is
not there.  While the address does not answer, the keys that are known stay in use.
Limits: RSA from 2048 bits, the curves P-256, P-384, P-521, Ed25519 and Ed448.  Secret (symmetric) keys, keys for
encryption and keys without a use here are passed over.
Errors: LookupUnavailable when there are no keys, or a key is not known and the address cannot be asked.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import attrs
import jwt
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops.cred.hashes import RunInThread
from tpops.cred.watched import Parsed, WatchedFiles
from tpops.errors import LookupUnavailable

_log = Logger()

#: Age at which keys from an address are fetched anew.
FRESH_SECONDS = 3600.0

#: Seconds between two tries for keys that are only old.
_RETRY_SECONDS = 60.0

#: Keys that one set may have.
MOST_KEYS = 100

_LEAST_RSA_BITS = 2048

#: Algorithms by kind of key (and curve), and the members of a key that are public.
_ALGORITHMS = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
_PUBLIC = ("kty", "crv", "n", "e", "x", "y")

#: The algorithms that are possible here, all with public keys.
ALGORITHMS = tuple(dict.fromkeys(name for names in _ALGORITHMS.values() for name in names))


@attrs.frozen
class Key:
    """
    A public key.

    @ivar kid: its name, "" for none
    @ivar algorithms: for what it may be used
    @ivar public: what verifies
    """

    kid: str
    algorithms: tuple[str, ...]
    public: Any


class Keys(Protocol):
    """Where keys are."""

    async def find(self, kid: str, algorithm: str) -> Sequence[Key]:
        """
        The keys that may have signed a token.

        @param kid: the key's name, "" where the token names none
        @raise LookupUnavailable: when that cannot be said
        """

    def stop(self) -> None:
        """See L{tpops.cred.claims.Verifier.stop}."""


def parse(document: object) -> tuple[Key, ...]:
    """
    The usable keys of a key set.

    @raise LookupUnavailable: when it is none, or has no usable key
    """
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise LookupUnavailable("not a JSON Web Key Set (RFC 7517)")
    found = tuple(key for one in document["keys"][:MOST_KEYS] if (key := _key(one)) is not None)
    if not found:
        raise LookupUnavailable("the key set has no key that could be used")
    return found


def parse_octets(path: str, octets: bytes) -> tuple[Key, ...]:
    """
    The usable keys of a file.

    @raise LookupUnavailable: when it has none
    """
    try:
        return parse(json.loads(octets))
    except (ValueError, RecursionError):
        raise LookupUnavailable(f"{path} is not valid JSON") from None
    except LookupUnavailable as problem:
        raise LookupUnavailable(f"{path}: {problem}") from None


def _key(data: object) -> Key | None:
    """One key, None where it cannot be used."""
    if not isinstance(data, dict) or data.get("use", "sig") != "sig":
        return None
    operations = data.get("key_ops")
    if isinstance(operations, list) and "verify" not in operations:
        return None
    kind = (str(data.get("kty")), str(data.get("crv", "")))
    algorithms = tuple(name for name in _ALGORITHMS.get(kind, ()) if data.get("alg", name) == name)
    if not algorithms:
        return None
    kid = str(data.get("kid", ""))
    try:
        public = jwt.PyJWK({name: data[name] for name in _PUBLIC if name in data}, algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError):
        _log.warn("key {kid} of the key set is broken and not used", kid=ascii(kid))
        return None
    if kind[0] == "RSA" and public.key_size < _LEAST_RSA_BITS:
        _log.warn("key {kid} of the key set is too short and not used", kid=ascii(kid))
        return None
    return Key(kid, algorithms, public)


def _fitting(keys: Sequence[Key], kid: str, algorithm: str) -> list[Key]:
    return [key for key in keys if algorithm in key.algorithms and (not kid or key.kid == kid)]


class KeysInFile:
    """See the module and L{Keys}."""

    def __init__(self, path: str, run_in_thread: RunInThread, seconds: Callable[[], float]) -> None:
        self._path = path
        self._file: WatchedFiles[Key] = WatchedFiles((path,), self._parse, run_in_thread, seconds)

    async def find(self, kid: str, algorithm: str) -> Sequence[Key]:
        """See L{Keys.find}."""
        return _fitting(tuple(self._file.entries().values()), kid, algorithm)

    def stop(self) -> None:
        """See L{Keys}."""

    def _parse(self, octets: Sequence[bytes]) -> Parsed[Key]:
        keys = parse_octets(self._path, octets[0])
        return Parsed({str(number): key for number, key in enumerate(keys)})


class KeysAtAddress:
    """
    See the module and L{Keys}.

    @param fetch: gets the document at the address
    @param seconds: a clock that never goes back
    @param refetch_seconds: least time between two fetches
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[object]], seconds: Callable[[], float], refetch_seconds: float
    ) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._refetch_seconds = refetch_seconds
        self._keys: tuple[Key, ...] = ()
        self._fetched_at = -FRESH_SECONDS
        self._tried_at: float | None = None
        self._problem = ""
        self._running: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    async def find(self, kid: str, algorithm: str) -> Sequence[Key]:
        """See L{Keys.find}."""
        if self._keys and self._age(self._fetched_at) >= FRESH_SECONDS and self._age(self._tried_at) >= _RETRY_SECONDS:
            self._begin()
        found = _fitting(self._keys, kid, algorithm)
        if not found and (self._running is not None or self._age(self._tried_at) >= self._refetch_seconds):
            self._begin()
            await self._end_of_fetch()
            found = _fitting(self._keys, kid, algorithm)
        if not found and self._problem:
            raise LookupUnavailable(self._problem)
        return found

    def stop(self) -> None:
        """The server ends."""
        if self._running is not None:
            self._running.cancel()

    def _age(self, moment: float | None) -> float:
        return float("inf") if moment is None else self._seconds() - moment

    def _begin(self) -> None:
        """Fetch, unless that is being done."""
        if self._running is None:
            self._tried_at = self._seconds()
            self._running = Deferred.fromCoroutine(self._refresh())
            self._running.addBoth(self._ended)

    async def _end_of_fetch(self) -> None:
        if self._running is not None:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    def _ended(self, result: object) -> None:
        self._running = None
        if isinstance(result, Failure) and result.check(CancelledError) is None:
            self._problem = "keys for tokens: internal error"
            _log.failure("keys for tokens: internal error", result)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    async def _refresh(self) -> None:
        try:
            self._keys = parse(await self._fetch())
        except LookupUnavailable as problem:
            self._problem = f"keys for tokens: {problem}"
            _log.error("{problem}", problem=self._problem)
        else:
            self._problem = ""
            self._fetched_at = self._seconds()
