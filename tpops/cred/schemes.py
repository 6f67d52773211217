"""
Password schemes: the table of what may stand in braces before a stored hash.

Purpose: read and make stored passwords as Dovecot writes them: "{SCHEME}data", with ".b64" or ".hex" at
the scheme's end where the data is encoded again.  Names are compared without regard to case.  A stored password
without braces is crypt(3).
Limits: pure functions, no cache, no threads (see tpops.cred.hashes).  Stored passwords that are empty or start
with "!" or "*" match nothing.
Known deviations: as in Dovecot, an unsalted digest without an ending may be hexadecimal or base64; the length tells.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable

import attrs
from argon2 import low_level as argon2
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from tpops.cred import crypt_family

#: Longest password in octets that is looked at.
MAX_PASSWORD_OCTETS = 4096

#: The scheme of new hashes.
DEFAULT_SCHEME = "ARGON2ID"

#: Cost of new argon2 hashes: the OWASP recommendation of 19 MiB, two passes, one lane.
ARGON2_TIME_COST, ARGON2_MEMORY_KIB, ARGON2_LANES = 2, 19456, 1

_SALT_OCTETS = 16

#: check(password, data) -> whether it is the password; ValueError when the data is broken.
Check = Callable[[bytes, bytes], bool]


@attrs.frozen(slots=True)
class Scheme:
    """
    One way to store a password.

    @ivar name: what stands in the braces
    @ivar check: compares a password with stored data, ValueError when the data is broken
    @ivar make: makes the data for a new password
    @ivar slow: whether checking takes so long that it belongs in a thread
    @ivar digest_octets: length of the digest where the data is binary, 0 where it is text
    @ivar salted: whether a salt stands behind the digest
    """

    name: str
    check: Check
    make: Callable[[bytes], bytes]
    slow: bool = False
    digest_octets: int = 0
    salted: bool = False


def _plain_check(password: bytes, data: bytes) -> bool:
    return hmac.compare_digest(password, data)


def _plain_make(password: bytes) -> bytes:
    return password


def _argon2_kind(data: bytes) -> argon2.Type:
    return argon2.Type.ID if data.startswith(b"$argon2id$") else argon2.Type.I


def _argon2_check(password: bytes, data: bytes) -> bool:
    try:
        return argon2.verify_secret(data, password, _argon2_kind(data))
    except VerifyMismatchError:
        return False
    except (InvalidHashError, VerificationError) as error:
        raise ValueError(f"not an argon2 hash ({error})") from None


def _argon2_make(kind: argon2.Type) -> Callable[[bytes], bytes]:
    def make(password: bytes) -> bytes:
        salt = secrets.token_bytes(_SALT_OCTETS)
        return argon2.hash_secret(password, salt, ARGON2_TIME_COST, ARGON2_MEMORY_KIB, ARGON2_LANES, 32, kind)

    return make


def _crypt_check(password: bytes, data: bytes) -> bool:
    stored = data.decode("ascii")
    return hmac.compare_digest(crypt_family.crypt(password, stored), stored)


def _crypt_make(name: str) -> Callable[[bytes], bytes]:
    def make(password: bytes) -> bytes:
        return crypt_family.crypt(password, crypt_family.setting(name)).encode("ascii")

    return make


def _sha(name: str, digest: str, salted: bool) -> Scheme:
    """A digest, with the salt behind it where it is salted."""
    octets = hashlib.new(digest).digest_size

    def check(password: bytes, data: bytes) -> bool:
        if len(data) < octets or (len(data) > octets) is not salted:
            raise ValueError("digest has the wrong length")
        return hmac.compare_digest(hashlib.new(digest, password + data[octets:]).digest(), data[:octets])

    def make(password: bytes) -> bytes:
        salt = secrets.token_bytes(_SALT_OCTETS) if salted else b""
        return hashlib.new(digest, password + salt).digest() + salt

    return Scheme(name, check, make, digest_octets=octets, salted=salted)


_TABLE: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("ARGON2ID", _argon2_check, _argon2_make(argon2.Type.ID), slow=True),
        Scheme("ARGON2I", _argon2_check, _argon2_make(argon2.Type.I), slow=True),
        *(
            Scheme(name, _crypt_check, _crypt_make(name), slow=True)
            for name in ("BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "MD5-CRYPT", "DES-CRYPT", "CRYPT")
        ),
        _sha("SSHA512", "sha512", salted=True),
        _sha("SSHA256", "sha256", salted=True),
        _sha("SSHA", "sha1", salted=True),
        _sha("SHA512", "sha512", salted=False),
        _sha("SHA256", "sha256", salted=False),
        _sha("SHA", "sha1", salted=False),
        Scheme("PLAIN", _plain_check, _plain_make),
        Scheme("CLEARTEXT", _plain_check, _plain_make),
    )
}

#: Other names of the same thing.
_ALIASES = {"SHA1": "SHA", "CLEAR": "CLEARTEXT"}

_ENDINGS: dict[str, Callable[[bytes], bytes]] = {
    "B64": lambda data: base64.b64decode(data, validate=True),
    "BASE64": lambda data: base64.b64decode(data, validate=True),
    "HEX": binascii.unhexlify,
}


class UnknownScheme(ValueError):
    """Nobody here knows the scheme; the text is its name."""


def names() -> tuple[str, ...]:
    """The names of all schemes, the best first."""
    return tuple(_TABLE)


def by_name(name: str) -> Scheme:
    """
    A scheme by its name.

    @raise UnknownScheme: when there is none
    """
    upper = name.upper()
    try:
        return _TABLE[_ALIASES.get(upper, upper)]
    except KeyError:
        raise UnknownScheme(name) from None


def locked(stored: str) -> bool:
    """Whether this stored password is one that no password matches."""
    return not stored or stored[0] in "!*"


def parse(stored: str) -> tuple[Scheme, bytes]:
    """
    Scheme and data of a stored password.

    @raise UnknownScheme: when the scheme or its ending is not known
    @raise ValueError: when the data cannot be decoded
    """
    if not stored.startswith("{"):
        return _TABLE["CRYPT"], stored.encode()
    label, closed, text = stored[1:].partition("}")
    if not closed:
        raise ValueError("the scheme's closing brace is missing")
    base, _, ending = label.partition(".")
    scheme = by_name(base)
    data = text.encode()
    if scheme.check is not _plain_check and locked(text):
        return scheme, b""
    if ending:
        if ending.upper() not in _ENDINGS:
            raise UnknownScheme(label)
        return scheme, _ENDINGS[ending.upper()](data)
    if scheme.digest_octets:
        if len(data) == scheme.digest_octets * 2 and not scheme.salted:
            return scheme, binascii.unhexlify(data)
        return scheme, base64.b64decode(data, validate=True)
    return scheme, data


def render(scheme: Scheme, data: bytes) -> str:
    """The stored form of data that C{scheme.make} gave."""
    if scheme.digest_octets:
        return f"{{{scheme.name}}}{base64.b64encode(data).decode('ascii')}"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return f"{{{scheme.name}.b64}}{base64.b64encode(data).decode('ascii')}"
    return f"{{{scheme.name}}}{text}"


def plain_secret(stored: str) -> bytes | None:
    """The secret itself where it is stored as it is, as APOP needs it; None where it is hashed, locked or broken."""
    if locked(stored):
        return None
    try:
        scheme, data = parse(stored)
    except ValueError:
        return None
    return data if data and scheme.check is _plain_check else None
