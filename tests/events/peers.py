"""
Receivers of notices, written from what is known of their protocols: whosond, rpc.dracd with a portmapper, UDP.

Each listens on this machine in a thread of its own and keeps what it got.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

#: Seconds that a test waits for a datagram.
PATIENCE_SECONDS = 60.0


class _Peer:
    """Serves on a socket, in a thread, until the test ends."""

    _socket: socket.socket

    def _begin(self, testcase: SynchronousTestCase, serve: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=serve)
        self._thread.start()
        testcase.addCleanup(self.stop)

    def stop(self) -> None:
        """Answer nobody any more.  Idempotent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


class UDPPeer(_Peer):
    """
    Answers datagrams.

    @ivar got: the datagrams
    @ivar port: where
    """

    def __init__(
        self, testcase: SynchronousTestCase, answer: Callable[[bytes], bytes | None], host: str = "127.0.0.1"
    ) -> None:
        self.got: list[bytes] = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self.port: int = self._socket.getsockname()[1]
        self._begin(testcase, self._serve)

    def _serve(self) -> None:
        while True:
            try:
                datagram, sender = self._socket.recvfrom(65536)
            except OSError:
                return
            if not datagram:
                return
            self.got.append(datagram)
            answer = self._answer(datagram)
            if answer is not None:
                with contextlib.suppress(OSError):
                    self._socket.sendto(answer, sender)


class Whosond:
    """
    A WHOSON server's table.

    @ivar users: who is logged in, by address
    @ivar requests: all requests that were understood
    @ivar refuse: answer with no
    @ivar lose: so many requests get no answer
    """

    def __init__(self) -> None:
        self.users: dict[str, str] = {}
        self.requests: list[str] = []
        self.refuse = False
        self.lose = 0

    def answer(self, request: bytes) -> bytes | None:
        """What a request gets: one line, an empty line."""
        if self.lose:
            self.lose -= 1
            return None
        if not request.endswith(b"\r\n\r\n") or request.count(b"\r\n") != 2:
            return b"*not a line and an empty line\r\n\r\n"
        words = request.decode().split()
        self.requests.append(" ".join(words))
        if self.refuse:
            return b"-no such luck\r\n\r\n"
        match words:
            case ["LOGIN", address, user]:
                self.users[str(ipaddress.ip_address(address))] = user
                return b"+LOGIN OK\r\n\r\n"
            case ["LOGOUT", address]:
                known = self.users.pop(address, None)
                return b"+LOGOUT OK\r\n\r\n" if known else b"-not logged in\r\n\r\n"
            case ["QUERY", address]:
                return f"+{self.users[address]}\r\n\r\n".encode() if address in self.users else b"-no\r\n\r\n"
        return b"*bad request\r\n\r\n"


class StreamPeer(_Peer):
    """Answers one request on each connection, by TCP or a UNIX socket."""

    def __init__(self, testcase: SynchronousTestCase, answer: Callable[[bytes], bytes | None], path: str = "") -> None:
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._socket.bind(path or ("127.0.0.1", 0))
        self._socket.listen()
        self.port: int = 0 if path else self._socket.getsockname()[1]
        self._begin(testcase, self._serve)

    def _serve(self) -> None:
        while True:
            try:
                connected, _ = self._socket.accept()
            except OSError:
                return
            # Whoever has read what he needs may go.
            with connected, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    octets = connected.recv(3)
                    if not octets:
                        break
                    request += octets
                answer = self._answer(request)
                for at in range(len(answer or b"")):
                    connected.sendall((answer or b"")[at : at + 1])


class Dracd:
    """
    rpc.dracd and the portmapper that knows it.

    @ivar addresses: those that may relay
    @ivar verdict: what DRACPROC_ADD says
    @ivar known: whether the portmapper knows it
    """

    def __init__(self, testcase: SynchronousTestCase) -> None:
        self.addresses: list[str] = []
        self.verdict = 0
        self.known = True
        self.server = UDPPeer(testcase, self._drac)
        self.portmapper = UDPPeer(testcase, self._portmap)

    def _drac(self, octets: bytes) -> bytes:
        xid, arguments = _call(octets, 900101, 1, 1)
        if arguments is None:
            return _reply(xid, 1)
        (address,) = struct.unpack(">I", arguments)
        if not self.verdict:
            self.addresses.append(str(ipaddress.IPv4Address(address)))
        return _reply(xid, 0, self.verdict)

    def _portmap(self, octets: bytes) -> bytes:
        xid, arguments = _call(octets, 100000, 2, 3)
        if arguments is None:
            return _reply(xid, 1)
        wanted = struct.unpack(">4I", arguments)
        return _reply(xid, 0, self.server.port if self.known and wanted == (900101, 1, 17, 0) else 0)


def _call(octets: bytes, program: int, version: int, procedure: int) -> tuple[int, bytes | None]:
    """A call's number and its arguments, None where it is for somebody else."""
    xid, message, rpc, *wanted = struct.unpack_from(">6I", octets)
    credentials = struct.unpack_from(">4I", octets, 24)
    if (message, rpc, credentials) != (0, 2, (0, 0, 0, 0)) or wanted != [program, version, procedure]:
        return xid, None
    return xid, octets[40:]


def _reply(xid: int, status: int, *words: int) -> bytes:
    """An accepted call's reply, whose verifier is four octets of padding and more."""
    return struct.pack(f">{7 + len(words)}I", xid, 1, 0, 0, 3, 0x61626300, status, *words)
