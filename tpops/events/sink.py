"""
The sink between the event bus and a receiver outside.

Purpose: takes a copy of what is so at the moment of an event, sees whether the receiver is told of that user, and hands
it to L{Deliveries}.  The bus gets what is unfinished, so that the +OK of a login can wait for it, and counts and logs
what fails.
Limits: as L{Deliveries}.  A sink that is stopped first tries for L{PATIENCE_SECONDS} to get rid of what waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from tpops.events.deliveries import Deliveries, Figures
from tpops.events.text import MOST_OCTETS
from tpops.events.whose import Whose
from tpops.interfaces import IEventSink, IReceiver
from tpops.model import Event, Notice

#: Seconds that a stop waits until what waits is sent.
PATIENCE_SECONDS = 3.0

_IPV4_IN_IPV6 = "::ffff:"


@implementer(IEventSink)
class Sink:
    """
    See the module.

    @param name: in logs and figures
    @param kinds: the kinds of events that are told
    @param before_ok: whether the +OK of a login waits
    @param users: rules, see L{Whose}
    @param split: parts a canonical name into local part and domain
    @param server: name of this machine
    """

    def __init__(
        self,
        receiver: IReceiver,
        clock: IReactorTime,
        split: Callable[[str], tuple[str, str]],
        server: str,
        *,
        name: str,
        kinds: Iterable[str] = ("login",),
        before_ok: bool = False,
        timeout_seconds: float = 5.0,
        users: Iterable[str] = ("allow .*",),
        at_once: int = 8,
        most_waiting: int = 1000,
    ) -> None:
        self.name = name
        self.wants = frozenset(kinds)
        self.before_ok = before_ok
        self._receiver = receiver
        self._split = split
        self._server = server
        self._whose = Whose(tuple(users))
        self._deliveries = Deliveries(receiver.send, clock, timeout_seconds, at_once, most_waiting)

    @property
    def figures(self) -> Figures:
        """How often the receiver was told."""
        return self._deliveries.figures

    @property
    def waiting(self) -> int:
        """How many notices wait, or are under way."""
        return self._deliveries.waiting

    def start(self) -> None:
        """See L{IReceiver.start}."""
        self._receiver.start()

    async def stop(self) -> None:
        """Let go of everything; what waits is sent first, if that is soon."""
        await self._deliveries.stop(PATIENCE_SECONDS)
        await self._receiver.stop()

    def notify(self, event: Event) -> Awaitable[None] | None:
        """Tell the receiver."""
        notice = self._notice(event)
        if not self._whose.everybody and not self._whose.allows(notice.user or notice.named):
            return None
        line = self._receiver.line(notice)
        return None if line is None else self._deliveries.add(line, notice)

    def _notice(self, event: Event) -> Notice:
        session = event.session
        user, peer = session.user or "", session.peer
        local_part, domain = self._split(user) if user else ("", "")
        host = peer.host
        return Notice(
            kind=event.kind,
            at=event.at,
            session=peer.session,
            user=user,
            local_part=local_part,
            domain=domain,
            named=_text(session.named),
            master=_text(session.master),
            peer=host[len(_IPV4_IN_IPV6) :] if host.startswith(_IPV4_IN_IPV6) and "." in host else host,
            port=peer.port,
            local_host=peer.local_host,
            local_port=peer.local_port,
            server=self._server,
            mechanism=session.mechanism,
            driver=session.driver or "",
            folder=session.folder,
            tls=session.tls,
            seconds=round(max(0.0, (session.ended_at or event.at) - session.connected_at), 3),
            messages=session.messages_at_login,
            octets=session.octets_at_login,
            retr_count=session.retr_count,
            retr_octets=session.retr_octets,
            dele_count=session.dele_count,
            detail=event.detail,
        )


def _text(name: bytes | None) -> str:
    """A name that a client gave, as text of bounded length."""
    return (name or b"")[:MOST_OCTETS].decode("utf-8", "backslashreplace")
