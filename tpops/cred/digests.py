"""
Stored passwords that are computed with plain digests: salted or not, PBKDF2, SCRAM, CRAM-MD5 and MySQL's.

Purpose: the functions behind tpops.cred.schemes, one pair of check and make for each form; check(password, data) says
whether it is the password, make(password) gives data for a new one.
Limits: octets are taken as they are, as in Dovecot; but those of SCRAM are prepared as its clients do it (SASLprep).
Errors: ValueError, without the data, when the data is not of the form.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import secrets
import struct
from collections.abc import Callable

Check = Callable[[bytes, bytes], bool]
Make = Callable[[bytes], bytes]

#: Rounds of new PBKDF2 and SCRAM data; Dovecot's own are 5000 and 4096.  SCRAM clients compute them at each login.
PBKDF2_ROUNDS = 100_000

#: Data with more rounds is taken for broken: it would keep a thread busy for seconds.
MOST_ROUNDS = 10_000_000

#: Octets of a CRAM-MD5 context.
CONTEXT_OCTETS = 32

_SALT_OCTETS = 16
_MYSQL_OLD = re.compile(rb"[0-9A-Fa-f]{16}", re.ASCII)
_MYSQL_NEW = re.compile(rb"\*[0-9A-Fa-f]{40}", re.ASCII)


def _hash(digest: str, octets: bytes) -> bytes:
    """A digest; also MD5 where the machine's rules forbid it for new things."""
    return hashlib.new(digest, octets, usedforsecurity=False).digest()


def digest_pair(digest: str, salted: bool) -> tuple[Check, Make, int]:
    """Check, make and length of a digest over the password, with the salt behind it where it is salted."""
    octets = hashlib.new(digest, usedforsecurity=False).digest_size

    def check(password: bytes, data: bytes) -> bool:
        if len(data) < octets or (len(data) > octets) is not salted:
            raise ValueError("digest has the wrong length")
        return hmac.compare_digest(_hash(digest, password + data[octets:]), data[:octets])

    def make(password: bytes) -> bytes:
        salt = secrets.token_bytes(_SALT_OCTETS) if salted else b""
        return _hash(digest, password + salt) + salt

    return check, make, octets


def _rounds(text: bytes) -> int:
    if not text.isdigit() or len(text) > len(str(MOST_ROUNDS)) or not 0 < int(text) <= MOST_ROUNDS:
        raise ValueError(f"number of rounds is not from 1 to {MOST_ROUNDS}")
    return int(text)


def pbkdf2_check(password: bytes, data: bytes) -> bool:
    """Compare with "$1$salt$rounds$hex", PBKDF2 with SHA-1; the salt is the text as it stands."""
    fields = data.split(b"$")
    if len(fields) != 5 or fields[:2] != [b"", b"1"]:
        raise ValueError("not of the form $1$salt$rounds$digest")
    _, _, salt, rounds, stored = fields
    if re.fullmatch(rb"[0-9A-Fa-f]{40}", stored) is None:
        raise ValueError("digest is not 40 hexadecimal digits")
    made = hashlib.pbkdf2_hmac("sha1", password, salt, _rounds(rounds))
    return hmac.compare_digest(made, bytes.fromhex(stored.decode("ascii")))


