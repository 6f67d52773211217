"""Sessions and sinks for the tests of events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from zope.interface import implementer

from tpops.interfaces import IEventSink
from tpops.model import KINDS, Event, Peer, Session

#: 2025-03-09 10:11:12.345 UTC
MOMENT = 1741515072.345


def session(**facts: object) -> Session:
    """A session that has just begun, with the given facts changed."""
    peer = Peer("192.0.2.7", 40001, "198.51.100.1", 110, "s1")
    made = Session(peer=peer, connected_at=MOMENT)
    for name, value in facts.items():
        setattr(made, name, value)
    return made


@implementer(IEventSink)
class Notebook:
    """A sink that keeps what it is told, and then does what the test wants."""

    def __init__(
        self,
        wants: frozenset[str] = KINDS,
        then: Callable[[Event], Awaitable[None] | None] | None = None,
        before_ok: bool = False,
    ) -> None:
        self.wants = wants
        self.before_ok = before_ok
        self.events: list[Event] = []
        self._then = then

    def notify(self, event: Event) -> Awaitable[None] | None:
        """Keep the event."""
        self.events.append(event)
        return None if self._then is None else self._then(event)
