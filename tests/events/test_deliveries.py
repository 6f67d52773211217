"""L{tpops.events.deliveries} and L{tpops.events.sink}."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.events.samples import MOMENT, session
from tpops.events.bus import EventBus
from tpops.events.deliveries import Deliveries, NotTold
from tpops.events.sink import PATIENCE_SECONDS, Sink
from tpops.events.whose import Whose
from tpops.interfaces import IEventSink, IReceiver
from tpops.model import Event, Notice


def notice(number: int, line: str = "s1") -> Notice:
    """A notice with a number."""
    return Notice(kind="login", at=MOMENT, session=line, port=number)


class DeliveriesTests(SynchronousTestCase):
    """Notices are sent in order, bounded in number and time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.begun: list[int] = []
        self.going: dict[int, Deferred[None]] = {}
        self.deliveries = Deliveries(self.send, self.clock, 5.0, at_once=2, most_waiting=3)

    async def send(self, one: Notice) -> None:
        """Begin, and end when the test says so."""
        self.begun.append(one.port)
        done = self.going[one.port] = Deferred()
        await done

    def add(self, number: int, line: str) -> Deferred[None]:
        """Bring a notice."""
        return self.deliveries.add(line, notice(number, line))

    def test_one_session_keeps_its_order(self) -> None:
        """Promise: the second notice of a session begins when the first has ended, though there is room."""
        first, second = self.add(1, "a"), self.add(2, "a")
        other = self.add(3, "b")
        self.assertEqual(self.begun, [1, 3])
        self.going[1].callback(None)
        self.successResultOf(first)
        self.assertEqual(self.begun, [1, 3, 2])
        for number in (2, 3):
            self.going[number].callback(None)
        self.successResultOf(second)
        self.successResultOf(other)
        self.assertEqual(attrs.astuple(self.deliveries.figures), (3, 0, 0))

    def test_failure_does_not_hold_up(self) -> None:
        """Promise: a failure is that of its notice; the next one of the session is sent."""
        first = self.add(1, "a")
        self.add(2, "a")
        self.going[1].errback(NotTold("no"))
        self.failureResultOf(first, NotTold)
        self.assertEqual(self.begun, [1, 2])
        self.assertEqual(self.deliveries.figures.failed, 1)

    def test_time_limit(self) -> None:
        """Promise: what takes longer is cancelled, and has failed."""
        first = self.add(1, "a")
        second = self.add(2, "a")
        self.clock.advance(5.0)
        self.assertIn("not done within 5 seconds", str(self.failureResultOf(first, NotTold).value))
        self.assertNoResult(second)
        self.clock.advance(5.0)
        self.failureResultOf(second, NotTold)

    def test_bounded(self) -> None:
        """Promise: beyond the limit notices are dropped, and counted; what is sent makes room."""
        for number, line in enumerate("abcde"):
            self.add(number, line)
        error = self.assertRaises(NotTold, self.add, 9, "f")
        self.assertIn("3 others are waiting", str(error))
        self.assertEqual(self.deliveries.figures.dropped, 1)
        self.going[0].callback(None)
        self.add(9, "f")
        self.assertEqual(self.begun, [0, 1, 2])

    def test_many_that_end_at_once(self) -> None:
        """Promise: a receiver that needs no time is no endless recursion."""

        async def at_once(one: Notice) -> None:
            self.begun.append(one.port)

        deliveries = Deliveries(at_once, self.clock, 5.0, at_once=1, most_waiting=5000)
        for number in range(5000):
            deliveries.add("a", notice(number))
        self.assertEqual(self.begun, list(range(5000)))

    def test_long_queue_that_ends_at_once(self) -> None:
        """Promise: nor is it when many have been waiting."""
        blocked: Deferred[None] = Deferred()

        async def send(one: Notice) -> None:
            self.begun.append(one.port)
            if not one.port:
                await blocked

        deliveries = Deliveries(send, self.clock, 5.0, at_once=1, most_waiting=5000)
        for number in range(5000):
            deliveries.add(f"{number % 7}", notice(number))
        blocked.callback(None)
        self.assertEqual(sorted(self.begun), list(range(5000)))
        self.assertEqual(deliveries.figures.sent, 5000)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_waits_and_gives_up(self) -> None:
        """Promise: a stop waits for what is on its way, then ends it and drops what waits; nothing is left."""
        outcomes: list[Any] = []
        for number, line in enumerate("aabbc"):
            self.add(number, line).addBoth(outcomes.append)
        stopped = Deferred.fromCoroutine(self.deliveries.stop(3.0))
        self.assertNoResult(stopped)
        self.going[0].callback(None)
        self.clock.advance(3.0)
        self.successResultOf(stopped)
        self.assertEqual(len(outcomes), 5)
        self.assertEqual(attrs.astuple(self.deliveries.figures), (1, 2, 2))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(Deferred.fromCoroutine(self.deliveries.stop(3.0)))

    def test_stop_that_is_soon_over(self) -> None:
        """Promise: a stop ends as soon as nothing is left."""
        self.add(1, "a")
        stopped = Deferred.fromCoroutine(self.deliveries.stop(3.0))
        self.going[1].callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_does_not_wait_any_longer(self) -> None:
        """Promise: the bus may cancel; the notice is sent all the same."""
        done = self.add(1, "a")
        done.cancel()
        self.failureResultOf(done)
        self.going[1].callback(None)
        self.assertEqual(self.deliveries.figures.sent, 1)


