"""
What a POP3 server answers, taken apart (RFC 1939, RFC 2449, RFC 5034).

Purpose: status lines, the text of multi-line replies, capabilities, scan listings.  Pure: no I/O.
Security: whatever comes from another server is believed as little as what comes from a client: lines and listings are
bounded, and what an operator gets to read of them is printable and short.
Limits: a multi-line reply ends with CRLF "." CRLF and with nothing else.  A line end that is LF alone is an octet of
the message, as a "." behind it is.
Errors: L{Malformed}.
"""

from __future__ import annotations

import re

import attrs

from tpops.errors import StorageUnavailable

#: Longest status line: RFC 2449 §4 has 512 octets, a SASL challenge may be longer.
MOST_STATUS = 8192

#: Most messages in a maildrop that we list.
MOST_MESSAGES = 1_000_000

#: Longest line of a listing.
_MOST_LINE = 1024

#: Most octets of a list of capabilities.
MOST_CAPABILITIES = 65536

#: How much of a text is shown to an operator.
_SHOWN = 200

_CODE = re.compile(rb"\[([A-Za-z0-9/_.-]{1,64})\]")
_STAMP = re.compile(rb"<[^<>\s]{1,256}@[^<>\s]{1,256}>")
_END = b"\r\n.\r\n"


class Malformed(StorageUnavailable):
    """The server does not speak POP3."""


@attrs.frozen(slots=True)
class Status:
    """
    A status line.

    @ivar positive: +OK, or "+" in the middle of an AUTH
    @ivar code: its response code in upper case, "" for none (RFC 2449 §8)
    @ivar text: what it says, fit to be read by an operator
    @ivar goes_on: it is "+", and the server waits for the next response (RFC 5034)
    @ivar octets: the whole line
    """

    positive: bool
    code: str
    text: str
    goes_on: bool
    octets: bytes

    @classmethod
    def parse(cls, line: bytes) -> Status:
        """
        Read one, without its line end.

        @raise Malformed: when it is none
        """
        word, _, rest = line.partition(b" ")
        word = word.upper()
        if word not in (b"+OK", b"-ERR", b"+"):
            raise Malformed(f"not an answer of a POP3 server: {shown(line)}")
        code = _CODE.match(rest.lstrip())
        return cls(
            word != b"-ERR", code[1].decode("ascii").upper() if code else "", shown(rest), word == b"+", bytes(line)
        )

    def has(self, code: str) -> bool:
        """Whether the response code is this one, or one below it (RFC 3206 §4: "SYS/TEMP" is below "SYS")."""
        return self.code == code or self.code.startswith(code + "/")


def shown(octets: bytes) -> str:
    """Some text of the server for an operator."""
    cut = octets[:_SHOWN].decode("utf-8", "backslashreplace")
    text = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in cut)
    return repr(text + ("..." if len(octets) > _SHOWN else ""))


def stamp(greeting: Status) -> bytes | None:
    """The timestamp of a greeting that makes APOP possible (RFC 1939 §7)."""
    found = _STAMP.search(greeting.octets)
    return found[0] if found else None


class Body:
    """
    Takes the text of a multi-line reply out of its transparency (RFC 1939 §3), in pieces of any size.

    @ivar done: its end has come
    @ivar rest: what came behind the end
    """

    __slots__ = ("_begins", "_held", "done", "rest")

    def __init__(self) -> None:
        # As if a line had ended before, so that the first line is like the others.
        self._held = b"\r\n"
        self._begins = True
        self.done = False
        self.rest = b""

    def feed(self, octets: bytes) -> bytes:
        """The text in the next octets, with CRLF line ends and without the dots that were added."""
        octets = self._held + octets
        end = octets.find(_END)
        if end >= 0:
            self.done = True
            self._held, self.rest = b"", octets[end + len(_END) :]
            text = octets[: end + 2]
        else:
            held = next((size for size in (4, 3, 2, 1) if octets.endswith(_END[:size])), 0)
            text, self._held = (octets[:-held], octets[-held:]) if held else (octets, b"")
        if b"\r\n." in text:
            text = text.replace(b"\r\n.", b"\r\n")
        if self._begins and text:
            self._begins = False
            text = text[2:]
        return text


class Lines:
    """Cuts text into lines that are not longer than they may be."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = b""

    def feed(self, text: bytes) -> list[bytes]:
        """
        The lines that are complete now, without their line ends.

        @raise Malformed: when one is too long
        """
        lines = (self._left + text).split(b"\r\n")
        self._left = lines.pop()
        if len(self._left) > _MOST_LINE or max(map(len, lines), default=0) > _MOST_LINE:
            raise Malformed("a line of a listing is too long")
        return lines


@attrs.frozen(slots=True)
class Capabilities:
    """
    What a server can do (RFC 2449).

    @ivar known: it has answered CAPA
    @ivar names: the capabilities' names, in upper case
    @ivar sasl: the mechanisms of AUTH, in upper case
    """

    known: bool = False
    names: frozenset[bytes] = frozenset()
    sasl: frozenset[bytes] = frozenset()

    @classmethod
    def parse(cls, text: bytes) -> Capabilities:
        """Read the text of CAPA's answer."""
        words = [line.upper().split() for line in text.split(b"\r\n") if line.strip()]
        sasl = [mechanism for line in words if line[0] == b"SASL" for mechanism in line[1:]]
        return cls(True, frozenset(line[0] for line in words), frozenset(sasl))

    def may(self, name: bytes) -> bool:
        """Whether the server has a capability, or does not tell what it has."""
        return not self.known or name in self.names


class ScanListing:
    """
    The lines of LIST: numbers from 1 on and octets (RFC 1939 §5).

    @ivar sizes: the octets of each message
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def take(self, line: bytes) -> None:
        """
        The next line.

        @raise Malformed: when it is not the one of the next message
        """
        words = line.split()
        size = words[1] if len(words) > 1 else b""
        if not _is(words, len(self.sizes) + 1) or not size.isdigit() or len(size) > 15:
            raise Malformed(f"LIST: {shown(line)} is not the line of message {len(self.sizes) + 1}")
        if len(self.sizes) >= MOST_MESSAGES:
            raise Malformed(f"LIST: more than {MOST_MESSAGES} messages")
        self.sizes.append(int(size))


class UniqueIdListing:
    """
    The lines of UIDL: numbers from 1 on and unique-ids (RFC 1939 §7).

    @ivar unique_ids: of each message, as the server has them
    """

    def __init__(self) -> None:
        self.unique_ids: list[bytes] = []

    def take(self, line: bytes) -> None:
        """
        The next line.

        @raise Malformed: when it is not the one of the next message
        """
        words = line.split(None, 1)
        unique_id = words[1].rstrip() if len(words) > 1 else b""
        if not _is(words, len(self.unique_ids) + 1) or not unique_id:
            raise Malformed(f"UIDL: {shown(line)} is not the line of message {len(self.unique_ids) + 1}")
        if len(self.unique_ids) >= MOST_MESSAGES:
            raise Malformed(f"UIDL: more than {MOST_MESSAGES} messages")
        self.unique_ids.append(unique_id)


def count_of(stat: Status) -> int:
    """
    The messages that STAT tells of.

    @raise Malformed: when it tells of none
    """
    words = stat.octets.split()
    if len(words) < 3 or not words[1].isdigit() or len(words[1]) > 9:
        raise Malformed(f"STAT: {shown(stat.octets)}")
    return int(words[1])


def _is(words: list[bytes], number: int) -> bool:
    return bool(words) and words[0].isdigit() and len(words[0]) <= 9 and int(words[0]) == number
