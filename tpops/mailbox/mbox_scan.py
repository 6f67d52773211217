"""
What is in a spool of the mbox format (RFC 4155): where each message lies, its size and its unique-id.

Purpose: reads a spool once, in windows of bounded size, from any separator on.
What separates: a line C{From ADDRESS DATE} at the beginning of the file or behind an empty line.  The date must be one
(C{Www Mmm dd hh:mm:ss yyyy}, seconds and zone as programs write them), so an unquoted "From " in a text separates
nothing unless it looks exactly like a separator; Content-Length is not believed.
What belongs to a message: everything between its separator and the empty line before the next one.  The internal
message of c-client (UW imapd, ipop3d, Pine), the first with an C{X-IMAP} field, is no message and stays where it is.
Unique-ids: L{HASH}: of separator and message without the fields in which mail programs keep their marks (Status,
X-Status, X-UID, X-Keywords, X-IMAP, X-IMAPbase, Content-Length, Lines); L{TPOP3D}: MD5 of the first 512 octets from the
separator on, as tpop3d has it; L{X_UID}: UID validity and UID as UW ipop3d has them, L{HASH} for messages without.
Copies that would have the same one get a hash of it and of their number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator

import attrs

from tpops.mailbox.unquoted import Unquoting
from tpops.protocol.transparency import Octets

HASH, TPOP3D, X_UID = "hash", "tpop3d", "x-uid"

#: read(offset, octets): so many octets from an offset; fewer at the end of the file.
Read = Callable[[int, int], bytes]

_WINDOW = 1 << 20

#: Longest separator that is looked at.
_MOST_LINE = 4096

#: Longest header that is looked into for fields.
MOST_HEADER = 1 << 20

#: Octets of a message, from its separator on, by which it is known again: sender, date and the first fields.
_PROBE_OCTETS = 1024

#: Octets that tpop3d hashes.
_TPOP3D_OCTETS = 512

_SEPARATOR = re.compile(
    rb"From (?:[^\n]* )?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +"
    rb"\d{1,2} +\d{1,2}:\d\d(?::\d\d)?(?: +[A-Za-z]{1,6}| +[+-]\d{4}){0,2} +\d{4}(?: +[A-Za-z]{1,6}| +[+-]\d{4})?"
    rb"(?: remote from [^\n]*)?[ \t]*\r?\n"
)
_MARKS = re.compile(
    rb"^(?:Status|X-Status|X-UID|X-Keywords|X-IMAP|X-IMAPbase|Content-Length|Lines):.*\n(?:[ \t].*\n)*",
    re.IGNORECASE | re.MULTILINE,
)
_UID = re.compile(rb"^X-UID:[ \t]*(\d{1,10})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_VALIDITY = re.compile(rb"^X-IMAP(?:base)?:[ \t]*(\d{1,10})[ \t]", re.IGNORECASE | re.MULTILINE)
_INTERNAL = re.compile(rb"^X-IMAP:", re.IGNORECASE | re.MULTILINE)
_HEADER_END = re.compile(rb"\r?\n\r?\n")


class NoSpool(ValueError):
    """The file is not in the mbox format."""


@attrs.frozen(slots=True)
class Place:
    """
    Where a message lies, in octets from the beginning of the spool.

    @ivar start: its separator
    @ivar body: its first octet
    @ivar end: behind its last octet
    @ivar next: the next separator, or the end of the spool
    @ivar probe: of its first octets, see L{probe}
    """

    start: int
    body: int
    end: int
    next: int
    probe: int

    def pack(self) -> bytes:
        """As octets, for a snapshot."""
        return b"%x.%x.%x.%x.%x" % (self.start, self.body, self.end, self.next, self.probe)

    @classmethod
    def unpack(cls, octets: bytes) -> Place:
        """From such octets.  @raise ValueError: when they are not"""
        return cls(*(int(part, 16) for part in octets.split(b".")))

    def moved(self, octets: int) -> Place:
        """The same message so much further back."""
        return Place(self.start + octets, self.body + octets, self.end + octets, self.next + octets, self.probe)


@attrs.frozen(slots=True)
class Found:
    """
    One message.

    @ivar size: wire octets
    @ivar unique_id: not yet made unique
    """

    place: Place
    size: int
    unique_id: bytes


class _Window:
    """Reads a file piecewise, and keeps the piece that was read last."""

    def __init__(self, read: Read, end: int) -> None:
        self._read = read
        self._end = end
        self._at = 0
        self._held = b""

    def octets(self, start: int, end: int) -> bytes:
        """The octets of a range that is no longer than a window."""
        if not self._at <= start or end > self._at + len(self._held):
            self._at = start
            self._held = self._read(start, min(max(_WINDOW, end - start), self._end - start))
        return self._held[start - self._at : end - self._at]

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """A range of any length."""
        while start < end:
            piece = self.octets(start, min(end, start + _WINDOW))
            if not piece:
                return  # cut off meanwhile
            yield piece
            start += len(piece)


def separators(read: Read, start: int, end: int) -> Iterator[tuple[int, int]]:
    """
    Every separator from C{start}, which is one or the beginning of the file, and what comes behind it.

    @raise NoSpool: when the file does not begin with a separator
    """
    if start >= end:
        return
    first = _SEPARATOR.match(read(start, min(_MOST_LINE, end - start)))
    if first is None:
        raise NoSpool("does not begin with a line 'From ADDRESS DATE'")
    yield start, start + first.end()
    at = start + first.end() - 1  # its line end may be the one before an empty line
    while at < end:
        window = read(at, min(_WINDOW, end - at))
        last = at + len(window) >= end
        found = window.find(b"\nFrom ")
        while found >= 0:
            if not last and found > len(window) - _MOST_LINE:
                break
            if window.endswith((b"\n", b"\n\r"), 0, found) or (found == 0 and _after_line_end(read, at)):
                match = _SEPARATOR.match(window, found + 1, found + 1 + _MOST_LINE)
                if match:
                    yield at + found + 1, at + match.end()
            found = window.find(b"\nFrom ", found + 1)
        if last:
            return
        at += found if found > 0 else max(len(window) - 8, 1)


def _after_line_end(read: Read, at: int) -> bool:
    before = read(max(at - 2, 0), min(at, 2))
    return before.endswith((b"\n", b"\n\r"))


def scan(read: Read, start: int, end: int, style: str, unquote: bool = False) -> Iterator[Found]:
    """
    The messages of a spool from a separator on.

    @param end: the spool's size
    @param style: of the unique-ids
    @param unquote: "mboxrd": lines that begin with ">From ", or more such signs, have lost one when they are sent
    """
    window = _Window(read, end)
    validity = _validity(read, end) if style == X_UID else b""
    pending: tuple[int, int] | None = None
    for separator in (*separators(read, start, end), (end, end)):
        if pending is not None:
            found = _message(window, pending, separator[0], end, style, validity, unquote)
            if found is not None:
                yield found
        pending = separator


def _message(
    window: _Window, separator: tuple[int, int], following: int, size: int, style: str, validity: bytes, unquote: bool
) -> Found | None:
    """The message behind a separator; None for the internal one of c-client."""
    start, body = separator
    known = probe(window.octets(start, min(following, start + _PROBE_OCTETS)))
    place = Place(start, body, _end(window, body, following, following == size), following, known)
    header = header_of(window.octets(body, min(place.end, body + _WINDOW)))
    if start == 0 and _INTERNAL.search(header):
        return None
    octets = Octets()
    digest = hashlib.sha256(window.octets(start, body)) if style != TPOP3D else None
    unquoting = Unquoting() if unquote else None
    first = True
    for piece in window.pieces(body, place.end):
        octets.feed(piece if unquoting is None else unquoting.feed(piece))
        if digest is not None:
            digest.update(_MARKS.sub(b"", piece[: len(header)]) + piece[len(header) :] if first else piece)
        first = False
    if unquoting is not None:
        octets.feed(unquoting.finish())
    if digest is None:
        unique_id = hashlib.md5(
            window.octets(start, min(following, start + _TPOP3D_OCTETS)), usedforsecurity=False
        ).hexdigest()
    else:
        unique_id = digest.hexdigest()[:40]
        uid = _UID.search(header) if validity else None
        if uid:
            unique_id = f"{int(validity):08x}{int(uid[1]):08x}"
    return Found(place, octets.total(), unique_id.encode("ascii"))


def probe(beginning: bytes) -> int:
    """A number for the first octets of a message."""
    return int.from_bytes(hashlib.blake2b(beginning, digest_size=8).digest())


def probed(read: Read, place: Place) -> int:
    """What L{probe} gives for what is at a place now."""
    return probe(read(place.start, min(place.next - place.start, _PROBE_OCTETS)))


def _end(window: _Window, body: int, following: int, last: bool) -> int:
    """Behind the last octet of a message: before the empty line that ends it."""
    tail = window.octets(max(body - 1, following - 3), following)
    if tail.endswith(b"\n\r\n") and following - 2 >= body:
        return following - 2
    if tail.endswith(b"\n\n") and following - 1 >= body:
        return following - 1
    return following if last else max(following - 1, body)


def header_of(beginning: bytes) -> bytes:
    """The header fields of a message, with the line end of the last."""
    if beginning.startswith((b"\n", b"\r\n")):
        return b""
    end = _HEADER_END.search(beginning, 0, MOST_HEADER)
    return beginning[: beginning.index(b"\n", end.start()) + 1] if end else beginning[:MOST_HEADER]


def _validity(read: Read, end: int) -> bytes:
    """The UID validity in the first message's header, b"" for none."""
    beginning = read(0, min(MOST_HEADER, end))
    found = _VALIDITY.search(header_of(beginning))
    return found[1] if found else b""


def made_unique(unique_id: bytes, taken: Collection[bytes]) -> bytes:
    """The unique-id itself where nobody has it, else a hash of it and the lowest number that makes it free."""
    made, number = unique_id, 0
    while made in taken:
        number += 1
        made = hashlib.sha256(b"%s/%d" % (unique_id, number)).hexdigest()[:40].encode("ascii")
    return made
