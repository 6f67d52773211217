"""
Text that came from a client, made fit for one field of a log line.

Purpose: whatever a client calls himself, a reader of the log sees one line with the fields in their
places.  The escaped form is unambiguous: a backslash in the name is escaped as well, and so are the
parentheses with which the access log marks names of clients that did not log in.
"""

from __future__ import annotations

import re

#: Octets of a name that are logged at most, before escaping.
MOST_OCTETS = 200

#: Characters of a reason that are logged at most, before escaping.
MOST_CHARACTERS = 500

_PLAIN = re.compile(r"[!-'*-\[\]-~]*")
_SPECIAL = frozenset(" \\()")


def one_field(text: str | bytes) -> str:
    r"""
    A name as one word: what is not printable, spaces, backslashes and parentheses become C{\xNN}, octet by octet.

    Printable characters beyond ASCII stay where the octets are valid UTF-8.

    @param text: the name; octets after the 200th are left out
    """
    if isinstance(text, str):
        if len(text) <= MOST_OCTETS and _PLAIN.fullmatch(text):
            return text
        text = text.encode("utf-8", "surrogatepass")
    decoded = text[:MOST_OCTETS].decode("utf-8", "surrogateescape")
    return "".join(
        character if character.isprintable() and character not in _SPECIAL else _escaped(character)
        for character in decoded
    )


def one_line(text: str) -> str:
    r"""
    A reason in which a client's name may occur, as one line: what is not printable becomes C{\xNN}, octet by octet.

    @param text: the reason; characters after the 500th are left out
    """
    if text.isprintable() and len(text) <= MOST_CHARACTERS:
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text[:MOST_CHARACTERS])


def _escaped(character: str) -> str:
    r"""The octets of a character as C{\xNN}."""
    return "".join(f"\\x{octet:02x}" for octet in character.encode("utf-8", "surrogateescape"))
