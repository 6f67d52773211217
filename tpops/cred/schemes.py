"""
Password schemes: the table of what may stand in braces before a stored hash.

Purpose: read and make stored passwords as Dovecot and tpop3d write them: "{SCHEME}data", with ".b64" or ".hex" at
the scheme's end where the data is encoded again.  Names are compared without regard to case.  A stored password
without braces is crypt(3), or tpop3d's MD5: 32 hexadecimal digits, or 22 characters of base64 and "==".
Limits: pure functions, no cache, no threads (see tpops.cred.hashes); argon2 is loaded when a hash asks for it.  Stored
passwords that are empty or start with "!" or "*" match nothing; the "*" of MySQL's own hashes, with 40 hexadecimal
digits behind it, is no such sign.
Known deviations: as in Dovecot, an unsalted digest without an ending may be hexadecimal or base64; the length tells.
{MD5} is Dovecot's MD5-CRYPT and tpop3d's plain MD5: data that starts with "$" is crypt(3), other data is a digest, as
Dovecot has it too; a new one is MD5-CRYPT.  Missing of Dovecot's: OTP, DIGEST-MD5 (needs the name), PLAIN-MD4 and
PLAIN-TRUNC.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Callable

import attrs

from tpops.cred import crypt_family, digests

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
    @ivar hexadecimal: whether new binary data is written in hexadecimal, else in base64
    """

    name: str
    check: Check
    make: Callable[[bytes], bytes]
    slow: bool = False
    digest_octets: int = 0
    salted: bool = False
    hexadecimal: bool = False


def load() -> None:
    """Load the libraries behind the schemes now."""

    import tpops.protocol.saslprep
    import tpops.protocol.scram  # noqa: F401


def _plain_check(password: bytes, data: bytes) -> bool:
    return hmac.compare_digest(password, data)


def _plain_make(password: bytes) -> bytes:
    return password


def _argon2_check(password: bytes, data: bytes) -> bool:
    from argon2 import exceptions, low_level

    kind = low_level.Type.ID if data.startswith(b"$argon2id$") else low_level.Type.I
    try:
        return low_level.verify_secret(data, password, kind)
    except exceptions.VerifyMismatchError:
        return False
    except (exceptions.InvalidHashError, exceptions.VerificationError) as error:
        raise ValueError(f"not an argon2 hash ({error})") from None


def _argon2_make(kind: str) -> Callable[[bytes], bytes]:
    def make(password: bytes) -> bytes:
        from argon2 import low_level

        salt, octets = secrets.token_bytes(_SALT_OCTETS), 32
        cost = (ARGON2_TIME_COST, ARGON2_MEMORY_KIB, ARGON2_LANES)
        return low_level.hash_secret(password, salt, *cost, octets, low_level.Type[kind])

    return make


def _crypt_check(password: bytes, data: bytes) -> bool:
    stored = data.decode("ascii")
    return hmac.compare_digest(crypt_family.crypt(password, stored), stored)


def _crypt_make(name: str) -> Callable[[bytes], bytes]:
    def make(password: bytes) -> bytes:
        return crypt_family.crypt(password, crypt_family.setting(name)).encode("ascii")

    return make


def _digest(name: str, digest: str, salted: bool = False, hexadecimal: bool = False) -> Scheme:
    check, make, octets = digests.digest_pair(digest, salted)
    return Scheme(name, check, make, digest_octets=octets, salted=salted, hexadecimal=hexadecimal)


_TABLE: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("ARGON2ID", _argon2_check, _argon2_make("ID"), slow=True),
        Scheme("ARGON2I", _argon2_check, _argon2_make("I"), slow=True),
        *(
            Scheme(name, _crypt_check, _crypt_make(name), slow=True)
            for name in ("BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT")
        ),
        Scheme("SCRAM-SHA-256", *digests.scram_pair("sha256"), slow=True),
        Scheme("SCRAM-SHA-1", *digests.scram_pair("sha1"), slow=True),
        Scheme("PBKDF2", digests.pbkdf2_check, digests.pbkdf2_make, slow=True),
        *(Scheme(name, _crypt_check, _crypt_make(name), slow=True) for name in ("MD5-CRYPT", "DES-CRYPT", "CRYPT")),
        _digest("SSHA512", "sha512", salted=True),
        _digest("SSHA256", "sha256", salted=True),
        _digest("SSHA", "sha1", salted=True),
        _digest("SMD5", "md5", salted=True),
        _digest("SHA512", "sha512"),
        _digest("SHA256", "sha256"),
        _digest("SHA", "sha1"),
        _digest("LDAP-MD5", "md5"),
        _digest("PLAIN-MD5", "md5", hexadecimal=True),
        Scheme(
            "CRAM-MD5",
            digests.cram_md5_check,
            digests.cram_md5_make,
            digest_octets=digests.CONTEXT_OCTETS,
            hexadecimal=True,
        ),
        Scheme("MYSQL", digests.mysql_check, digests.mysql_make),
        Scheme("PLAIN", _plain_check, _plain_make),
        Scheme("CLEARTEXT", _plain_check, _plain_make),
    )
}

