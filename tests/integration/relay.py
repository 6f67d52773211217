"""A network between two programs that may swallow everything, as a firewall or a pulled cable does."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class Relay:
    """
    Passes octets on between its own port and another one on this machine, in a thread.

    @ivar port: where clients connect
    @ivar swallows: whether what comes is thrown away; nobody is told
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.swallows = False
        self._ends: dict[socket.socket, socket.socket] = {}
        self._stopping, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close every connection and end."""
        self._stop.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._stopping, self._listener, *self._ends], [], [])
            if self._stopping in ready:
                break
            for one in ready:
                if one is self._listener:
                    self._accept()
                elif one in self._ends:
                    self._pass_on(one)
        for one in (self._stopping, self._listener, *self._ends):
            one.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        self._ends |= {client: server, server: client}

    def _pass_on(self, one: socket.socket) -> None:
        other = self._ends[one]
        octets = b""
        with contextlib.suppress(OSError):
            octets = one.recv(65536)
            if octets and not self.swallows:
                other.sendall(octets)
        if not octets:
            for end in (one, other):
                del self._ends[end]
                end.close()
