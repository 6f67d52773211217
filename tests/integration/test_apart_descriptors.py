"""Sessions that run as the owner of the mail, when a worker runs out of descriptors."""

from __future__ import annotations

import os
import ssl

from tests.integration.apart_case import ApartCase, sessions_of
from tests.integration.descriptors import few_descriptors
from tests.integration.server import RunningServer, wait_until
from tests.integration.wire import Wire
from tests.pki import write_pem

_LATER = b"-ERR [SYS/TEMP] authentication is temporarily unavailable, try again later"


class DescriptorTests(ApartCase):
    """Each number of descriptors that may be too few."""

    def connected(self, server: RunningServer, encrypted: bool) -> Wire:
        """A client that has not logged in."""
        wire = server.connect()
        wire.line()
        if encrypted:
            self.assertTrue(wire.command(b"STLS").startswith(b"+OK"))
            wire.socket = ssl._create_unverified_context().wrap_socket(wire.socket)
            self.addCleanup(wire.socket.close)
        return wire

    def log_in(self, wire: Wire) -> bytes:
        """What the client is told."""
        wire.command(f"USER {self.account.name}".encode())
        return wire.command(f"PASS {self.account.password}".encode())

    def check(self, encrypted: bool, enough: int) -> None:
        """With so many free descriptors a login is possible, with fewer it is told to come again."""
        server = self.server(tls={"certificate": "mail.pem"})
        write_pem(server.directory / "mail.pem", "localhost", "127.0.0.1")
        server.start()
        (worker,) = server.workers()
        # What is opened once, and then kept, is open now.
        first = self.connected(server, encrypted)
        self.log_in(first)
        first.command(b"QUIT")
        first.close()
        sessions_of(server, 0)

        def open_ones() -> int:
            return len(os.listdir(f"/proc/{worker}/fd"))

        before = open_ones()
        for free in range(enough + 1):
            wire = self.connected(server, encrypted)
            wait_until(lambda: open_ones() == before + 1, "the session before is over")
            with few_descriptors(worker, free):
                answer = self.log_in(wire)
            if free < enough:
                self.assertEqual(answer, _LATER, free)
                answer = self.log_in(wire)
            self.assertTrue(answer.startswith(b"+OK"), (free, answer))
            self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
            self.assertEqual(wire.rest(), b"")
            wire.close()
        sessions_of(server, 0)
        wait_until(lambda: open_ones() == before, "nothing is left open")
        self.assertNotIn("Traceback", server.output())

    def test_plain(self) -> None:
        """Promise: without a descriptor for the question to the broker the client is told to come again."""
        self.check(encrypted=False, enough=2)

    def test_encrypted(self) -> None:
        """Promise: nor is a client with TLS left alone without sockets between the worker and his session."""
        self.check(encrypted=True, enough=3)
