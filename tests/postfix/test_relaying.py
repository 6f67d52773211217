"""From an address and a sender to yes, no, or an error of ours."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.postfix.fakes import OPEN, FakeStore
from tpops.db.relay import Facts, StoreFailed
from tpops.postfix.policy import NOBODY
from tpops.postfix.relaying import Answer, Relaying
from tpops.postfix.rules import Verdict

JOE = "joe@example.org"


class RelayingCase(SynchronousTestCase):
    """A store and what is logged."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = FakeStore()
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def relaying(self, by_address: bool = False, run_in_thread: Any = None) -> Relaying:
        """Asks the store."""
        store: Any = self.store
        return Relaying(store, by_address, 64, self.clock.seconds, run_in_thread)

    def reports(self) -> list[str]:
        """The reasons that were logged."""
        return [entry["why"] for entry in self.logged if entry.get("event") == "relaying-failed"]


class QuestionTests(RelayingCase):
    """What the store is asked."""

    def test_in_the_one_form(self) -> None:
        """Address, place and sender are as they are stored."""
        self.relaying().ask("::ffff:192.0.2.1", "Joe@EXAMPLE.org")
        self.relaying().ask("2001:DB8:1:2::7", "")
        self.assertEqual(
            self.store.asked,
            [("192.0.2.1", "192.0.2.1", "Joe@example.org"), ("2001:db8:1:2::/64", "2001:db8:1:2::7", "")],
        )

    def test_no_address_is_no(self) -> None:
        """The store is not even asked."""
        for address in ("unknown", "", NOBODY, "192.0.2.256"):
            self.assertIs(self.relaying().ask(address, JOE), Answer.NO)
        self.assertEqual(self.store.asked, [])

    def test_endless_sender_is_nobody(self) -> None:
        """It fills no memory, and is not the null sender."""
        self.relaying().ask("192.0.2.1", "x" * 1000)
        self.assertEqual(self.store.asked, [("192.0.2.1", "192.0.2.1", NOBODY)])


class AnswerTests(RelayingCase):
    """What comes back."""

    def test_yes_and_no(self) -> None:
        """As the rules decide."""
        self.store.open("192.0.2.1", JOE)
        self.assertIs(self.relaying().ask("192.0.2.1", JOE), Answer.YES)
        self.assertIs(self.relaying().ask("192.0.2.2", JOE), Answer.NO)
        self.assertIs(self.relaying().verdict("192.0.2.1", JOE), Verdict.ANY_SENDER_RULE)
        self.assertIs(self.relaying(by_address=True).verdict("192.0.2.1", JOE), Verdict.ADDRESS)

    def test_error_is_never_yes(self) -> None:
        """A store that cannot say, and a bug, are counted; one a minute is logged."""
        self.store.open("192.0.2.1", JOE)
        self.store.broken = "disk full"
        relaying = self.relaying()
        for _ in range(4):
            self.assertIs(relaying.ask("192.0.2.1", JOE), Answer.FAILED)
            self.clock.advance(20)
        self.assertEqual((relaying.failures, self.reports()), (4, ["disk full", "disk full"]))
        self.store.known = None  # type: ignore[assignment]
        self.store.broken = ""
        self.assertIs(self.relaying().ask("192.0.2.1", JOE), Answer.FAILED)
        self.assertIn("AttributeError", self.reports()[-1])

    def test_store_that_is_asked_in_a_thread(self) -> None:
        """The same answers, later."""
        jobs: list[Deferred[Facts]] = [succeed(OPEN), succeed(Facts()), fail(StoreFailed("gone")), Deferred()]
        waiting = jobs[-1]
        relaying = self.relaying(run_in_thread=lambda *_: jobs.pop(0))
        answers = [Deferred.fromCoroutine(relaying.ask("192.0.2.1", JOE)) for _ in range(4)]
        self.assertEqual([self.successResultOf(one) for one in answers[:3]], [Answer.YES, Answer.NO, Answer.FAILED])
        self.assertNoResult(answers[3])
        waiting.callback(OPEN)
        self.assertIs(self.successResultOf(answers[3]), Answer.YES)
        self.assertEqual(self.reports(), ["gone"])