#: Other names of the same thing: Dovecot's, and tpop3d's in lower case.
_ALIASES = {
    "SHA1": "SHA",
    "CLEAR": "CLEARTEXT",
    "MD5": "MD5-CRYPT",
    "HMAC-MD5": "CRAM-MD5",
    "CRYPT_MD5": "MD5-CRYPT",
    "PLAINTEXT": "PLAIN",
}

_MD5_OCTETS = 16

#: What stands without braces and cannot be crypt(3): a plain MD5 of tpop3d.
_BARE_MD5 = re.compile(r"[0-9A-Fa-f]{32}|[A-Za-z0-9+/]{22}==")

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


def aliases() -> dict[str, str]:
    """Other names of schemes."""
    return dict(_ALIASES)


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


def _locked_data(scheme: Scheme, text: str) -> bool:
    if scheme.check is _plain_check:
        return False
    return locked(text) and not (scheme.check is digests.mysql_check and digests.is_mysql_new(text.encode()))


def _binary(scheme: Scheme, data: bytes) -> bytes:
    """The binary data of a scheme whose label has no ending."""
    if len(data) == scheme.digest_octets * 2 and not scheme.salted:
        return binascii.unhexlify(data)
    return base64.b64decode(data, validate=True)


def parse(stored: str) -> tuple[Scheme, bytes]:
    """
    Scheme and data of a stored password.

    @raise UnknownScheme: when the scheme or its ending is not known
    @raise ValueError: when the data cannot be decoded
    """
    if not stored.startswith("{"):
        if _BARE_MD5.fullmatch(stored):
            return _TABLE["PLAIN-MD5"], _binary(_TABLE["PLAIN-MD5"], stored.encode())
        return _TABLE["CRYPT"], stored.encode()
    label, closed, text = stored[1:].partition("}")
    if not closed:
        raise ValueError("the scheme's closing brace is missing")
    base, _, ending = label.partition(".")
    scheme = by_name(base)
    data = text.encode()
    if _locked_data(scheme, text):
        return scheme, b""
    if ending:
        if ending.upper() not in _ENDINGS:
            raise UnknownScheme(label)
        data = _ENDINGS[ending.upper()](data)
    if base.upper() == "MD5" and (len(data) == _MD5_OCTETS or not data.startswith(b"$")):
        scheme = _TABLE["PLAIN-MD5"]
    if scheme.digest_octets and not ending:
        data = _binary(scheme, data)
    return scheme, data


def render(scheme: Scheme, data: bytes, ending: str = "") -> str:
    """
    The stored form of data that C{scheme.make} gave.

    @param ending: "b64" or "hex", where the data is to be encoded so; "" is as usual with this scheme
    @raise UnknownScheme: when there is no such ending
    """
    if ending:
        if ending.upper() not in _ENDINGS:
            raise UnknownScheme(f"{scheme.name}.{ending}")
        encoded = data.hex() if ending.upper() == "HEX" else base64.b64encode(data).decode("ascii")
        return f"{{{scheme.name}.{ending.upper()}}}{encoded}"
    if scheme.digest_octets:
        return f"{{{scheme.name}}}{data.hex() if scheme.hexadecimal else base64.b64encode(data).decode('ascii')}"
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


def cram_md5_contexts(stored: str) -> bytes | None:
    """The contexts of a stored {CRAM-MD5}; None for another scheme, locked or broken."""
    try:
        scheme, data = parse(stored)
    except ValueError:
        return None
    return data if scheme.check is digests.cram_md5_check and len(data) == digests.CONTEXT_OCTETS else None


#: What a secret can prove that is known as it is; {CRAM-MD5} and {SCRAM-...} are enough for their own mechanism.
_OF_SECRETS = frozenset(("APOP", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"))

#: What an account proves whose stored password can be compared with a password and no more.
NOTHING: frozenset[str] = frozenset()


def serves(name: str) -> frozenset[str]:
    """What passwords that are stored in this scheme can prove beside themselves."""
    scheme = by_name(name)
    return _OF_SECRETS if scheme.check is _plain_check else frozenset((scheme.name,)) & _OF_SECRETS


def proves(stored: str) -> frozenset[str]:
    """What can be proven with a stored password beside the password itself: "APOP" and names of SASL mechanisms."""
    if plain_secret(stored) is not None:
        return _OF_SECRETS
    try:
        name = parse(stored)[0].name
    except ValueError:
        return NOTHING
    return frozenset((name,)) & _OF_SECRETS
