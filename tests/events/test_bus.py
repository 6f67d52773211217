"""L{tpops.events.bus}."""

from __future__ import annotations

from collections.abc import Awaitable
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.events.samples import Notebook, session
from tpops.events import bus
from tpops.events.bus import EventBus
from tpops.interfaces import IEvents, IEventSink
from tpops.model import Event


class Broken(Exception):
    """What the tests' sinks raise."""


def fail(event: Event) -> None:
    """Behave like a broken sink."""
    raise Broken(event.kind)


async def fail_later(event: Event) -> None:
    """Behave like a sink whose awaitable fails."""
    raise Broken(event.kind)


class DeliveryTests(SynchronousTestCase):
    """Events reach the sinks that want them."""

    def test_provides_its_interface(self) -> None:
        """Promise: an EventBus is an IEvents, and the tests' sink an IEventSink."""
        self.assertTrue(verifyObject(IEvents, EventBus([], Clock().seconds)))
        self.assertTrue(verifyObject(IEventSink, Notebook()))

    def test_sink_gets_only_the_kinds_it_wants(self) -> None:
        """Promise: a sink is called for its kinds alone."""
        some, every = Notebook(frozenset({"login"})), Notebook()
        events = EventBus([some, every], Clock().seconds)
        for kind in ("connect", "login", "disconnect"):
            events.emit(kind, session())
        self.assertEqual([event.kind for event in some.events], ["login"])
        self.assertEqual([event.kind for event in every.events], ["connect", "login", "disconnect"])

    def test_event_carries_time_session_and_detail(self) -> None:
        """Promise: at is the time of the emit, session is the session itself."""
        clock, sink, facts = Clock(), Notebook(), session()
        events = EventBus([sink], clock.seconds)
        clock.advance(17)
        events.emit("limit", facts, "too many")
        self.assertEqual(sink.events, [Event("limit", 17.0, facts, "too many")])
        self.assertIs(sink.events[0].session, facts)

    def test_unwanted_kind_builds_no_event(self) -> None:
        """Promise: what nobody wants costs a look-up; neither clock nor Event is touched."""
        events = EventBus([Notebook(frozenset({"login"}))], mock.Mock(side_effect=AssertionError))
        events.emit("connect", session())

    def test_added_sink_is_told_after_the_others(self) -> None:
        """Promise: sinks are told in the order in which they were added."""
        order: list[str] = []
        events = EventBus([Notebook(then=lambda _: order.append("first"))], Clock().seconds)
        events.add(Notebook(then=lambda _: order.append("second")))
        events.emit("connect", session())
        self.assertEqual(order, ["first", "second"])

    def test_unknown_kind_is_refused(self) -> None:
        """Promise: a sink that waits for what never comes is an error at once."""
        with self.assertRaisesRegex(ValueError, "Notebook wants unknown events: log-in"):
            EventBus([Notebook(frozenset({"log-in", "login"}))], Clock().seconds)

    def test_closed_bus_tells_nobody(self) -> None:
        """Promise: after close no sink is called; a second close does nothing."""
        sink = Notebook()
        events = EventBus([sink], Clock().seconds)
        events.close()
        events.close()
        events.emit("connect", session())
        self.assertEqual(sink.events, [])


