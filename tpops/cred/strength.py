"""
Which of two ways to store a password is the better one.

Purpose: tells rehashing (tpops.cred.rehash) whether a stored password should be replaced.
Limits: the order of the schemes is that of tpops.cred.schemes, the best first; within a scheme, the work that a guess
costs counts.  yescrypt stands behind argon2 and before bcrypt.
"""

from __future__ import annotations

import argon2

from tpops.cred import crypt_family, digests, schemes

#: How the methods of crypt(3) begin; what begins otherwise is DES.
_CRYPT_PREFIXES = (
    (b"$2", "BLF-CRYPT"),
    (b"$6$", "SHA512-CRYPT"),
    (b"$5$", "SHA256-CRYPT"),
    (b"$1$", "MD5-CRYPT"),
    (b"$y$", "yescrypt"),
    (b"$gy$", "yescrypt"),
    (b"$7$", "yescrypt"),
)

_CRYPT_NAMES = frozenset(("CRYPT", "BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "MD5-CRYPT", "DES-CRYPT"))

_RANKS: dict[str, float] = {name: float(rank) for rank, name in enumerate(schemes.names())}
_RANKS["yescrypt"] = _RANKS["BLF-CRYPT"] - 0.5

#: Rounds of a SHA-2 crypt hash that does not say them.
_SHA_CRYPT_ROUNDS = 5000

#: Work of a new hash, in the units of L{_cost}.
_NEW_COST = {
    "ARGON2ID": schemes.ARGON2_TIME_COST * schemes.ARGON2_MEMORY_KIB,
    "ARGON2I": schemes.ARGON2_TIME_COST * schemes.ARGON2_MEMORY_KIB,
    "BLF-CRYPT": (crypt_family.rounds("BLF-CRYPT") or 1).bit_length() - 1,
    "SHA512-CRYPT": crypt_family.rounds("SHA512-CRYPT") or 0,
    "SHA256-CRYPT": crypt_family.rounds("SHA256-CRYPT") or 0,
    "SCRAM-SHA-256": digests.PBKDF2_ROUNDS,
    "SCRAM-SHA-1": digests.PBKDF2_ROUNDS,
    "PBKDF2": digests.PBKDF2_ROUNDS,
}


def is_weaker(stored: str, scheme: str) -> bool:
    """
    Whether a new hash would be better than a stored one: of a better scheme, or of the same with more work.

    @param stored: verifies some password
    @param scheme: the name of the new one's scheme
    @raise ValueError: when one of them is not known, or broken
    """
    wanted = schemes.by_name(scheme).name
    found, data = schemes.parse(stored)
    if schemes.locked(stored) or not data:
        return False
    kind = _kind(found.name, data)
    if kind != wanted:
        return _RANKS[kind] > _RANKS[wanted]
    try:
        return _cost(kind, data) < _NEW_COST.get(kind, 0)
    except IndexError:
        raise ValueError("fields are missing") from None


def _kind(name: str, data: bytes) -> str:
    """The scheme by its data, where a name stands for several."""
    if name.startswith("ARGON2"):
        return "ARGON2ID" if data.startswith(b"$argon2id$") else "ARGON2I"
    if name in _CRYPT_NAMES:
        return next((kind for prefix, kind in _CRYPT_PREFIXES if data.startswith(prefix)), "DES-CRYPT")
    return name


def _cost(kind: str, data: bytes) -> int:
    """What a guess costs: passes times memory, the logarithm of the rounds (bcrypt), or rounds; 0 where it is fixed."""
    if kind.startswith("ARGON2"):
        parameters = argon2.extract_parameters(data.decode("ascii"))
        return parameters.time_cost * parameters.memory_cost
    fields = data.split(b"$")
    if kind == "BLF-CRYPT":
        return int(fields[2])
    if kind in ("SHA512-CRYPT", "SHA256-CRYPT"):
        named = fields[2].startswith(b"rounds=")
        return int(fields[2].removeprefix(b"rounds=")) if named else _SHA_CRYPT_ROUNDS
    if kind == "PBKDF2":
        return int(fields[3])
    if kind.startswith("SCRAM"):
        return int(data.partition(b",")[0])
    return 0
