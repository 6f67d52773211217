"""
The text of application passwords and of their names.

Purpose: makes passwords that nobody can guess and everybody can type: 20 characters of an alphabet of 32 that has
neither "l" and "o" nor "0" and "1", 100 bits, shown in four groups.  Mail programs and people drop the dashes, put
spaces in their place or begin with a capital: none of that matters.
Limits: pure but for the randomness.
"""

from __future__ import annotations

import re
import secrets

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"

#: Characters of a password, and of each group that is shown.
_CHARACTERS, _GROUP = 20, 5

_COMPACT = re.compile(rb"[%s]{%d}" % (_ALPHABET.encode("ascii"), _CHARACTERS))

#: Longest name in characters.
_NAME_CHARACTERS = 64


def generate() -> str:
    """A new password as it is shown: groups with dashes between them."""
    signs = "".join(secrets.choice(_ALPHABET) for _ in range(_CHARACTERS))
    return "-".join(signs[start : start + _GROUP] for start in range(0, _CHARACTERS, _GROUP))


def compact(typed: bytes) -> bytes | None:
    """The characters of a password that L{generate} may have made, None where it cannot have."""
    signs = typed.lower().translate(None, b" -")
    return signs if _COMPACT.fullmatch(signs) else None


def name(text: str) -> str:
    """
    The name of an application password: what the user calls the device.

    @raise ValueError: when it cannot be one
    """
    if not text or len(text) > _NAME_CHARACTERS or not text.isprintable() or text != text.strip():
        raise ValueError(
            f"the name of an application password is 1 to {_NAME_CHARACTERS} printable characters, "
            "with no space at its ends"
        )
    return text
