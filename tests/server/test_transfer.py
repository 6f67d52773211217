"""Messages and long listings on their way to a client, fast, slow, or gone."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import LOGIN, Harness
from tpops.errors import StorageUnavailable
from tpops.mailbox.memory import MemoryDriver, MemoryMaildrop, MemoryMessage
from tpops.server.transfer import CHUNK_OCTETS

BIG = b"Subject: big\n\n" + b"0123456789012345678901234567890123456789\n.\n" * 30000


class HeldMessage(MemoryMessage):
    """A message whose reads come when the test says so; counts how often it was closed."""

    def __init__(self, message: bytes, driver: HeldDriver) -> None:
        super().__init__(message)
        self._driver = driver

    def read(self, octets: int) -> Any:
        if self._driver.fail_after is not None:
            self._driver.fail_after -= 1
            if self._driver.fail_after < 0:
                raise StorageUnavailable("disk is gone")
        chunk = super().read(octets)
        if not self._driver.hold:
            return chunk
        self._driver.gate = gate = Deferred()
        return gate.addCallback(lambda _: chunk)

    def close(self) -> None:
        self._driver.closed += 1
        super().close()


class HeldMaildrop(MemoryMaildrop):
    """Opens L{HeldMessage}s."""

    async def open(self, number: int) -> Any:
        driver = self._driver
        assert isinstance(driver, HeldDriver)
        await super().open(number)
        driver.opened += 1
        return HeldMessage(list(driver.stored["joe"].values())[number - 1], driver)


class HeldDriver(MemoryDriver):
    """See L{HeldMessage}."""

    hold = False
    fail_after: int | None = None
    opened = 0
    closed = 0
    gate: Deferred[None]

    async def open_maildrop(self, account: Any) -> Any:
        await super().open_maildrop(account)
        return HeldMaildrop(self, "joe")


class TransferTests(SynchronousTestCase):
    """RETR and TOP."""

    def setUp(self) -> None:
        self.driver = HeldDriver({"joe": {b"big": BIG, b"small": b"Subject: s\n\nx\n"}})
        self.harness = Harness(driver=self.driver)
        self.client = self.harness.logged_in()
        self.wire = BIG.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")

    def pump(self) -> bytes:
        """Let the transfer go on to its end."""
        heard = b""
        while self.harness.clock.getDelayedCalls()[0].getTime() <= self.harness.clock.seconds():
            self.harness.clock.advance(0)
            heard += self.client.heard()
        return heard

    def test_big_message_goes_out_whole(self) -> None:
        """Announced octets equal sent octets, chunk after chunk."""
        self.assertGreater(len(BIG), 4 * CHUNK_OCTETS)
        heard = self.client.say(b"RETR 1\r\nNOOP\r\n") + self.pump()
        octets = len(BIG.replace(b"\n", b"\r\n"))
        self.assertEqual(heard, b"+OK %d octets\r\n" % octets + self.wire + b".\r\n+OK\r\n")
        self.assertEqual((self.driver.opened, self.driver.closed), (1, 1))

    def test_other_sessions_have_their_turn(self) -> None:
        """A client that takes everything at once does not keep the reactor."""
        heard = self.client.say(b"RETR 1\r\n")
        self.assertLess(len(heard), len(self.wire))
        self.assertEqual(self.driver.closed, 0)

    def test_slow_client_holds_the_transfer_up(self) -> None:
        """Nothing is read from the store while the transport is full."""
        write = self.client.transport.write

        def full(data: bytes) -> None:
            write(data)
            self.client.server.pauseProducing()

        self.client.transport.write = full
        heard = self.client.say(b"RETR 1\r\n")
        chunks = 1
        while self.driver.closed == 0:
            self.assertLess(len(heard) - (chunks - 1) * CHUNK_OCTETS, 2 * CHUNK_OCTETS * 2)
            self.client.server.resumeProducing()
            self.harness.clock.advance(0)
            heard += self.client.heard()
            chunks += 1
        self.client.server.resumeProducing()
        heard += self.client.heard()
        self.assertEqual(heard.partition(b"\r\n")[2], self.wire + b".\r\n")

    def test_client_that_goes_during_a_pause(self) -> None:
        """The file is closed, the lock released, once, and no timer is left."""
        for verb in (b"RETR 1\r\n", b"TOP 1 100000\r\n"):
            self.setUp()
            self.client.transport.write = lambda data: self.client.server.pauseProducing()
            self.client.say(verb)
            self.assertEqual(self.driver.closed, 0)
            self.client.vanish()
            self.assertEqual((self.driver.closed, self.driver.locked, self.harness.realm.logouts), (1, set(), 1))
            self.assertEqual(self.harness.clock.getDelayedCalls(), [])
            self.assertEqual(self.harness.events.kinds.count("disconnect"), 1)

    def test_client_that_goes_during_a_read(self) -> None:
        """The read is waited for before the file is closed; then everything is released."""
        for verb in (b"RETR 1\r\n", b"TOP 1 100000\r\n"):
            for reads in (0, 1, 2):
                self.setUp()
                self.driver.hold = True
                self.client.say(verb)
                for _ in range(reads):
                    self.driver.gate.callback(None)
                    self.harness.clock.advance(0)
                self.client.vanish()
                self.assertEqual(self.driver.closed, 0)
                self.driver.gate.callback(None)
                self.assertEqual((self.driver.closed, self.driver.locked, self.harness.realm.logouts), (1, set(), 1))
                self.assertEqual(self.harness.clock.getDelayedCalls(), [])
                self.assertEqual(self.harness.events.kinds.count("disconnect"), 1)

    def test_client_that_goes_between_two_turns(self) -> None:
        """The same where only the reactor was given a turn."""
        self.client.say(b"RETR 1\r\n")
        self.client.vanish()
        self.harness.clock.advance(0)
        self.assertEqual((self.driver.closed, self.driver.locked), (1, set()))

    def test_waiting_reads_are_put_together_right(self) -> None:
        """What comes from a thread is the same as what comes at once."""
        self.driver.hold = True
        heard = self.client.say(b"TOP 1 3\r\nRETR 2\r\n")
        self.driver.gate.callback(None)
        heard += self.client.heard()
        self.assertTrue(heard.startswith(b"+OK top of message follows\r\nSubject: big\r\n\r\n0123"))
        self.assertTrue(heard.endswith(b"\r\n.\r\n"))
        for _ in range(2):
            self.driver.gate.callback(None)
        self.assertEqual(self.client.heard(), b"+OK 17 octets\r\nSubject: s\r\n\r\nx\r\n.\r\n")

    def test_message_that_cannot_be_read_at_all(self) -> None:
        """RFC 3206: [SYS/TEMP], and the session goes on."""
        self.driver.fail_after = 0
        heard = self.client.say(b"RETR 1\r\nNOOP\r\n")
        self.assertTrue(heard.startswith(b"-ERR [SYS/TEMP] "))
        self.assertTrue(heard.endswith(b"+OK\r\n"))
        self.assertEqual(self.driver.closed, 1)

    def test_message_that_breaks_off_cuts_the_connection(self) -> None:
        """A terminator would make the client believe that it has all of it."""
        self.driver.fail_after = 2
        heard = self.client.say(b"RETR 1\r\n") + self.client.heard()
        self.assertFalse(heard.endswith(b"\r\n.\r\n"))
        self.assertTrue(self.client.closed)
        self.client.vanish()
        self.assertEqual((self.driver.closed, self.driver.locked), (1, set()))
        self.assertEqual(self.harness.events.sessions[-1].reason, "error")
        self.assertEqual(self.harness.events.sessions[-1].retr_count, 0)


class ListingTests(SynchronousTestCase):
    """LIST and UIDL of big maildrops."""

    def setUp(self) -> None:
        self.harness = Harness(messages={b"uid-%06d" % number: b"x\n" for number in range(30000)})
        self.client = self.harness.logged_in()
        self.body = b"".join(b"%d uid-%06d\r\n" % (number + 1, number) for number in range(30000))

    def test_long_listing(self) -> None:
        """All lines, in order, with the next command's reply behind them."""
        heard = self.client.say(b"UIDL\r\nNOOP\r\n")
        self.assertEqual(heard, b"+OK unique-ids follow\r\n" + self.body + b".\r\n+OK\r\n")

    def test_long_listing_without_marked_messages(self) -> None:
        """Marked messages are left out, numbers stay."""
        self.client.say(b"DELE 1\r\nDELE 15000\r\nDELE 30000\r\n")
        lines = self.body.splitlines(keepends=True)
        rest = b"".join(lines[1:14999] + lines[15000:29999])
        self.assertEqual(self.client.say(b"UIDL\r\n"), b"+OK unique-ids follow\r\n" + rest + b".\r\n")
        self.assertEqual(self.client.say(b"LIST\r\n").count(b"\r\n"), 29999)

    def test_slow_client(self) -> None:
        """Sent as the client takes it; gone in the middle leaves nothing behind."""
        write = self.client.transport.write

        def full(data: bytes) -> None:
            write(data)
            self.client.server.pauseProducing()

        self.client.transport.write = full
        heard = self.client.say(b"UIDL\r\n")
        self.assertLess(len(heard), len(self.body))
        while not heard.endswith(b"\r\n.\r\n"):
            self.client.server.resumeProducing()
            heard += self.client.heard()
        self.assertEqual(heard, b"+OK unique-ids follow\r\n" + self.body + b".\r\n")
        self.client.server.resumeProducing()
        self.client.say(b"UIDL\r\n")
        self.client.vanish()
        self.assertEqual((self.harness.driver.locked, self.harness.clock.getDelayedCalls()), (set(), []))

    def test_second_session_sees_the_same(self) -> None:
        """Numbers are fixed at login."""
        self.client.say(b"QUIT\r\n")
        self.client.vanish()
        self.assertIn(b"+OK joe has 30000", self.harness.connect().say(LOGIN))
