r"""
What an operator wants to know of a message, from its header; and text of strangers made fit for a terminal.

Purpose: date, sender and subject for tables, and when a message arrived, for "older than".  Arrived: the date of the
first C{Received} field, which the last server before us wrote; where there is none, C{Date}.
Limits: looks at the first 64 KiB of a message.  What cannot be understood is shown as it is, or left out; nothing here
raises because of what is in a message.  Whatever is not printable is shown as C{\x1b} and the like.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.errors import MessageError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime

import attrs

from tpops.admin.mailbox_open import read
from tpops.interfaces import IStoredMessage

#: Longest header that is looked into.
MOST_OCTETS = 1 << 16

#: Octets that are read first: more than most headers have.
_FIRST_OCTETS = 1 << 13

#: Longest text that is kept of a field.
_MOST_CHARACTERS = 500

_FIELD = r"^%s[ \t]*:((?:.*)(?:\n[ \t].*)*)"
_DATE, _FROM, _SUBJECT, _RECEIVED, _RETURN_PATH = (
    re.compile((_FIELD % name).encode(), re.IGNORECASE | re.MULTILINE)
    for name in ("Date", "From", "Subject", "Received", "Return-Path")
)
_SENDER = re.compile(rb"\s*<([!-;=?-~]{1,320})>\s*")


@attrs.frozen
class Header:
    """
    Of one message.

    @ivar arrived: seconds since the epoch, None where no field says it
    @ivar date: seconds since the epoch by C{Date}
    @ivar author: C{From}, decoded
    @ivar subject: C{Subject}, decoded
    @ivar sender: the address in C{Return-Path}, b"" for none
    """

    arrived: float | None
    date: float | None
    author: str
    subject: str
    sender: bytes

    @property
    def date_text(self) -> str | None:
        """The date in UTC."""
        if self.date is None:
            return None
        return datetime.fromtimestamp(self.date, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def beginning(message: IStoredMessage) -> bytes:
    """Read until the header is over; there may be more behind it."""
    octets = await read(message, _FIRST_OCTETS)
    more = octets
    while more and len(octets) < MOST_OCTETS and _end(octets) < 0:
        more = await read(message, MOST_OCTETS - len(octets))
        octets += more
    return octets


def parse(octets: bytes) -> Header:
    """What the beginning of a message says."""
    end = _end(octets)
    fields = (octets if end < 0 else octets[:end]).replace(b"\r\n", b"\n")
    date = _time(_value(_DATE, fields))
    received = _value(_RECEIVED, fields)
    arrived = _time(received.rpartition(b";")[2]) if b";" in received else None
    sender = _SENDER.fullmatch(_value(_RETURN_PATH, fields))
    return Header(
        arrived=date if arrived is None else arrived,
        date=date,
        author=_text(_value(_FROM, fields)),
        subject=_text(_value(_SUBJECT, fields)),
        sender=sender[1] if sender else b"",
    )


def printable(text: str, but: str = "") -> str:
    """
    The text with whatever is not printable escaped.

    @param but: what stays all the same
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in but else one.encode("unicode_escape").decode("ascii") for one in text
    )


def _end(octets: bytes) -> int:
    """Behind the last line of the header, -1 when it goes on."""
    if octets.startswith((b"\n", b"\r\n")):
        return 0
    ends = [at for at in (octets.find(b"\n\n"), octets.find(b"\n\r\n")) if at >= 0]
    return min(ends) + 1 if ends else -1


def _value(field: re.Pattern[bytes], fields: bytes) -> bytes:
    """The value of the first field of that name, on one line."""
    found = field.search(fields)
    return re.sub(rb"\n[ \t]*", b" ", found[1]).strip() if found else b""


def _time(value: bytes) -> float | None:
    try:
        found = parsedate_to_datetime(value[:200].decode("ascii", "replace"))
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        seconds = found.timestamp()
        datetime.fromtimestamp(seconds, UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return seconds


def _text(value: bytes) -> str:
    plain = value.decode("utf-8", "backslashreplace")
    try:
        text = str(make_header(decode_header(plain))) if "=?" in plain else plain
    except (MessageError, ValueError, LookupError):
        text = plain
    return text[:_MOST_CHARACTERS]
