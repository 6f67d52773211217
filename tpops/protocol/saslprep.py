"""
SASLprep (RFC 4013): the one form of a password that can be typed in several ways.

Purpose: SCRAM compares keys, not passwords, so client and server must begin with the same octets.
Limits: what is not UTF-8, or has characters that SASLprep forbids, stays as it is; a client that prepares would refuse
it, one that does not still gets in.  Characters that Unicode 3.2 did not have stay as well, as in a query (RFC 3454
section 7).
"""

from __future__ import annotations

import stringprep
import unicodedata

#: RFC 4013 section 2.3.
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepared(password: bytes) -> bytes:
    """The password as SASLprep has it; unchanged where it cannot be prepared."""
    if password.isascii():
        return password
    try:
        text = password.decode("utf-8")
    except UnicodeDecodeError:
        return password
    mapped = "".join(" " if stringprep.in_table_c12(one) else one for one in text if not stringprep.in_table_b1(one))
    result = unicodedata.normalize("NFKC", mapped)
    if not result or any(forbidden(one) for forbidden in _PROHIBITED for one in result) or not _one_direction(result):
        return password
    return result.encode("utf-8")


def _one_direction(text: str) -> bool:
    """RFC 3454 section 6: right-to-left text is so from its first to its last character."""
    if not any(stringprep.in_table_d1(one) for one in text):
        return True
    if any(stringprep.in_table_d2(one) for one in text):
        return False
    return stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
