"""
Everything the server says, as octets ready for the wire.

Purpose: no other module formats a reply.  Errors become replies in L{from_error} alone.
Limits: a status line has at most 512 octets with its CRLF (RFC 2449 section 4); whatever comes from outside
(names, greetings) is cut and cleaned here.
"""

from __future__ import annotations

from tpops.errors import TpopsError

#: Longest status line, without CRLF.
_LONGEST = 510

#: The answer to everything that should not have happened.
INTERNAL = b"-ERR [SYS/TEMP] internal server error, it has been logged\r\n"

NOOP = b"+OK\r\n"
BYE = b"+OK bye\r\n"
NAME_TAKEN = b"+OK send PASS\r\n"
BEGIN_TLS = b"+OK begin TLS negotiation\r\n"
UTF8_ON = b"+OK UTF8 enabled\r\n"
LINE_TOO_LONG = b"-ERR line too long\r\n"
PLAINTEXT_REFUSED = b"-ERR passwords are not taken without TLS, use APOP or TLS; closing the connection\r\n"
TOO_MANY_ERRORS = b"-ERR too many errors, closing the connection\r\n"
TOO_MANY_COMMANDS = b"-ERR too many commands, closing the connection\r\n"
NEW_CLIENTS = b"-ERR [SYS/TEMP] too many clients that have not logged in, closing the connection\r\n"
TLS_NOT_CLEAN = b"-ERR commands behind STLS are not allowed, closing the connection\r\n"
LIST_FOLLOWS = b"+OK message sizes follow\r\n"
UIDL_FOLLOWS = b"+OK unique-ids follow\r\n"
CAPABILITIES_FOLLOW = b"+OK capabilities follow\r\n"
MECHANISMS_FOLLOW = b"+OK SASL mechanisms follow\r\n"
LANGUAGES_FOLLOW = b"+OK languages follow\r\n"
TOP_FOLLOWS = b"+OK top of message follows\r\n"


def error(text: str, code: str | None = None) -> bytes:
    """A negative reply."""
    line = f"-ERR [{code}] {text}" if code else f"-ERR {text}"
    return _line(line)


def from_error(problem: TpopsError) -> bytes:
    """The negative reply to an error; the error's own text stays in the log."""
    return error(problem.public, problem.code)


def greeting(text: str, stamp: bytes | None) -> bytes:
    """The first line; with the APOP timestamp where APOP is possible (RFC 1939 section 7)."""
    if stamp is None:
        return _line(f"+OK {text}")
    return _line(f"+OK {text[: _LONGEST - len(stamp) - 5]} {stamp.decode('ascii')}")


def logged_in(name: str, messages: int, octets: int) -> bytes:
    """The answer to a login."""
    if not _fit(name):
        name = "maildrop"
    return b"+OK %s has %d message%s (%d octets)\r\n" % (
        name.encode("ascii"),
        messages,
        b"" if messages == 1 else b"s",
        octets,
    )


def program_serves(name: str) -> bytes:
    """The answer to a login where another program serves, which alone knows the messages."""
    return b"+OK %s logged in\r\n" % (name.encode("ascii") if _fit(name) else b"maildrop")


def _fit(name: str) -> bool:
    return name.isascii() and name.isprintable() and len(name) <= 128


def stat(messages: int, octets: int) -> bytes:
    """RFC 1939 section 5, STAT."""
    return b"+OK %d %d\r\n" % (messages, octets)


def reset(messages: int, octets: int) -> bytes:
    """The answer to RSET."""
    return b"+OK %d messages (%d octets)\r\n" % (messages, octets)


def retr(octets: int) -> bytes:
    """The line before a message."""
    return b"+OK %d octets\r\n" % octets


def deleted(number: int) -> bytes:
    """The answer to DELE."""
    return b"+OK message %d deleted\r\n" % number


def number_and(number: int, value: bytes) -> bytes:
    """The one-line answers of LIST and UIDL."""
    return b"+OK %d %s\r\n" % (number, value)


def last(number: int) -> bytes:
    """RFC 1460 section 3, LAST."""
    return b"+OK %d\r\n" % number


def bye(left: int) -> bytes:
    """The answer to QUIT after UPDATE."""
    return b"+OK bye (%d message%s left)\r\n" % (left, b"" if left == 1 else b"s")


def challenge(data: bytes) -> bytes:
    """A SASL challenge, already in base64 (RFC 5034 section 4)."""
    return b"+ %s\r\n" % data


def multi_line(first: bytes, lines: list[bytes]) -> bytes:
    """A short multi-line reply; no line begins with a dot."""
    return first + b"".join([line + b"\r\n" for line in lines]) + b".\r\n"


def _line(text: str) -> bytes:
    octets = text.encode("utf-8", "replace")[:_LONGEST]
    return octets.replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n"
