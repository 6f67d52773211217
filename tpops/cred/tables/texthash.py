"""
Tables as text: "texthash:" of Postfix, the format that postmap(1) makes tables from.

Purpose: "key whitespace value" on a line.  A line that begins with whitespace goes on with the line before; blank
lines, and lines whose first sign is "#", are passed over, also in between.  Keys are folded to lower case.
Limits: whitespace is that of C: space, tab, vertical tab, form feed, carriage return.
Known deviations: of several lines for a key the first counts and the others are bad entries; postmap only warns.
"""

from __future__ import annotations

from collections.abc import Iterator

from tpops.cred.tables.entries import BadEntry, Pair

_SPACE = b" \t\v\f\r\n"


def read(octets: bytes) -> Iterator[Pair | BadEntry]:
    """The entries of a table, and the lines that are none."""
    seen: set[bytes] = set()
    for number, line in _logical_lines(octets):
        if line[:1] in (b" ", b"\t", b"\v", b"\f", b"\r"):
            yield BadEntry(number, "the first line begins with whitespace")
            continue
        end = _end_of_key(line)
        if end is None:
            yield BadEntry(number, 'a quotation mark (") is missing')
            continue
        # As with postmap, quotation marks stay: they are part of an address.
        key, value = line[:end].lower(), line[end:].strip(_SPACE)
        if not value:
            yield BadEntry(number, "there is no value after the key")
        elif key in seen:
            yield BadEntry(number, "the key is there already")
        else:
            seen.add(key)
            yield key, value


def _logical_lines(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines with those that go on with them, and the number of the first."""
    pieces: list[bytes] = []
    begins = 0
    for number, line in enumerate(octets.split(b"\n"), start=1):
        text = line.strip(_SPACE)
        if not text or text.startswith(b"#"):
            continue
        if line[:1].strip(_SPACE) and pieces:
            yield begins, b"".join(pieces)
            pieces = []
        if not pieces:
            begins = number
        pieces.append(line)
    if pieces:
        yield begins, b"".join(pieces)


def _end_of_key(line: bytes) -> int | None:
    """Where the first whitespace is that no quotation marks enclose; None where they do not close."""
    quoted = escaped = False
    for at in range(len(line)):
        sign = line[at : at + 1]
        if escaped:
            escaped = False
        elif sign == b"\\":
            escaped = True
        elif sign == b'"':
            quoted = not quoted
        elif not quoted and sign in (b" ", b"\t", b"\v", b"\f", b"\r"):
            return at
    return None if quoted else len(line)
