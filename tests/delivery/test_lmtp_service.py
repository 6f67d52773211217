"""LMTP as a part of the service: its threads, and its end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from tests.delivery.lmtp_harness import END, MESSAGE, Maildrops
from tpops.config.lmtp import LMTP
from tpops.config.schema import Config
from tpops.delivery import lmtp_replies as replies
from tpops.delivery.lmtp_service import STOP_SECONDS, LMTPService
from tpops.model import Account


class ServiceTests(SynchronousTestCase):
    """See the module."""

    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.pool = ThreadPool(0, 10)
        self.clock.getThreadPool = lambda: self.pool
        self.maildrops = Maildrops()
        self.service = self.make(LMTP(listen=("unix:/run/lmtp", "127.0.0.1:24"), deliveries=5))

    def make(self, config: LMTP) -> LMTPService:
        """A service that knows everybody."""

        async def account(address: str) -> Account:
            return Account(address, "test")

        backend = SimpleNamespace(
            recipients=SimpleNamespace(account=account), maildrops=self.maildrops, run_in_thread=maybeDeferred
        )
        return LMTPService(Config(lmtp=config), cast(Any, backend), self.clock, lambda event, facts: None)

    def connect(self) -> tuple[Any, StringTransport]:
        """A client that sent a message for joe, and its transport."""
        server = self.service.listeners()[0][1].buildProtocol(UNIXAddress(b""))
        transport = StringTransport()
        transport.abortConnection = lambda: server.connectionLost()  # type: ignore[method-assign]
        server.makeConnection(transport)
        server.dataReceived(b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<joe>\r\nDATA\r\n" + MESSAGE + END)
        return server, transport

    def test_listeners(self) -> None:
        """Promise: every place of the configuration, with its rights; none where there is no `listen`."""
        (unix, _), (tcp, _) = self.service.listeners()
        self.assertEqual((unix.path, unix.mode, unix.uid, unix.gid), ("/run/lmtp", 0o660, -1, -1))
        self.assertEqual((tcp.address, tcp.port), ("127.0.0.1", 24))
        self.assertEqual(self.make(LMTP()).listeners(), [])

    def test_threads(self) -> None:
        """Promise: deliveries have threads beside those of the sessions, as long as the service is there."""
        self.service.start()
        self.assertEqual(self.pool.max, 15)
        self.service.stop()
        self.service.stop()
        self.assertEqual(self.pool.max, 10)
        self.make(LMTP()).start()
        self.assertEqual(self.pool.max, 10)

    def test_the_end_waits_for_deliveries(self) -> None:
        """Promise: a delivery under way is answered before the end is reached."""
        self.maildrops.holds = {"joe"}
        server, transport = self.connect()
        self.assertTrue(self.service.busy)
        ending = Deferred.fromCoroutine(self.service.end_sessions())
        self.clock.pump([1.0] * 10)
        self.assertNoResult(ending)
        self.maildrops.release("joe")
        self.assertTrue(transport.value().endswith(b".1 stored\r\n" + replies.SHUTDOWN))
        self.assertFalse(self.service.busy)
        server.connectionLost()
        self.clock.advance(0.1)
        self.successResultOf(ending)

    def test_the_end_does_not_wait_for_ever(self) -> None:
        """Promise: a delivery that hangs, and a client that does not take its last reply, do not stop the end."""
        self.maildrops.holds = {"joe"}
        self.connect()
        ending = Deferred.fromCoroutine(self.service.end_sessions())
        self.clock.pump([1.0] * int(STOP_SECONDS))
        self.assertNoResult(ending)
        self.clock.advance(1.0)
        self.successResultOf(ending)
        self.assertEqual(self.service.shared.connections, set())
        self.maildrops.release("joe")

    def test_clients_that_stay(self) -> None:
        """Promise: a client that does not go after 421 is cut off."""
        self.connect()
        ending = Deferred.fromCoroutine(self.service.end_sessions())
        self.clock.pump([0.5] * 4)
        self.successResultOf(ending)
        self.assertEqual(self.service.shared.connections, set())
