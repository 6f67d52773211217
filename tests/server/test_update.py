"""UPDATE: what QUIT removes, and what nothing else removes (RFC 1939 section 6)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import LOGIN, Harness
from tpops.errors import RemoveFailed, StorageUnavailable
from tpops.mailbox.memory import MemoryDriver


class Held:
    """A maildrop whose remove waits for the test, and may fail."""

    def __init__(self, maildrop: Any, driver: HeldDriver) -> None:
        self._maildrop = maildrop
        self._driver = driver
        self.messages = maildrop.messages

    async def open(self, number: int) -> Any:
        return await self._maildrop.open(number)

    async def remove(self, numbers: Collection[int]) -> None:
        self._driver.asked = list(numbers)
        await self._driver.gate
        if self._driver.error is not None:
            raise self._driver.error
        await self._maildrop.remove(numbers)

    async def close(self) -> None:
        await self._maildrop.close()


class HeldDriver(MemoryDriver):
    """See L{Held}."""

    def __init__(self, stored: dict[str, dict[bytes, bytes]]) -> None:
        super().__init__(stored)
        self.gate: Deferred[None] = Deferred()
        self.asked: list[int] = []
        self.error: Exception | None = None

    async def open_maildrop(self, account: Any) -> Any:
        return Held(await super().open_maildrop(account), self)


class UpdateTests(SynchronousTestCase):
    """QUIT."""

    def setUp(self) -> None:
        self.stored = {b"a": b"1\n", b"b": b"2\n", b"c": b"3\n"}
        self.driver = HeldDriver({"joe": self.stored})
        self.harness = Harness(messages=self.stored, driver=self.driver)
        self.client = self.harness.logged_in()

    def test_quit_is_answered_after_the_removal(self) -> None:
        """The client may rely on +OK; the lock is free by then."""
        self.assertEqual(self.client.say(b"DELE 1\r\nDELE 3\r\nQUIT\r\n")[-23:], b"+OK message 3 deleted\r\n")
        self.assertEqual(self.driver.asked, [1, 3])
        self.driver.gate.callback(None)
        self.assertEqual(self.client.heard(), b"+OK bye (1 message left)\r\n")
        self.assertEqual((list(self.stored), self.driver.locked, self.client.closed), ([b"b"], set(), True))
        self.assertIn("remove", self.harness.events.kinds)

    def test_what_stayed_is_told(self) -> None:
        """RFC 1939 §6: -ERR when some marked message was not removed; the log counts right."""
        self.client.say(b"DELE 1\r\nDELE 2\r\nQUIT\r\n")
        self.driver.error = RemoveFailed({2}, "permission denied")
        self.driver.gate.callback(None)
        self.assertEqual(self.client.heard(), b"-ERR [SYS/TEMP] some deleted messages not removed\r\n")
        self.assertTrue(self.client.closed)
        self.client.vanish()
        session = self.harness.events.sessions[-1]
        self.assertEqual((session.dele_count, session.messages_left, session.octets_left), (1, 2, 6))

    def test_lost_storage_removes_nothing(self) -> None:
        """RFC 3206: a storage that is gone is [SYS/TEMP]; everything counts as left."""
        self.client.say(b"DELE 1\r\nQUIT\r\n")
        self.driver.error = StorageUnavailable("gone")
        self.driver.gate.callback(None)
        self.assertTrue(self.client.heard().startswith(b"-ERR [SYS/TEMP]"))
        session = self.harness.events.sessions[-1]
        self.assertEqual((session.dele_count, session.messages_left), (0, 3))

    def test_client_that_goes_after_quit_has_its_messages_removed(self) -> None:
        """QUIT was said: what was asked is done, the lock is released once, the closing record is right."""
        self.client.say(b"DELE 1\r\nQUIT\r\n")
        self.client.vanish()
        self.assertNotIn("disconnect", self.harness.events.kinds)
        self.driver.gate.callback(None)
        self.assertEqual((list(self.stored), self.driver.locked, self.harness.realm.logouts), ([b"b", b"c"], set(), 1))
        self.assertEqual(self.harness.events.kinds.count("disconnect"), 1)
        self.assertEqual(self.harness.events.sessions[-1].messages_left, 2)
        self.assertEqual(self.harness.clock.getDelayedCalls(), [])

    def test_no_idle_limit_while_messages_are_removed(self) -> None:
        """A long removal is not the client's fault."""
        self.client.say(b"DELE 1\r\nQUIT\r\n")
        self.harness.clock.pump([500] * 5)
        self.assertFalse(self.client.closed)
        self.driver.gate.callback(None)
        self.assertEqual((self.client.heard(), self.client.closed), (b"+OK bye (2 messages left)\r\n", True))

    def test_nothing_is_interrupted_during_update(self) -> None:
        """A server that stops lets it come to its end."""
        self.assertTrue(self.client.server.interruptible())
        self.client.say(b"DELE 1\r\nQUIT\r\n")
        self.assertFalse(self.client.server.interruptible())


class OtherEndsTests(SynchronousTestCase):
    """RFC 1939 §6: any other end removes nothing."""

    def test_every_other_end_keeps_everything(self) -> None:
        """Vanishing, half-closing, idling, the session limit, too many errors, a line too long, a shutdown."""
        ends = (
            lambda harness, client: client.vanish(),
            lambda harness, client: client.server.readConnectionLost(),
            lambda harness, client: harness.clock.pump([100] * 8),
            lambda harness, client: client.say(b"X\r\n" * 30),
            lambda harness, client: client.say(b"x" * 2000),
            lambda harness, client: client.server.close("server shutdown"),
            lambda harness, client: client.server.abort("server shutdown"),
        )
        for end in ends:
            harness = Harness()
            client = harness.logged_in()
            client.say(b"DELE 1\r\nDELE 2\r\n")
            end(harness, client)
            self.assertTrue(client.closed or client.server.gone)
            if not client.server.gone:
                client.vanish()
            self.assertEqual((len(harness.stored), harness.driver.locked, harness.realm.logouts), (2, set(), 1))
            self.assertNotIn("remove", harness.events.kinds)

    @given(st.lists(st.one_of(st.tuples(st.just("DELE"), st.integers(1, 5)), st.just(("RSET", 0))), max_size=12))
    def test_random_histories_remove_what_is_marked_in_the_end(self, history: list[tuple[str, int]]) -> None:
        """Against a plain model of DELE and RSET."""
        stored = {b"%d" % number: b"x\n" for number in range(1, 5)}
        harness = Harness(messages=stored)
        client = harness.connect()
        client.say(LOGIN)
        marked: set[int] = set()
        for verb, number in history:
            heard = client.say(b"RSET\r\n" if verb == "RSET" else b"DELE %d\r\n" % number)
            if verb == "RSET":
                marked.clear()
            elif number <= 4 and number not in marked:
                self.assertTrue(heard.startswith(b"+OK"))
                marked.add(number)
            else:
                self.assertTrue(heard.startswith(b"-ERR"))
            self.assertEqual(client.say(b"STAT\r\n"), b"+OK %d %d\r\n" % (4 - len(marked), 3 * (4 - len(marked))))
        client.say(b"QUIT\r\n")
        self.assertEqual(set(stored), {b"%d" % number for number in range(1, 5) if number not in marked})
