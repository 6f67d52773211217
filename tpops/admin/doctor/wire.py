"""
A POP3 client that keeps what came, octet by octet, and judges nothing.

Purpose: whoever looks for mistakes of a server must see its replies as they are; mail programs' libraries repair them
or give up.
Limits: blocking; a reply's line may have L{MOST_LINE} octets, a multi-line reply as much as the caller allows.
Errors: L{Broken}, with what was asked and what came.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import attrs

#: Longest line that is read.
MOST_LINE = 1 << 20

_CHUNK = 1 << 16


class Broken(Exception):
    """The server did not answer as a POP3 server does; the text says at what."""


@attrs.frozen
class Address:
    """
    Where the server is, and how it is talked to.

    @ivar tls: "none", "stls" or "implicit"
    @ivar seconds: how long an answer may take
    """

    host: str
    port: int
    tls: str
    seconds: float = 30.0

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def any_certificate() -> ssl.SSLContext:
    """TLS with whoever is there: what is wrong with the certificate is told elsewhere."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def shown(octets: bytes) -> str:
    """Octets of the server for people."""
    text = octets[:200].decode("ascii", "backslashreplace")
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


class Wire:
    """
    A connection; C{with} closes it, without QUIT.

    @ivar greeting: the first line
    @ivar tls: version of TLS, "" without
    """

    def __init__(self, address: Address, stls: bool = True) -> None:
        """
        Connect, read the greeting, and turn TLS on as the address says.

        @param stls: False leaves STLS to the caller
        """
        self._unread = b""
        self.tls = ""
        self._asked = "connect"
        try:
            self._socket = socket.create_connection((address.host, address.port), address.seconds)
        except OSError as problem:
            raise Broken(f"cannot connect to {address}: {problem}") from None
        try:
            if address.tls == "implicit":
                self.start_tls(address.host)
            self.greeting = self.line()
            if address.tls == "stls" and stls:
                answer = self.command(b"STLS")
                if not answer.startswith(b"+OK"):
                    raise Broken(f"STLS is answered with {shown(answer)!r}")
                self.start_tls(address.host)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_tls(self, name: str) -> None:
        """Shake hands; octets that came before are dropped, as a client must."""
        self._asked = "TLS handshake"
        self._unread = b""
        try:
            wrapped = any_certificate().wrap_socket(self._socket, server_hostname=name)
        except (OSError, ValueError) as problem:
            raise Broken(f"the TLS handshake fails: {problem}") from None
        self._socket = wrapped
        self.tls = wrapped.version() or ""

    def send(self, octets: bytes) -> None:
        """Send all of this."""
        self._asked = shown(octets.split(b"\r\n")[0].split(b" ")[0]) or "an empty line"
        try:
            self._socket.sendall(octets)
        except OSError as problem:
            raise Broken(f"the connection broke at {self._asked}: {problem}") from None

    def line(self) -> bytes:
        """One line, without its line end."""
        while b"\n" not in self._unread:
            if len(self._unread) > MOST_LINE:
                raise Broken(f"a line of the answer to {self._asked} is longer than {MOST_LINE} octets")
            self._more()
        line, _, self._unread = self._unread.partition(b"\n")
        return line.removesuffix(b"\r")

    def command(self, command: bytes) -> bytes:
        """Send a command; gives the first line of the reply."""
        self.send(command + b"\r\n")
        return self.line()

    def raw_lines(self) -> Iterator[bytes]:
        """The lines of a multi-line reply as they came, with their line ends, up to the line with the dot."""
        pending = b""
        while True:
            pending += self._unread
            self._unread = b""
            while b"\n" in pending:
                line, end, pending = pending.partition(b"\n")
                if line in (b".", b".\r"):
                    self._unread = pending
                    return
                yield line + end
            if len(pending) > MOST_LINE:
                raise Broken(f"a line of the answer to {self._asked} is longer than {MOST_LINE} octets")
            self._more()

    def lines(self, command: bytes) -> tuple[bytes, list[bytes]]:
        """A command with a multi-line reply: its first line, and the others without dots and line ends."""
        first = self.command(command)
        if not first.startswith(b"+OK"):
            return first, []
        return first, [line.rstrip(b"\r\n").removeprefix(b".") for line in self.raw_lines()]

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes, not even the end, for that long."""
        patience = self._socket.gettimeout()
        self._socket.settimeout(seconds)
        try:
            return not self._unread and self._receive() is None
        except OSError:
            return False
        finally:
            self._socket.settimeout(patience)

    def close(self) -> None:
        """Close without QUIT."""
        self._socket.close()

    def quit(self) -> bytes:
        """QUIT; gives the reply."""
        return self.command(b"QUIT")

    def _more(self) -> None:
        """Wait for further octets."""
        try:
            octets = self._receive()
        except OSError as problem:
            raise Broken(f"the connection broke at {self._asked}: {problem}") from None
        if octets is None:
            raise Broken(f"no answer to {self._asked} within {self._socket.gettimeout():g} seconds")
        if not octets:
            raise Broken(f"the server closed the connection at {self._asked}")
        self._unread += octets

    def _receive(self) -> bytes | None:
        """What comes next, b"" at the end, None when nothing comes in time."""
        try:
            return self._socket.recv(_CHUNK)
        except TimeoutError:
            return None
