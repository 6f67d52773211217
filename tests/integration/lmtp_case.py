"""What the tests of LMTP share: a server that takes mail, and clients."""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import RunningServer
from tests.integration.wire import Wire

USERS = {"joe": "secret", "eva": "secret", "full": "secret"}

MESSAGE = b"Subject: hello\n\ntext\n"

RETURN_PATH = b"Return-Path: <ann@example.org>\r\n"

#: Resident memory that a message of 100 MB may take.
MOST_MIB = 24


def on_the_wire(message: bytes) -> bytes:
    """With CRLF line ends, as it is sent."""
    return re.sub(rb"(?<!\r)\n", b"\r\n", message)


class LMTPTests(SynchronousTestCase):
    """
    A server with LMTP at a UNIX socket and at a TCP port.

    @ivar path: the socket
    """

    timeout = 180

    def setUp(self) -> None:
        # Paths of sockets have to be short.
        directory = Path(tempfile.mkdtemp(prefix="tpops-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, directory)
        self.path = str(directory / "lmtp")
        self.server = RunningServer(
            self, directory, USERS, lmtp={"listen": [f"unix:{self.path}", "127.0.0.1:0"], "message_octets": 0}
        )
        (self.server.maildir("full") / "maildirsize").write_text("10S\n")

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.server.ready()[-1].rpartition(":")[2])

    def client(self, unix: bool = True) -> smtplib.LMTP:
        """Python's client."""
        client = smtplib.LMTP(self.path) if unix else smtplib.LMTP("127.0.0.1", self.port)
        self.addCleanup(client.close)
        return client

    def wire(self, *recipients: str) -> Wire:
        """A raw connection in which 354 was said."""
        wire = Wire.connect(self, self.path)
        wire.send(b"LHLO me\r\nMAIL FROM:<ann@example.org>\r\n")
        wire.send(b"".join(b"RCPT TO:<%s>\r\n" % one.encode() for one in recipients) + b"DATA\r\n")
        while not wire.line().startswith(b"354"):
            pass
        return wire

    def stored(self, user: str = "joe") -> list[bytes]:
        """Somebody's mail without the lines that were put before it."""
        return [octets.partition(b"\n; ")[2] or octets for octets in self.server.stored(user).values()]

    def temporaries(self, user: str = "joe") -> list[str]:
        """What lies in tmp."""
        return os.listdir(self.server.maildir(user, "tmp"))
