r"""
The octets of a message as they come behind DATA (RFC 5321 section 4.5.2): pure code, no I/O.

Purpose: find the end, take the dots away that the client has put before lines with one, whatever way the stream is cut.
Only CRLF.CRLF ends a message (RFC 5321 section 4.1.1.4).  A line begins behind CRLF and nowhere else: with bare LF or
CR nobody can end a message early and smuggle another one in.  They are octets like others here, and so is NUL.
"""

from __future__ import annotations

import re

_END = b"\r\n.\r\n"

#: Beginnings of the end, longest first: what may be one is kept until more has come.
_BEGINNINGS = tuple(_END[:length] for length in range(len(_END) - 1, 0, -1))

_LINE_END = re.compile(rb"(?<!\r)\r\n")


class Data:
    """
    One message.

    @ivar ended: whether its end has come
    @ivar rest: what came behind the end
    """

    __slots__ = ("_held", "_started", "ended", "rest")

    def __init__(self) -> None:
        # The line of the command DATA has ended with CRLF, which is no part of the message.
        self._held = b"\r\n"
        self._started = False
        self.ended = False
        self.rest = b""

    def feed(self, octets: bytes) -> bytes:
        """Take what came; gives octets of the message."""
        octets = self._held + octets
        end = octets.find(_END)
        if end >= 0:
            self.ended = True
            self.rest = octets[end + len(_END) :]
            body = octets[: end + 2]
        else:
            self._held = next((one for one in _BEGINNINGS if octets.endswith(one)), b"")
            body = octets[: len(octets) - len(self._held)]
        if body and not self._started:
            self._started = True
            return body.replace(b"\r\n.", b"\r\n")[2:]
        return body.replace(b"\r\n.", b"\r\n")


class StoredLines:
    r"""
    Takes octets with CRLF line ends and gives them with LF, as mail is stored on this machine.

    What POP3 makes of that is again what came: each line end becomes CRLF there.  For that, CR CR LF stays as it is; a
    bare LF stays, too, and is a line end from then on.
    """

    __slots__ = ("_before", "_held")

    def __init__(self) -> None:
        self._held = b""
        self._before = b""

    def feed(self, octets: bytes) -> bytes:
        """Take octets; a CR at the end waits for the next."""
        if self._held:
            octets = self._held + octets
        if octets[-1:] == b"\r":
            octets, self._held = octets[:-1], b"\r"
        else:
            self._held = b""
        if not octets:
            return b""
        before, self._before = self._before, octets[-1:]
        if before != b"\r" and b"\r\r\n" not in octets:
            return octets.replace(b"\r\n", b"\n")
        return _LINE_END.sub(b"\n", before + octets)[len(before) :]

    def finish(self) -> bytes:
        """What still waits when the message is over."""
        held, self._held = self._held, b""
        return held
