"""
Stored octets to wire octets and back to sizes (RFC 1939 section 3 and 11).

Purpose: turn a message as it lies in a store, with any mix of line ends, into the lines of a multi-line
reply, chunk by chunk, with the same result for every way of cutting it into chunks.

The rules, the same for sizes and for sending:
  - LF that does not follow CR becomes CRLF; CRLF stays; a CR alone stays and ends no line;
  - a message whose last line has no line end gets CRLF, and that counts; an empty message stays empty;
  - a line that begins with '.' gets one more '.', which does not count (RFC 1939 section 3).

Cost: a few passes of bytes.replace and bytes.find over each chunk; no loop over lines.
"""

from __future__ import annotations

LF = 0x0A
CR = 0x0D

#: With more than one dot in so many octets, a search for LF and dot together is the faster one.
_DENSE = 32

#: What ends a multi-line reply.
TERMINATOR = b".\r\n"


def _stuffed(text: bytes, at_line_start: bool) -> bytes:
    """
    Text with LF line ends, with a dot more on lines that begin with one.

    Looking for single dots and then at the octet before each is several times faster than looking for LF and dot
    together, unless the text is full of dots.
    """
    at = text.find(b".")
    if at < 0:
        return text
    pieces = []
    start = 0
    patience = 16 + len(text) // _DENSE
    if at == 0:
        if at_line_start:
            pieces.append(b"")
        at = text.find(b".", 1)
    while at > 0:
        if text[at - 1] == LF:
            pieces.append(text[start:at])
            start = at
        patience -= 1
        if not patience:
            pieces.append(text[start : at + 1] + text[at + 1 :].replace(b"\n.", b"\n.."))
            return b".".join(pieces)
        at = text.find(b".", at + 1)
    pieces.append(text[start:])
    return b".".join(pieces)


class LineEnds:
    """Takes chunks with any line ends and gives them with LF only; a CR at a chunk's end waits for the next."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting = False

    def feed(self, chunk: bytes) -> bytes:
        """The chunk with CRLF as LF."""
        if self._waiting:
            chunk = b"\r" + chunk
            self._waiting = False
        if b"\r" in chunk:
            if chunk[-1] == CR:
                self._waiting = True
                chunk = chunk[:-1]
            chunk = chunk.replace(b"\r\n", b"\n")
        return chunk

    def finish(self) -> bytes:
        """What still waits when the message is over."""
        waiting, self._waiting = self._waiting, False
        return b"\r" if waiting else b""


class Encoder:
    """
    Makes a message's chunks fit for the wire.

    @ivar octets: wire octets so far, without the dots that transparency added: what LIST announces
    """

    __slots__ = ("_at_line_start", "_ends", "octets")

    def __init__(self) -> None:
        self.octets = 0
        self._at_line_start = True
        self._ends: LineEnds | None = None

    def feed(self, chunk: bytes) -> bytes:
        """The next stored octets, as they go onto the wire."""
        if self._ends is None:
            # Nearly all Maildirs have LF alone, and then there is no state to carry.
            if b"\r" not in chunk:
                return self.lines(chunk)
            self._ends = LineEnds()
        return self.lines(self._ends.feed(chunk))

    def lines(self, text: bytes) -> bytes:
        """The same for text whose line ends are LF already."""
        if not text:
            return b""
        plain = len(text)
        text = _stuffed(text, self._at_line_start)
        dots = len(text) - plain
        self._at_line_start = text[-1] == LF
        wire = text.replace(b"\n", b"\r\n")
        self.octets += len(wire) - dots
        return wire

    def finish(self) -> bytes:
        """What the message's last line still needs; the terminator is not part of it."""
        tail = self.lines(self._ends.finish()) if self._ends is not None else b""
        if not self._at_line_start:
            self.octets += 2
            self._at_line_start = True
            tail += b"\r\n"
        return tail


class Octets:
    """Counts the wire octets of a message without making them."""

    __slots__ = ("_last", "_octets")

    def __init__(self) -> None:
        self._octets = 0
        self._last = LF

    def feed(self, chunk: bytes) -> None:
        """Count the next stored octets."""
        if not chunk:
            return
        self._octets += len(chunk) + chunk.count(b"\n")
        if b"\r" in chunk:
            self._octets -= chunk.count(b"\r\n")
        if self._last == CR and chunk[0] == LF:
            self._octets -= 1
        self._last = chunk[-1]

    def total(self) -> int:
        """The octets of all that was fed, as a whole message."""
        return self._octets if self._last == LF else self._octets + 2


class Top:
    """
    Cuts a message after its header, the blank line and a number of body lines (RFC 1939 section 7, TOP).

    @ivar done: nothing more is wanted
    """

    __slots__ = ("_at_line_start", "_ends", "_in_header", "_left", "done")

    def __init__(self, lines: int) -> None:
        self._left = lines
        self._in_header = True
        self._at_line_start = True
        self._ends = LineEnds()
        self.done = False

    def feed(self, chunk: bytes) -> bytes:
        """The part of the next stored octets that belongs to the answer, with LF line ends."""
        return self._cut(self._ends.feed(chunk))

    def finish(self) -> bytes:
        """What still waits when the message is over."""
        return self._cut(self._ends.finish())

    def _cut(self, text: bytes) -> bytes:
        if not text or self.done:
            return b""
        start = 0
        if self._in_header:
            end = self._blank_line_end(text)
            if end < 0:
                self._at_line_start = text[-1] == LF
                return text
            self._in_header = False
            start = end
        return text[:start] + self._body(text[start:])

    def _blank_line_end(self, text: bytes) -> int:
        """Where the body begins in text, -1 when the header goes on."""
        if self._at_line_start and text[0] == LF:
            return 1
        blank = text.find(b"\n\n")
        return blank + 2 if blank >= 0 else -1

    def _body(self, text: bytes) -> bytes:
        lines = text.count(b"\n")
        if lines < self._left:
            self._left -= lines
            return text
        end = 0
        for _ in range(self._left):
            end = text.index(b"\n", end) + 1
        self._left = 0
        self.done = True
        return text[:end]


def has_utf8_header(beginning: bytes) -> bool:
    """
    Whether the header fields of a message hold UTF-8 (RFC 6532), judged by the message's beginning.

    Other 8-bit octets (unlabelled ISO 8859 and the like) are not UTF-8 and were never meant to be.
    """
    header = beginning.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    if header.isascii():
        return False
    try:
        header.decode("utf-8")
    except UnicodeDecodeError as bad:
        # Cut in the middle of a character by the chunk's end: still UTF-8.
        return bad.reason == "unexpected end of data"
    return True
