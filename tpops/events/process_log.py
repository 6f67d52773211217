"""
What goes wrong with clients, in the log of the process (twistd's log).

Purpose: an operator who has configured no other log still sees who was refused and why; with C{log.level = "debug"}
everything that happens in sessions is there.
Limits: an entry of Twisted's log costs as much as a fifth of a poll; that is why successful sessions are left to the
access log and the event log.
"""

from __future__ import annotations

from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from tpops.events.text import one_field
from tpops.interfaces import IEventSink
from tpops.model import KINDS, Event

_log = Logger()

#: What is worth an entry at any level.
PROBLEMS = frozenset(("greeting-refused", "login-failed", "login-refused", "limit"))


@implementer(IEventSink)
class ProcessLog:
    """
    See L{IEventSink}.

    @param everything: not only problems
    """

    def __init__(self, everything: bool) -> None:
        self.wants = KINDS if everything else PROBLEMS

    def notify(self, event: Event) -> None:
        """Make an entry."""
        session = event.session
        named = "" if session.named is None else one_field(session.named)
        _log.emit(
            LogLevel.info if event.kind in PROBLEMS else LogLevel.debug,
            "{event}: session {session}, {peer}, user {user}: {detail}",
            event=event.kind,
            session=session.peer.session,
            peer=session.peer.host,
            user=session.user or named or "not named",
            detail=event.detail or "-",
        )
