"""What tests need that start a server as systemd would: its sockets, and its ear."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PATIENCE_SECONDS, RunningServer

#: One message: assignments.
Message = dict[str, str]


class SystemdCase(SynchronousTestCase):
    """
    See the module.

    @ivar notify: where the server tells how it is doing
    """

    def setUp(self) -> None:
        """Listen; paths of sockets must be short."""
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notify.close)
        self.notify.bind(str(self.directory / "notify"))
        self.notify.settimeout(PATIENCE_SECONDS)

    def heard(self, *names: str) -> Message:
        """Wait for the next message that has all of these assignments."""
        while True:
            message = dict(line.split("=", 1) for line in self.notify.recv(65536).decode().splitlines())
            if all(name in message for name in names):
                return message

    def listening(self) -> tuple[socket.socket, int]:
        """A listening socket, and its port."""
        opened = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(opened.close)
        return opened, opened.getsockname()[1]

    def listening_unix(self) -> tuple[socket.socket, str]:
        """A listening UNIX socket, and its path."""
        path = str(self.directory / "pop3")
        opened = socket.socket(socket.AF_UNIX)
        self.addCleanup(opened.close)
        opened.bind(path)
        opened.listen()
        return opened, path

    def begin(
        self,
        server: RunningServer,
        given: Sequence[socket.socket] = (),
        names: str = "",
        watchdog: str = "",
        before: Sequence[str] = (),
    ) -> None:
        """Start it with these sockets and wait until it says that it is ready."""
        self.launch(server, given, names, watchdog, before)
        self.heard("READY")

    def launch(
        self,
        server: RunningServer,
        given: Sequence[socket.socket] = (),
        names: str = "",
        watchdog: str = "",
        before: Sequence[str] = (),
    ) -> None:
        """Start it with these sockets as descriptors 3, 4 ..., by way of a command that becomes it."""
        numbers = [one.fileno() for one in given]
        # By way of high numbers: 3 may be one of them.
        moves = "".join(f" {100 + turn}<&{number}" for turn, number in enumerate(numbers))
        moves += "".join(f" {3 + turn}<&{100 + turn} {100 + turn}<&-" for turn in range(len(numbers)))
        server.launch(
            before=["bash", "-c", f'LISTEN_PID=$$ exec "$@" {moves}', "bash", *before],
            pass_fds=numbers,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(self.directory / "notify"),
                "LISTEN_FDS": str(len(given)),
                "LISTEN_FDNAMES": names,
                "WATCHDOG_USEC": watchdog,
            },
        )