class FailureTests(SynchronousTestCase):
    """A failing sink is counted and logged, and nobody else notices."""

    def setUp(self) -> None:
        """Collect what is logged."""
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.clock = Clock()
        self.clock.advance(1000)

    def reports(self) -> list[LogEvent]:
        """The sink-failed entries; their tracebacks are expected."""
        self.flushLoggedErrors(Broken, bus._TooManyPending)
        return [entry for entry in self.logged if entry.get("event") == "sink-failed"]

    def test_raising_sink_does_not_stop_the_others(self) -> None:
        """Promise: emit never raises and the next sink is told."""
        sink = Notebook()
        events = EventBus([Notebook(then=fail), sink], self.clock.seconds)
        events.emit("connect", session())
        self.assertEqual(len(sink.events), 1)
        self.assertEqual(events.failures, {"Notebook": 1, "Notebook-2": 0})
        (report,) = self.reports()
        self.assertIsInstance(report["log_failure"].value, Broken)
        self.assertEqual((report["sink"], report["kind"], report["failures"]), ("Notebook", "connect", 1))

    def test_failing_awaitable_is_counted(self) -> None:
        """Promise: an awaitable that fails counts like a sink that raises."""
        events = EventBus([Notebook(then=fail_later)], self.clock.seconds)
        events.emit("login", session())
        self.assertEqual(events.failures, {"Notebook": 1})
        self.assertEqual(len(self.reports()), 1)

    def test_failure_that_comes_later_is_counted(self) -> None:
        """Promise: the bus sees an awaitable through to its end."""
        waiting: Deferred[None] = Deferred()
        events = EventBus([Notebook(then=lambda _: waiting)], self.clock.seconds)
        events.emit("login", session())
        self.assertEqual(events.failures, {"Notebook": 0})
        waiting.errback(Broken())
        self.assertEqual(events.failures, {"Notebook": 1})
        self.assertEqual(len(self.reports()), 1)

    def test_awaitable_that_succeeds_is_no_failure(self) -> None:
        """Promise: only failures are counted."""
        waiting: Deferred[None] = Deferred()
        events = EventBus([Notebook(then=lambda _: waiting)], self.clock.seconds)
        events.emit("login", session())
        waiting.callback(None)
        self.assertEqual(events.failures, {"Notebook": 0})
        self.assertEqual(self.reports(), [])

    def test_failures_are_logged_once_a_minute_and_sink(self) -> None:
        """Promise: every failure is counted, one a minute and sink is logged."""
        events = EventBus([Notebook(then=fail), Notebook(then=fail)], self.clock.seconds)
        for _ in range(4):
            events.emit("connect", session())
            self.clock.advance(20)
        self.assertEqual(events.failures, {"Notebook": 4, "Notebook-2": 4})
        self.assertEqual(
            [(report["sink"], report["failures"]) for report in self.reports()],
            [("Notebook", 1), ("Notebook-2", 1), ("Notebook", 4), ("Notebook-2", 4)],
        )

    def test_clock_set_back_does_not_silence_the_log(self) -> None:
        """Promise: a wall clock that jumps back does not hide failures for long."""
        now = [1000.0]
        events = EventBus([Notebook(then=fail)], lambda: now[0])
        events.emit("connect", session())
        now[0] = 10.0
        events.emit("connect", session())
        self.assertEqual(len(self.reports()), 2)

    def test_sink_that_never_finishes_is_skipped(self) -> None:
        """Promise: unfinished awaitables of one sink are bounded; what is over is a failure."""
        self.patch(bus, "MOST_PENDING", 3)
        waiting: list[Deferred[None]] = []

        def hang(event: Event) -> Awaitable[None]:
            waiting.append(Deferred())
            return waiting[-1]

        events = EventBus([Notebook(then=hang)], self.clock.seconds)
        for _ in range(5):
            events.emit("login", session())
        self.assertEqual((len(waiting), events.failures), (3, {"Notebook": 2}))
        waiting[0].callback(None)
        events.emit("login", session())
        self.assertEqual((len(waiting), events.failures), (4, {"Notebook": 2}))
        self.assertEqual(len(self.reports()), 1)

    def test_close_cancels_what_is_unfinished(self) -> None:
        """Promise: close cancels; that is no failure of the sink."""
        cancelled: list[object] = []
        waiting: Deferred[None] = Deferred(cancelled.append)
        events = EventBus([Notebook(then=lambda _: waiting)], self.clock.seconds)
        events.emit("login", session())
        events.close()
        self.assertEqual(cancelled, [waiting])
        self.assertEqual(events.failures, {"Notebook": 0})
        self.assertEqual(self.reports(), [])
