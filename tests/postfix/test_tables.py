"""The octets of socketmap and tcp_table."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.postfix.fakes import OPEN, FakeStore
from tpops.postfix.answering import Broken
from tpops.postfix.relaying import Relaying
from tpops.postfix.tables import MOST_OCTETS, SocketmapQuestions, TCPTableQuestions

JOE = "joe@example.org"


class TableCase(SynchronousTestCase):
    """A store that lets 192.0.2.1 send as joe, and 192.0.2.9 as anybody."""

    kind: Any

    def setUp(self) -> None:
        self.store = FakeStore()
        self.store.open("192.0.2.1", JOE)
        self.store.open("192.0.2.9", "")

    def questions(self, on_error: str = "DUNNO", in_thread: Any = None) -> Any:
        """The questions of a connection."""
        store: Any = self.store
        relaying = Relaying(store, False, 64, Clock().seconds, in_thread)
        return self.kind(relaying, "OK 100% sure", on_error)

    def ask(self, octets: bytes, **settings: Any) -> bytes:
        """All answers, in one piece and octet by octet."""
        questions = self.questions(**settings)
        whole = b"".join(questions.answer(one) for one in questions.feed(octets))
        questions = self.questions(**settings)
        pieces = b"".join(questions.answer(one) for octet in octets for one in questions.feed(bytes((octet,))))
        self.assertEqual(whole, pieces)
        return whole


def netstring(octets: bytes) -> bytes:
    """As socketmap writes it."""
    return b"%d:%s," % (len(octets), octets)


class SocketmapTests(TableCase):
    """socketmap_table(5)."""

    kind = SocketmapQuestions
    found = netstring(b"OK OK 100% sure")
    missing = netstring(b"NOTFOUND ")

    def test_answers(self) -> None:
        """Address and sender, or the address alone; any number of requests."""
        for key, wanted in (
            (b"192.0.2.1 joe@example.org", self.found),
            (b"192.0.2.1 <joe@EXAMPLE.org>", self.found),
            (b"192.0.2.1 ann@example.org", self.missing),
            (b"192.0.2.1", self.missing),
            (b"192.0.2.9", self.found),
            (b"192.0.2.9 <>", self.found),
            (b"example.org", self.missing),
            (b"192.0.2.1 \xff", self.missing),
            (b"", self.missing),
        ):
            self.assertEqual(self.ask(netstring(b"relay " + key) * 2), wanted * 2, key)
        self.assertEqual(self.ask(netstring(b"nokey")), self.missing)

    def test_broken_store(self) -> None:
        """Not there, or a temporary failure where that is configured; never found."""
        self.store.broken = "gone"
        request = netstring(b"relay 192.0.2.1 joe@example.org")
        self.assertEqual(self.ask(request), self.missing)
        self.assertIn(b"TEMP the store", self.ask(request, on_error="DEFER_IF_REJECT later"))

    def test_later(self) -> None:
        """An answer that has to be waited for."""
        waiting: Deferred[Any] = Deferred()
        questions = self.questions(in_thread=lambda *_: waiting)
        answer = Deferred.fromCoroutine(questions.answer(b"192.0.2.1 joe@example.org"))
        waiting.callback(OPEN)
        self.assertEqual(self.successResultOf(answer), self.found)

    def test_no_netstrings(self) -> None:
        """Cannot be followed: the connection is closed."""
        for octets in (b"x", b"12345678", b"3:abcX", b":", b"9999999:", b"%d:" % (MOST_OCTETS + 1), b"-1:"):
            with self.assertRaises(Broken):
                self.questions().feed(octets)


class TCPTableTests(TableCase):
    """tcp_table(5)."""

    kind = TCPTableQuestions
    found = b"200 OK%20100%25%20sure\n"
    missing = b"500 not%20found\n"

    def test_answers(self) -> None:
        """Keys with %XX; what is no "get" is not there."""
        for line, wanted in (
            (b"get 192.0.2.1%20joe@example.org", self.found),
            (b"get 192.0.2.1 joe%40example.org\r", self.found),
            (b"get 192.0.2.1%20ann@example.org", self.missing),
            (b"get 192.0.2.9", self.found),
            (b"put 192.0.2.9 x", self.missing),
            (b"", self.missing),
        ):
            self.assertEqual(self.ask((line + b"\n") * 2), wanted * 2, line)

    def test_broken_store(self) -> None:
        """Not there, or a temporary failure."""
        self.store.broken = "gone"
        self.assertEqual(self.ask(b"get 192.0.2.9\n"), self.missing)
        self.assertTrue(self.ask(b"get 192.0.2.9\n", on_error="450 later").startswith(b"400 the%20store"))

    def test_no_lines(self) -> None:
        """A line that never ends ends the connection."""
        questions = self.questions()
        with self.assertRaises(Broken):
            for _ in range(10):
                questions.feed(b"x" * 20_000)
