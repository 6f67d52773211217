"""
The event bus: what happens in sessions goes from here to the sinks.

Purpose: the server says C{emit} and forgets; sinks are told in the order in which they were added.  A
kind that nobody wants costs one dict look-up: the L{Event} is not even built.
Limits: a sink that cannot keep up is skipped while L{MOST_PENDING} of its awaitables are unfinished, so
a hanging database does not eat the memory.  Failures are counted always and logged at most once a
minute and sink.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from tpops.interfaces import IEvents, IEventSink
from tpops.model import KINDS, Event, Session

#: Seconds for which further failures of the same sink are counted but not logged.
QUIET_SECONDS = 60.0

#: Unfinished awaitables of one sink at which it gets no further events.
MOST_PENDING = 10_000


class _TooManyPending(Exception):
    """The sink has too many unfinished events."""


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

    @ivar failures: how often each sink failed, by the name of its class ("JSONLog", a second one "JSONLog-2")
    """

    _log = Logger()

    def __init__(self, sinks: Sequence[IEventSink], seconds: Callable[[], float]) -> None:
        """
        @param sinks: the first sinks, in the order in which they are told
        @param seconds: the time since the epoch, the C{at} of the events
        """
        self.failures: dict[str, int] = {}
        self._seconds = seconds
        self._by_kind: dict[str, tuple[_Outlet, ...]] = {}
        self._outlets: list[_Outlet] = []
        for sink in sinks:
            self.add(sink)

    def add(self, sink: IEventSink) -> None:
        """
        Tell this sink too, from now on.

        @raise ValueError: when it wants a kind that does not exist
        """
        unknown = sorted(sink.wants - KINDS)
        if unknown:
            raise ValueError(f"{type(sink).__name__} wants unknown events: {', '.join(unknown)}")
        outlet = _Outlet(sink, _free_name(type(sink).__name__, self.failures))
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
            try:
                if len(outlet.pending) >= MOST_PENDING:
                    raise _TooManyPending(f"{len(outlet.pending)} events unfinished")
                unfinished = outlet.sink.notify(event)
            except Exception:
                self._failed(outlet, kind)
            else:
                if unfinished is not None:
                    self._watch(outlet, kind, unfinished)

    def close(self) -> None:
        """Tell nobody anything more and cancel what sinks have not finished.  Idempotent."""
        self._by_kind.clear()
        outlets, self._outlets = self._outlets, []
        for outlet in outlets:
            unfinished, outlet.pending = outlet.pending, set()
            for deferred in unfinished:
                deferred.cancel()

    def _watch(self, outlet: _Outlet, kind: str, unfinished: Awaitable[None]) -> None:
        """See an awaitable through to its end."""

        async def finish() -> None:
            try:
                await unfinished
            except Exception:
                if outlet in self._outlets:
                    self._failed(outlet, kind)

        deferred = Deferred.fromCoroutine(finish())
        if not deferred.called:
            outlet.pending.add(deferred)
            deferred.addBoth(lambda _: outlet.pending.discard(deferred))

    def _failed(self, outlet: _Outlet, kind: str) -> None:
        """Count the exception that is being handled, and log it unless the sink's last one was logged just now."""
        self.failures[outlet.name] += 1
        now = self._seconds()
        if outlet.logged_at is not None and 0 <= now - outlet.logged_at < QUIET_SECONDS:
            return
        outlet.logged_at = now
        self._log.failure(
            "sink-failed: {sink} at {kind}, {failures} failures since the start",
            event="sink-failed",
            sink=outlet.name,
            kind=kind,
            failures=self.failures[outlet.name],
        )


def _free_name(wish: str, taken: Iterable[str]) -> str:
    """The name itself, or the name with the first free number from 2 on."""
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}-{number}"
    return name