def pbkdf2_make(password: bytes) -> bytes:
    """The same for a new password."""
    salt = secrets.token_hex(_SALT_OCTETS // 2).encode("ascii")
    made = hashlib.pbkdf2_hmac("sha1", password, salt, PBKDF2_ROUNDS)
    return b"$1$%s$%d$%s" % (salt, PBKDF2_ROUNDS, made.hex().encode("ascii"))


def scram_fields(data: bytes, digest: str) -> tuple[int, bytes, bytes, bytes]:
    """
    Rounds, salt, StoredKey and ServerKey of "rounds,salt,StoredKey,ServerKey", all but the first in base64.

    @raise ValueError: when it is not of that form
    """
    fields = data.split(b",")
    if len(fields) != 4:
        raise ValueError("not of the form rounds,salt,StoredKey,ServerKey")
    salt, stored_key, server_key = (base64.b64decode(field, validate=True) for field in fields[1:])
    octets = hashlib.new(digest).digest_size
    if not salt or len(stored_key) != octets or len(server_key) != octets:
        raise ValueError("salt or key has the wrong length")
    return _rounds(fields[0]), salt, stored_key, server_key


def scram_pair(digest: str) -> tuple[Check, Make]:
    """Check and make of L{scram_fields}."""

    def check(password: bytes, data: bytes) -> bool:
        from tpops.protocol.saslprep import prepared
        from tpops.protocol.scram import derive

        rounds, salt, *keys = scram_fields(data, digest)
        # Other programs store the keys of the octets as they came.
        forms = {prepared(password), password}
        return any(hmac.compare_digest(b"".join(derive(digest, one, salt, rounds)), b"".join(keys)) for one in forms)

    def make(password: bytes) -> bytes:
        from tpops.protocol.saslprep import prepared
        from tpops.protocol.scram import derive

        salt = secrets.token_bytes(_SALT_OCTETS)
        keys = derive(digest, prepared(password), salt, PBKDF2_ROUNDS)
        return b"%d," % PBKDF2_ROUNDS + b",".join(base64.b64encode(field) for field in (salt, *keys))

    return check, make


#: MD5's constants and rotations, RFC 1321 §3.4.
_MD5_SINES = tuple(int(abs(math.sin(step + 1)) * 2**32) for step in range(64))
_MD5_TURNS = (7, 12, 17, 22) * 4 + (5, 9, 14, 20) * 4 + (4, 11, 16, 23) * 4 + (6, 10, 15, 21) * 4
_MD5_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_MD5_BLOCK_OCTETS = 64
_WORD = 0xFFFFFFFF


def _md5_state(block: bytes, before: tuple[int, ...] = _MD5_START) -> bytes:
    """What MD5 remembers after a block; hashlib neither tells nor takes it.  RFC 1321 §3.4."""
    words = struct.unpack("<16L", block)
    a, b, c, d = before
    for step in range(64):
        if step < 16:
            mixed, word = (b & c) | (~b & d), step
        elif step < 32:
            mixed, word = (d & b) | (~d & c), 5 * step + 1
        elif step < 48:
            mixed, word = b ^ c ^ d, 3 * step + 5
        else:
            mixed, word = c ^ (b | (~d & _WORD)), 7 * step
        total = (a + mixed + _MD5_SINES[step] + words[word % 16]) & _WORD
        turn = _MD5_TURNS[step]
        a, b, c, d = d, (b + (total << turn | total >> (32 - turn))) & _WORD, b, c
    return struct.pack("<4L", *((old + new) & _WORD for old, new in zip(before, (a, b, c, d), strict=True)))


def _md5_rest(state: bytes, octets: bytes) -> bytes:
    """The MD5 of a block that left this state, and of octets behind it."""
    length = struct.pack("<Q", (_MD5_BLOCK_OCTETS + len(octets)) * 8)
    padded = octets + b"\x80" + b"\0" * (-(len(octets) + 9) % _MD5_BLOCK_OCTETS) + length
    for at in range(0, len(padded), _MD5_BLOCK_OCTETS):
        state = _md5_state(padded[at : at + _MD5_BLOCK_OCTETS], struct.unpack("<4L", state))
    return state


def cram_md5_make(password: bytes) -> bytes:
    """The two contexts of HMAC-MD5 (RFC 2195) with the password as key: outer, then inner."""
    key = _hash("md5", password) if len(password) > _MD5_BLOCK_OCTETS else password
    key = key.ljust(_MD5_BLOCK_OCTETS, b"\0")
    return b"".join(_md5_state(bytes(octet ^ pad for octet in key)) for pad in (0x5C, 0x36))


def cram_md5_check(password: bytes, data: bytes) -> bool:
    """Compare with the two contexts."""
    if len(data) != CONTEXT_OCTETS:
        raise ValueError("context has the wrong length")
    return hmac.compare_digest(cram_md5_make(password), data)


def cram_md5_digest(contexts: bytes, challenge: bytes) -> bytes:
    """The digest that a client must send whose contexts these are, in hexadecimal (RFC 2195 section 2)."""
    outer, inner = contexts[: CONTEXT_OCTETS // 2], contexts[CONTEXT_OCTETS // 2 :]
    return _md5_rest(outer, _md5_rest(inner, challenge)).hex().encode("ascii")


def is_mysql_new(data: bytes) -> bool:
    """Whether it is a hash of MySQL since 4.1: "*" and 40 hexadecimal digits."""
    return _MYSQL_NEW.fullmatch(data) is not None


def mysql_old(password: bytes) -> bytes:
    """MySQL's OLD_PASSWORD(): 16 hexadecimal digits; spaces and tabs do not count."""
    first, second, sum_of_octets = 1345345333, 0x12345671, 7
    for octet in password:
        if octet in b" \t":
            continue
        first ^= ((((first & 63) + sum_of_octets) * octet) + (first << 8)) & _WORD
        second = (second + ((second << 8) ^ first)) & _WORD
        sum_of_octets += octet
    return b"%08x%08x" % (first & 0x7FFFFFFF, second & 0x7FFFFFFF)


def mysql_make(password: bytes) -> bytes:
    """MySQL's PASSWORD() since 4.1."""
    return b"*" + _hash("sha1", _hash("sha1", password)).hex().upper().encode("ascii")


def mysql_check(password: bytes, data: bytes) -> bool:
    """Compare with a hash of either kind."""
    if is_mysql_new(data):
        return hmac.compare_digest(mysql_make(password), data.upper())
    if _MYSQL_OLD.fullmatch(data) is None:
        raise ValueError("neither 16 hexadecimal digits nor * and 40 of them")
    return hmac.compare_digest(mysql_old(password), data.lower())
