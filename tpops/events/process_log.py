"""
What goes wrong with clients, in the log of the process (twistd's log).

Purpose: an operator who has configured no other log still sees who was refused and why, and who logged in as another
(C{user*master}); with C{log.level = "debug"}
everything that happens in sessions is there.
Limits: an entry of Twisted's log costs as much as a fifth of a poll; that is why successful sessions are left to the
access log and the event log.
"""

from __future__ import annotations

from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from tpops.events.summary import summary
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

    before_ok = False

    def __init__(self, everything: bool) -> None:
        self.wants = KINDS if everything else PROBLEMS | {"login"}
        self._everything = everything

    def notify(self, event: Event) -> None:
        """Make an entry."""
        session = event.session
        acting = event.kind == "login" and session.master is not None
        if not (self._everything or acting or event.kind in PROBLEMS):
            return
        user = session.user or one_field(session.named or b"") or "not named"
        if session.master is not None:
            user = f"{user}*{one_field(session.master)}"
        _log.emit(
            LogLevel.info if acting or event.kind in PROBLEMS else LogLevel.debug,
            "{event}: session {session}, {peer}, user {user}: {detail}",
            event=event.kind,
            session=session.peer.session,
            peer=session.peer.host,
            user=user,
            detail=summary(session, event.at) if event.kind == "logout" else event.detail or "-",
        )
