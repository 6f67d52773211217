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
        self.flushLoggedErrors(Broken)
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


class BeforeOKTests(SynchronousTestCase):
    """The +OK of a login waits for sinks that want it, and not for ever."""

    def setUp(self) -> None:
        """A sink that is waited for, what it does, and one that nobody waits for."""
        self.clock = Clock()
        self.waiting: Deferred[None] = Deferred()
        self.done: list[object] = []

    def bus(self, *sinks: Notebook) -> EventBus:
        """A bus whose limit is two seconds."""
        return EventBus(sinks, self.clock.seconds, self.clock, 2.0)

    def log_in(self, events: EventBus) -> None:
        """Log in, and say when that is over."""
        unfinished = events.logged_in(session())
        assert isinstance(unfinished, Deferred)
        unfinished.addBoth(self.done.append)

    def test_nothing_is_waited_for_where_no_sink_asks_for_it(self) -> None:
        """Promise: an unfinished sink without before_ok delays nobody."""
        sink = Notebook(then=lambda _: self.waiting)
        self.assertIsNone(self.bus(sink).logged_in(session()))
        self.assertEqual([event.kind for event in sink.events], ["login"])
        self.assertIsNone(self.bus().logged_in(session()))
        self.assertIsNone(self.bus(Notebook(frozenset({"connect"}), before_ok=True)).logged_in(session()))

    def test_sink_that_is_done_at_once_is_not_waited_for(self) -> None:
        """Promise: what is finished when notify returns costs no Deferred."""

        async def at_once() -> None:
            pass

        for then in (None, lambda _: at_once()):
            self.assertIsNone(self.bus(Notebook(then=then, before_ok=True)).logged_in(session()))

    def test_waits_until_the_last_one_is_done(self) -> None:
        """Promise: several sinks work at the same time; all of them count."""
        other: Deferred[None] = Deferred()
        sinks = [Notebook(then=lambda _, one=one: one, before_ok=True) for one in (self.waiting, other)]
        events = self.bus(*sinks)
        self.log_in(events)
        other.callback(None)
        self.assertEqual(self.done, [])
        self.waiting.callback(None)
        self.assertEqual((self.done, self.clock.getDelayedCalls()), ([None], []))
        self.assertEqual(events.failures, {"Notebook": 0, "Notebook-2": 0})

    def test_failure_ends_the_wait_and_is_counted(self) -> None:
        """Promise: a sink that fails fails no login."""
        events = self.bus(Notebook(then=lambda _: self.waiting, before_ok=True))
        self.log_in(events)
        self.waiting.errback(Broken())
        self.assertEqual((self.done, events.failures), ([None], {"Notebook": 1}))
        self.assertEqual(len(self.flushLoggedErrors(Broken)), 1)
        broken = self.bus(Notebook(then=fail, before_ok=True))
        self.assertIsNone(broken.logged_in(session()))
        self.assertEqual((broken.failures, len(self.flushLoggedErrors(Broken))), ({"Notebook": 1}, 1))

    def test_wait_is_bounded(self) -> None:
        """Promise: a sink that hangs costs each login the limit, is counted, and may still finish."""
        cancelled: list[object] = []
        waiting: Deferred[None] = Deferred(cancelled.append)
        events = self.bus(Notebook(then=lambda _: waiting, before_ok=True))
        self.log_in(events)
        self.clock.advance(1.9)
        self.assertEqual(self.done, [])
        self.clock.advance(0.1)
        self.assertEqual((self.done, events.failures, cancelled), ([None], {"Notebook": 1}, []))
        self.assertEqual(self.flushLoggedErrors(), [])  # one line in the log, no traceback
        waiting.callback(None)
        self.assertEqual((self.done, events.failures), ([None], {"Notebook": 1}))

    def test_close_ends_the_wait(self) -> None:
        """Promise: a server that stops leaves no login waiting and no timer behind."""
        events = self.bus(Notebook(then=lambda _: self.waiting, before_ok=True))
        self.log_in(events)
        events.close()
        self.assertEqual((self.done, self.clock.getDelayedCalls()), ([None], []))
        self.assertIsNone(events.logged_in(session()))

    def test_without_a_clock_no_sink_can_be_waited_for(self) -> None:
        """Promise: a wait without a limit is refused when the bus is put together."""
        with self.assertRaisesRegex(ValueError, "Notebook has before_ok, which needs a clock"):
            EventBus([Notebook(before_ok=True)], Clock().seconds)
