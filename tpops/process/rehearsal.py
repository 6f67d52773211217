"""
Sessions that are played before the first real one, in the process that real ones are forked from.

Purpose: what is made at first use (caches of Python, of zope.interface and of our own) is then made once, and shared
by all sessions, which so start in less time and with less memory of their own.
How: with a Maildir that has one message, in a temporary directory, by what serves real sessions; the front and the
client are played here, on the same reactor.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable

from twisted.internet.interfaces import IReactorFDSet
from twisted.python.failure import Failure

from tpops.process.packets import Reading
from tpops.process.records import MOST_OCTETS, Go, pack, parse

#: Python adapts code after so many calls.
_TIMES = 40

_DIALOG = b"CAPA\r\nSTAT\r\nLIST\r\nUIDL\r\nTOP 1 0\r\nRETR 1\r\nDELE 1\r\nRSET\r\nNOOP\r\nQUIT\r\n"

_MESSAGE = b"Subject: rehearsal\n\nNobody reads this.\n"

_GO = Go(b"+OK\r\n", b"", True, ("PLAIN", "LOGIN"), False, "i-default")


def rehearse(reactor: IReactorFDSet, serve: Callable[[str, socket.SocketType], None]) -> None:
    """
    Play them.

    @param serve: serves a session with ~/Maildir on the reactor until its end: home, and control line to the front
    @raise OSError: when there is no place for that
    """
    with tempfile.TemporaryDirectory(prefix="tpops-") as home:
        maildir = os.path.join(home, "Maildir")
        for part in ("tmp", "new", "cur"):
            os.makedirs(os.path.join(maildir, part))
        with open(os.path.join(maildir, "new", "1.rehearsal"), "wb") as file:
            file.write(_MESSAGE)
        for _ in range(_TIMES):
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            control = socket.SocketType(fileno=its.detach())
            front = _Front(reactor, ours)
            serve(home, control)
            front.close()
            control.close()


class _Front(Reading):
    """The front and the client of one session."""

    def __init__(self, reactor: IReactorFDSet, control: socket.socket) -> None:
        control.setblocking(False)
        self._control = control
        self._client: socket.socket | None = None
        super().__init__(reactor, control.fileno())

    def doRead(self) -> None:
        """IReadDescriptor: what the session says."""
        said = parse(self._control.recv(MOST_OCTETS))
        if "opened" in said:
            self._client, its = socket.socketpair()
            with its:
                self._client.send(_DIALOG)
                socket.send_fds(self._control, [pack(_GO.record())], [its.fileno()])
        elif "verified" not in said and "ended" not in said:
            raise RuntimeError(f"a session that was rehearsed says {said}")

    def connectionLost(self, reason: Failure) -> None:
        """IReadDescriptor: what the session says could not be answered; it ends when the front is gone."""
        self._control.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """It is over."""
        self._control.close()
        if self._client is not None:
            self._client.close()
