"""A POP3 client that sends exactly what it is told and reads line by line."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

#: Seconds that a server may take for an answer.
ANSWER_SECONDS = 60.0

#: l_onoff and l_linger: close() sends a reset.
_RESET = struct.pack("ii", 1, 0)


class Wire:
    """
    A connection.

    @ivar socket: the connected socket
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(ANSWER_SECONDS)
        self.socket = connected
        self._unread = bytearray()

    @classmethod
    def connect(cls, testcase: SynchronousTestCase, address: Any, receive_octets: int = 0) -> Wire:
        """
        Connect, to a path or to host and port.

        @param receive_octets: a small receive buffer, for a client that reads slowly
        """
        family = socket.AF_INET
        if isinstance(address, str):
            family = socket.AF_UNIX
        elif ":" in address[0]:
            family = socket.AF_INET6
        connected = socket.socket(family)
        testcase.addCleanup(connected.close)
        if receive_octets:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_octets)
        connected.settimeout(ANSWER_SECONDS)
        connected.connect(address)
        return cls(connected)

    def send(self, octets: bytes) -> None:
        """Send all of this."""
        self.socket.sendall(octets)

    def line(self) -> bytes:
        """The next line without its CRLF; an error at the end of the connection."""
        while (found := self._unread.find(b"\r\n")) < 0:
            self.more()
        line = bytes(self._unread[:found])
        del self._unread[: found + 2]
        return line

    def lines(self, count: int) -> list[bytes]:
        """As many lines."""
        return [self.line() for _ in range(count)]

    def command(self, line: bytes) -> bytes:
        """Send a line and read its one reply line."""
        self.send(line + b"\r\n")
        return self.line()

    def body(self) -> bytes:
        """The rest of a multi-line reply as on the wire, dots and all, without the terminator."""
        if self._peek(3) == b".\r\n":
            del self._unread[:3]
            return b""
        searched = 0
        while (found := self._unread.find(b"\r\n.\r\n", searched)) < 0:
            searched = max(0, len(self._unread) - 4)
            self.more()
        body = bytes(self._unread[: found + 2])
        del self._unread[: found + 5]
        return body

    def multi_line(self, line: bytes) -> tuple[bytes, bytes]:
        """Send a line and read its multi-line reply: status and body."""
        status = self.command(line)
        return status, self.body() if status.startswith(b"+OK") else b""

    def log_in(self, user: str, password: str) -> bytes:
        """Read the greeting and log in; gives the answer to PASS."""
        greeting = self.line()
        assert greeting.startswith(b"+OK"), greeting
        self.command(f"USER {user}".encode())
        answer = self.command(f"PASS {password}".encode())
        assert answer.startswith(b"+OK"), answer
        return answer

    def rest(self) -> bytes:
        """Everything until the server closes, in good order or with a reset."""
        try:
            while True:
                self.more()
        except (EOFError, ConnectionResetError):
            rest = bytes(self._unread)
            self._unread.clear()
            return rest

    def close(self) -> None:
        """Go without a word."""
        self.socket.close()

    def reset(self) -> None:
        """Go with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()

    def half_close(self) -> None:
        """Say nothing more, and still read."""
        self.socket.shutdown(socket.SHUT_WR)

    def more(self, most: int = 1 << 20) -> int:
        """Take something from the socket, for the other methods to give out; says how much."""
        octets = self.socket.recv(most)
        if not octets:
            raise EOFError(f"the server has closed; unread: {bytes(self._unread[:200])!r}")
        self._unread += octets
        return len(octets)

    def complete(self) -> bool:
        """Whether what was received ends as a reply to RETR does: with the terminator, or with an error."""
        return self._unread.endswith(b"\r\n.\r\n") or self._unread.startswith(b"-ERR")

    def unread(self) -> int:
        """How many octets were received and not given out; they are forgotten."""
        octets = len(self._unread)
        self._unread.clear()
        return octets

    def _peek(self, octets: int) -> bytes:
        while len(self._unread) < octets:
            self.more()
        return bytes(self._unread[:octets])
