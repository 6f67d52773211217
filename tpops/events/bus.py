"""
The event bus: what happens in sessions goes from here to the sinks.

Purpose: the server says C{emit} and forgets; sinks are told in the order in which they were added.  A
kind that nobody wants costs one dict look-up: the L{Event} is not even built.
A login is told with C{logged_in}, which gives what sinks with C{before_ok} have not finished: the +OK waits for it, so
that a client which sends mail at once is known by then.  All of them together get C{ok_wait_seconds}; what is not
done by then goes on, is counted as a failure of its sink, and the +OK leaves.
Limits: a sink that cannot keep up is skipped while L{MOST_PENDING} of its awaitables are unfinished, so
a hanging database does not eat the memory.  Failures are counted always and logged at most once a
minute and sink.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from tpops.events.deliveries import NotTold
from tpops.interfaces import IEvents, IEventSink
from tpops.model import KINDS, Event, Session

#: Seconds for which further failures of the same sink are counted but not logged.
QUIET_SECONDS = 60.0

#: Unfinished awaitables of one sink at which it gets no further events.
MOST_PENDING = 10_000


#: Seconds that the +OK of a login waits at most.
OK_WAIT_SECONDS = 2.0


class _TooManyPending(NotTold):
    """The sink has too many unfinished events."""


class _TookTooLong(NotTold):
    """The +OK of a login did not wait any longer for the sink."""


@attrs.define(eq=False)
class _Outlet:
    """
    A sink with its account of failures.

    @ivar logged_at: when its last failure was logged, or None
    """

    sink: IEventSink
    name: str
    pending: set[Deferred[None]] = attrs.field(factory=set)
    logged_at: float | None = None


@implementer(IEvents)
class EventBus:
    """
    Tells sinks what happens.

    @ivar failures: how often each sink failed, by its C{name}, else by that of its class ("JSONLog", a second one
        "JSONLog-2")
    """

    _log = Logger()

    def __init__(
        self,
        sinks: Sequence[IEventSink],
        seconds: Callable[[], float],
        clock: IReactorTime | None = None,
        ok_wait_seconds: float = OK_WAIT_SECONDS,
    ) -> None:
        """
        @param sinks: the first sinks, in the order in which they are told
        @param seconds: the time since the epoch, the C{at} of the events
        @param clock: for the time limit of the +OK; sinks with C{before_ok} need it
        @param ok_wait_seconds: how long the +OK of a login waits at most
        """
        self._clock = clock
        self._ok_wait_seconds = ok_wait_seconds
        self.failures: dict[str, int] = {}
        self._seconds = seconds
        self._by_kind: dict[str, tuple[_Outlet, ...]] = {}
        self._outlets: list[_Outlet] = []
        for sink in sinks:
            self.add(sink)

    def add(self, sink: IEventSink) -> None:
        """
        Tell this sink too, from now on.

        @raise ValueError: when it wants a kind that does not exist, or the +OK to wait without a clock
        """
        if sink.before_ok and self._clock is None:
            raise ValueError(f"{type(sink).__name__} has before_ok, which needs a clock")
        unknown = sorted(sink.wants - KINDS)
        if unknown:
            raise ValueError(f"{type(sink).__name__} wants unknown events: {', '.join(unknown)}")
        outlet = _Outlet(sink, _free_name(getattr(sink, "name", "") or type(sink).__name__, self.failures))
        self.failures[outlet.name] = 0
        self._outlets.append(outlet)
        for kind in sink.wants:
            self._by_kind[kind] = (*self._by_kind.get(kind, ()), outlet)

    def emit(self, kind: str, session: Session, detail: str = "") -> None:
        """Never raises."""
        outlets = self._by_kind.get(kind)
        if outlets is None:
            return
        event = Event(kind, self._seconds(), session, detail)
        for outlet in outlets:
            self._tell(outlet, event)

    def logged_in(self, session: Session) -> Awaitable[None] | None:
        """See L{IEvents.logged_in}."""
        outlets = self._by_kind.get("login")
        if outlets is None:
            return None
        event = Event("login", self._seconds(), session)
        waited_for: dict[Deferred[None], _Outlet] = {}
        for outlet in outlets:
            unfinished = self._tell(outlet, event)
            if unfinished is not None and outlet.sink.before_ok:
                waited_for[unfinished] = outlet
        return self._wait(waited_for) if waited_for else None

    def pending(self) -> int:
        """Events that sinks have not finished."""
        return sum(len(outlet.pending) for outlet in self._outlets)

    def close(self) -> None:
        """Tell nobody anything more and cancel what sinks have not finished.  Idempotent."""
        self._by_kind.clear()
        outlets, self._outlets = self._outlets, []
        for outlet in outlets:
            unfinished, outlet.pending = outlet.pending, set()
            for deferred in unfinished:
                deferred.cancel()

    def _tell(self, outlet: _Outlet, event: Event) -> Deferred[None] | None:
        """Tell a sink; what it has not finished, which fires once it has and never fails."""
        try:
            if len(outlet.pending) >= MOST_PENDING:
                raise _TooManyPending(f"{len(outlet.pending)} events unfinished")
            unfinished = outlet.sink.notify(event)
        except Exception:
            self._failed(outlet, event.kind)
            return None
        return None if unfinished is None else self._watch(outlet, event.kind, unfinished)

    def _watch(self, outlet: _Outlet, kind: str, unfinished: Awaitable[None]) -> Deferred[None] | None:
        """See an awaitable through to its end."""

        async def finish() -> None:
            try:
                await unfinished
            except Exception:
                if outlet in self._outlets:
                    self._failed(outlet, kind)

        deferred = Deferred.fromCoroutine(finish())
        if deferred.called:
            return None
        outlet.pending.add(deferred)
        deferred.addBoth(lambda _: outlet.pending.discard(deferred))
        return deferred

    def _wait(self, waited_for: dict[Deferred[None], _Outlet]) -> Deferred[None]:
        """What fires when all of them have, or when the time is up."""
        assert self._clock is not None
        done: Deferred[None] = Deferred()

        def finished(_: object, one: Deferred[None]) -> None:
            del waited_for[one]
            if not waited_for and not done.called:
                timer.cancel()
                done.callback(None)

        def time_is_up() -> None:
            for outlet in waited_for.values():
                try:
                    raise _TookTooLong(f"not done within {self._ok_wait_seconds:g} seconds")
                except _TookTooLong:
                    self._failed(outlet, "login")
            done.callback(None)

        timer = self._clock.callLater(self._ok_wait_seconds, time_is_up)
        for one in list(waited_for):
            one.addBoth(finished, one)
        return done

    def _failed(self, outlet: _Outlet, kind: str) -> None:
        """Count the exception that is being handled, and log it unless the sink's last one was logged just now."""
        self.failures[outlet.name] += 1
        now = self._seconds()
        if outlet.logged_at is not None and 0 <= now - outlet.logged_at < QUIET_SECONDS:
            return
        outlet.logged_at = now
        facts: dict[str, Any] = {"sink": outlet.name, "kind": kind, "failures": self.failures[outlet.name]}
        problem = sys.exc_info()[1]
        if isinstance(problem, NotTold):
            text = "sink-failed: {sink} at {kind}: {why} ({failures} failures since the start)"
            self._log.error(text, event="sink-failed", why=str(problem), **facts)
        else:
            text = "sink-failed: {sink} at {kind}, {failures} failures since the start"
            self._log.failure(text, event="sink-failed", **facts)


def _free_name(wish: str, taken: Iterable[str]) -> str:
    """The name itself, or the name with the first free number from 2 on."""
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}-{number}"
    return name