class WhoseTests(SynchronousTestCase):
    """popserv's expressions."""

    def test_first_that_fits_decides(self) -> None:
        """popserv, whoson.allow: first match in file order, capital letters or not; default deny."""
        whose = Whose(["deny ^Guest", "allow @example\\.org$", "allow ^[^@]+$"])
        for name, allowed in (
            ("joe@example.org", True),
            ("guest7@example.org", False),
            ("GUEST", False),
            ("joe", True),
            ("joe@EXAMPLE.ORG", True),
            ("joe@example.net", False),
        ):
            self.assertEqual(whose.allows(name), allowed, name)
            self.assertEqual(whose.allows(name), allowed, name)
        self.assertFalse(Whose([]).allows("joe"))

    def test_wrong_rules(self) -> None:
        """Promise: what is no rule is named."""
        for rule, said in (
            ("permit x", '"allow" or "deny"'),
            ("allow", '"allow" or "deny"'),
            ("allow (", "extended regular expression"),
        ):
            self.assertIn(said, str(self.assertRaises(ValueError, Whose, [rule])))


@implementer(IReceiver)
class Receiver:
    """Keeps notices."""

    def __init__(self) -> None:
        self.told: list[Notice] = []
        self.calls: list[str] = []
        self.hold: Deferred[None] | None = None

    def start(self) -> None:
        self.calls.append("start")

    def line(self, one: Notice) -> str | None:
        return None if one.peer == "unix" else one.session

    async def send(self, one: Notice) -> None:
        self.told.append(one)
        if self.hold is not None:
            await self.hold

    async def stop(self) -> None:
        self.calls.append("stop")


class SinkTests(SynchronousTestCase):
    """Between bus and receiver."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.receiver = Receiver()

    def sink(self, **how: Any) -> Sink:
        """A sink for this receiver."""
        split = lambda name: (name.partition("@")[0], name.partition("@")[2])  # noqa: E731  # short
        return Sink(self.receiver, self.clock, split, "mail.example.org", **{"name": "theirs", **how})

    def test_interfaces(self) -> None:
        """Promise: an IEventSink over an IReceiver."""
        self.assertTrue(verifyObject(IEventSink, self.sink(before_ok=True)))
        self.assertTrue(verifyObject(IReceiver, self.receiver))

    def test_copy_of_the_moment(self) -> None:
        """Promise: a notice says what was so, though the session goes on."""
        facts = session(user="joe@example.org", named=b"Joe\xff", mechanism="PASS", folder="Work")
        facts.peer = attrs.evolve(facts.peer, host="::ffff:192.0.2.9")
        self.sink().notify(Event("login", MOMENT, facts))
        facts.user, facts.retr_count = "ann", 7
        (told,) = self.receiver.told
        self.assertEqual((told.user, told.local_part, told.domain), ("joe@example.org", "joe", "example.org"))
        self.assertEqual((told.named, told.peer, told.retr_count), ("Joe\\xff", "192.0.2.9", 0))
        self.assertEqual((told.server, told.at, told.folder), ("mail.example.org", MOMENT, "Work"))

    def test_who_is_told_of(self) -> None:
        """Promise: of denied users, and of those that the receiver does not want, nothing."""
        sink = self.sink(users=("deny ^ann$", "allow .*"))
        facts = session(user="joe")
        facts.peer = attrs.evolve(facts.peer, host="unix")
        for one in (session(user="ann"), facts):
            self.assertIsNone(sink.notify(Event("login", MOMENT, one)))
        self.assertEqual(self.receiver.told, [])
        sink.notify(Event("login-failed", MOMENT, session(named=b"bob")))
        self.assertEqual([one.named for one in self.receiver.told], ["bob"])

    def test_login_waits_where_asked(self) -> None:
        """Promise: before_ok: the bus gives what the +OK waits for, until it is told or the time is up."""
        self.receiver.hold = Deferred()
        bus = EventBus((self.sink(before_ok=True),), self.clock.seconds, self.clock, 30.0)
        waited = bus.logged_in(session(user="joe"))
        assert isinstance(waited, Deferred)
        self.assertNoResult(waited)
        self.clock.advance(5.0)
        self.successResultOf(waited)
        self.assertEqual(bus.failures, {"theirs": 1})
        other = EventBus((self.sink(before_ok=False),), self.clock.seconds, self.clock, 30.0)
        self.assertIsNone(other.logged_in(session(user="joe")))

    def test_start_and_stop(self) -> None:
        """Promise: the receiver is stopped after what was on its way."""
        sink = self.sink()
        sink.start()
        self.receiver.hold = Deferred()
        waiting = sink.notify(Event("login", MOMENT, session(user="joe")))
        assert isinstance(waiting, Deferred)
        stopped = Deferred.fromCoroutine(sink.stop())
        self.assertEqual(self.receiver.calls, ["start"])
        self.clock.advance(PATIENCE_SECONDS)
        self.successResultOf(stopped)
        self.failureResultOf(waiting, NotTold)
        self.assertEqual((self.receiver.calls, sink.figures.failed), (["start", "stop"], 1))
