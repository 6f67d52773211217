"""
Keys for SCRAM, by name over the accounts sources.

Purpose: takes what a password was stored as, {SCRAM-SHA-1} or {SCRAM-SHA-256}, or derives the keys from a secret that
is stored as it is.  The sources are asked in their order; the first that has the name with something usable counts,
others are passed over, also those that judge passwords themselves (PAM, a directory's bind).
Limits: keys that are derived have L{DERIVED_ROUNDS}; that is done once, in a thread, and then remembered, while the
client computes as many at each login.  The secret lies there as it is: more rounds would protect it only from those who
listen without TLS.
Application passwords whose secret is known are keys beside those, with the same salt and as many rounds.
Security: who has no keys gets made up ones that look like those of most accounts and never change as long as the secret
of the installation does not.  Names that are one name for L{LoginNames} get the same.
Errors: a source that cannot say, or a stored password that is broken, is LookupUnavailable.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import attrs

from tpops.cred import schemes
from tpops.cred.digests import scram_fields
from tpops.cred.hashes import RunInThread
from tpops.cred.names import LoginNames
from tpops.cred.source import LookupSource, PasswordSource, Record, Source
from tpops.errors import BadCredentials, LookupUnavailable, UnknownUser
from tpops.protocol.saslprep import prepared
from tpops.protocol.scram import DIGESTS, Keys, KeysOf, derive

#: Rounds of keys that are derived from a secret: the least that RFC 5802 and RFC 7677 allow.
DERIVED_ROUNDS = 4096

#: Octets of salts that we make.
_SALT_OCTETS = 16

#: Derived keys that are remembered.
_MOST_DERIVED = 10000

_SCHEMES = {digest: mechanism.decode("ascii") for mechanism, digest in DIGESTS.items()}


@attrs.frozen
class _Form:
    """What keys look like from outside."""

    rounds: int = DERIVED_ROUNDS
    salt_octets: int = _SALT_OCTETS
    derived: bool = True


class Further(Protocol):
    """Further passwords of accounts, as L{tpops.cred.app_passwords.AppPasswords}."""

    def secrets(self, account: str) -> Iterable[tuple[bytes, Callable[[], None]]]:
        """
        Those that can be told, each with what to call when it was proven.

        @raise LookupUnavailable: when they cannot be told now
        """

    def replace(self, account: str) -> bool:
        """Whether what the sources know of this account proves nothing any more."""


class Keyring:
    """
    See the module.

    @param sources: in the order of the configuration
    @param names: how login names become canonical
    @param run_in_thread: runs a blocking function in a thread
    @param secret: octets that only this installation knows
    @param further: has more passwords
    """

    def __init__(
        self,
        sources: Sequence[Source],
        names: LoginNames,
        run_in_thread: RunInThread,
        secret: bytes,
        further: Further | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self._names = names
        self._run_in_thread = run_in_thread
        self._secret = secret
        self._further = further
        self._usual = dict.fromkeys(DIGESTS.values(), _Form())
        self._cache_key = secrets.token_bytes(32)
        self._derived: OrderedDict[bytes, tuple[bytes, bytes]] = OrderedDict()

    def learn(self) -> None:
        """Look at the accounts that can be listed: made up keys are to look like those of most of them."""
        seen: dict[str, Counter[_Form]] = {digest: Counter() for digest in self._usual}
        for stored in self._stored():
            for digest, counted in seen.items():
                form = _form(stored, digest)
                if form is not None:
                    counted[form] += 1
        for digest, counted in seen.items():
            if counted:
                self._usual[digest] = counted.most_common(1)[0][0]

    async def keys(self, asked: KeysOf) -> Keys:
        """
        The keys of a name as the client sent it; made up ones where he cannot log in.

        @raise LookupUnavailable: when a source cannot say
        """
        try:
            name, _ = self._names.parted(asked.name)
        except BadCredentials as error:
            return await self._made_up(asked.name, asked.digest, str(error))
        keys, account = await self._own(name, asked.digest)
        if self._further is None:
            return keys
        if self._further.replace(account):
            keys = replace(keys, source=None, why_none="this account has application passwords, and only those count")
        return replace(keys, others=await self._others(self._further, account, keys, asked.digest))

    async def _own(self, name: str, digest: str) -> tuple[Keys, str]:
        """The keys of the sources for a canonical name, and what they call the account."""
        why, account = "unknown user", ""
        for source in self._sources:
            try:
                record = await _record(source, name)
            except UnknownUser:
                continue
            if record is None:
                continue
            account = account or record.account.name
            found = await self._of(record, digest, source.name)
            if found is not None:
                return found, account
            why = f"the stored password has no keys for {_SCHEMES[digest]}"
        return await self._made_up(name.encode(), digest, why), account or name

    async def _others(self, further: Further, account: str, beside: Keys, digest: str) -> tuple[Keys, ...]:
        made = []
        for secret, proven in further.secrets(account):
            keys = await self._derive(digest, secret, beside.salt, beside.rounds)
            made.append(Keys(beside.salt, beside.rounds, *keys, source="", proven=proven))
        return tuple(made)

    def _stored(self) -> Iterable[str]:
        for source in self._sources:
            try:
                yield from [record.password_hash for record in source.records()]
            except LookupUnavailable:
                continue

    async def _of(self, record: Record, digest: str, source: str) -> Keys | None:
        secret = schemes.plain_secret(record.password_hash)
        if secret is not None:
            salt = self._octets("salt", digest, record.account.name.encode(), _SALT_OCTETS)
            return Keys(salt, DERIVED_ROUNDS, *await self._derive(digest, secret, salt, DERIVED_ROUNDS), source)
        try:
            fields = _stored_keys(record.password_hash, digest)
        except ValueError as error:
            raise LookupUnavailable(f"stored password is broken: {error}") from None
        if fields is None:
            return None
        rounds, salt, stored_key, server_key = fields
        return Keys(salt, rounds, stored_key, server_key, source)

    async def _made_up(self, name: bytes, digest: str, why: str) -> Keys:
        usual = self._usual[digest]
        salt = self._octets("salt", digest, name, usual.salt_octets)
        secret = self._octets("password", digest, name, 64)
        if usual.derived:
            # It takes as long as it would take for somebody whose password is stored.
            made = await self._derive(digest, secret, salt, usual.rounds)
        else:
            half = hashlib.new(digest).digest_size
            made = secret[:half], secret[-half:]
        return Keys(salt, usual.rounds, *made, None, why)

    async def _derive(self, digest: str, secret: bytes, salt: bytes, rounds: int) -> tuple[bytes, bytes]:
        mark = hmac.digest(self._cache_key, b"\0".join((digest.encode(), salt, secret)), "sha256")
        made = self._derived.get(mark)
        if made is None:
            made = await self._run_in_thread(derive, digest, prepared(secret), salt, rounds)
            self._derived[mark] = made
            if len(self._derived) > _MOST_DERIVED:
                self._derived.popitem(last=False)
        else:
            self._derived.move_to_end(mark)
        return made

    def _octets(self, purpose: str, digest: str, name: bytes, octets: int) -> bytes:
        """Octets that nobody else can guess, always the same."""
        seed = b"\0".join((self._secret, purpose.encode(), digest.encode(), name))
        return hashlib.shake_256(seed).digest(octets)


async def _record(source: Source, name: str) -> Record | None:
    if isinstance(source, PasswordSource):
        return source.record(name)
    if isinstance(source, LookupSource):
        return await source.find(name, None)
    return None


def _stored_keys(stored: str, digest: str) -> tuple[int, bytes, bytes, bytes] | None:
    """
    Rounds, salt and keys of a stored password; None where it is something else, or locked.

    @raise ValueError: when it is broken
    """
    if schemes.locked(stored):
        return None
    scheme, data = schemes.parse(stored)
    return scram_fields(data, digest) if data and scheme.name == _SCHEMES[digest] else None


def _form(stored: str, digest: str) -> _Form | None:
    """How the keys of an account look that is stored so; None where it has none."""
    if schemes.plain_secret(stored) is not None:
        return _Form()
    try:
        fields = _stored_keys(stored, digest)
    except ValueError:
        return None
    return _Form(fields[0], len(fields[1]), derived=False) if fields else None
