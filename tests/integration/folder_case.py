"""What the tests of folders share: a server with a Maildir that has folders."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, USER, RunningServer
from tests.integration.wire import Wire

FAILED = b"-ERR [AUTH] authentication failed"
NO_FOLDER = b"-ERR [SYS/PERM] there is no such folder"


def encoded(*parts: str) -> bytes:
    """A SASL response: texts with NULs between them."""
    return base64.b64encode("\0".join(parts).encode())


class FolderCase(SynchronousTestCase):
    """Three accounts; joe has mail in the Maildir itself and in the folders Lists and Lists/tpops."""

    timeout = 240
    users = {USER: PASSWORD, "ann": "secret of ann", "admin": "secret of admin"}
    tables: dict[str, Any] = {}

    def setUp(self) -> None:
        tables = {"folders": {"separator": "+"}, **self.tables}
        protocol = {"auth_delay_seconds": 0.05, "auth_delay_max_seconds": 0.05, "auth_tries": 100}
        self.server = RunningServer(self, users=self.users, protocol=protocol, **tables)
        self.make_mail()
        self.server.start()

    def make_mail(self) -> None:
        """One message in each."""
        self.server.deliver("1.inbox.host", b"Subject: inbox\n\nx\n")
        self.deliver(".Lists", "2.lists.host", b"Subject: lists\n\nx\n")
        self.deliver(".Lists.tpops", "3.tpops.host", b"Subject: tpops\n\nx\n")

    def folder(self, directory: str) -> Path:
        """A folder of joe's, made if need be."""
        path = self.server.maildir() / directory
        for part in ("tmp", "new", "cur"):
            (path / part).mkdir(parents=True, exist_ok=True)
        return path

    def deliver(self, directory: str, name: str, octets: bytes) -> Path:
        """Put a message into a folder."""
        path = self.folder(directory) / "new" / name
        path.write_bytes(octets)
        return path

    def files(self, directory: str = "") -> set[str]:
        """The file names in a folder."""
        path = self.server.maildir() / directory
        return {one.name for part in ("new", "cur") for one in (path / part).iterdir()}

    def wire(self) -> Wire:
        """A connection after its greeting."""
        wire = self.server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        return wire

    def answer(self, *lines: bytes) -> bytes:
        """What the last of these lines is answered, on a connection of its own."""
        wire = self.wire()
        answers = [wire.command(line) for line in lines]
        wire.command(b"QUIT")
        return answers[-1]

    def subject(self, wire: Wire) -> bytes:
        """The subject of the first message of a connection that has logged in; then QUIT."""
        status, body = wire.multi_line(b"RETR 1")
        self.assertTrue(status.startswith(b"+OK"), status)
        wire.command(b"QUIT")
        return body.partition(b"\r\n")[0].removeprefix(b"Subject: ")
