"""
The access log, in the format of TPOPS: one line at the end of every connection.

    IP YYYY/MM/DD HH:MM:SS YYYY/MM/DD HH:MM:SS WHO n0 size0 n1 size1

Purpose: the times of connecting and disconnecting (local time); WHO is the user, C{user*master} when a master user
logged in as him, C{(name)} when the client gave a name and did not log in, C{()} when it gave none; messages and
octets at login, and what is left after the session's deletions.
Known deviation from TPOPS: names are escaped (L{tpops.events.text}), so nobody can forge a line.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable

from zope.interface import implementer

from tpops.events.log_file import LogFile
from tpops.events.text import one_field
from tpops.interfaces import IEventSink
from tpops.model import Event, Session

#: Formatted seconds that are kept; sessions that end together share most of them.
_MOST_SECONDS = 64


@implementer(IEventSink)
class AccessLog:
    """Writes the access log; whoever opened the file reopens and closes it."""

    wants = frozenset(("disconnect",))
    before_ok = False

    def __init__(self, log_file: LogFile) -> None:
        self._file = log_file
        self._texts: dict[int, str] = {}

    def notify(self, event: Event) -> Awaitable[None] | None:
        """Write the line of the session that ended."""
        session = event.session
        line = (
            f"{one_field(session.peer.host) or 'unix'} {self._time(session.connected_at)}"
            f" {self._time(session.ended_at or event.at)} {_who(session)}"
            f" {session.messages_at_login} {session.octets_at_login} {session.messages_left} {session.octets_left}"
        )
        self._file.write(line.encode())
        return None

    def _time(self, at: float) -> str:
        """A moment in local time."""
        second = int(at)
        text = self._texts.get(second)
        if text is None:
            if len(self._texts) >= _MOST_SECONDS:
                self._texts.clear()
            text = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(second))
            self._texts[second] = text
        return text


def _who(session: Session) -> str:
    """The user, or the name that was given in parentheses."""
    master = "" if session.master is None else f"*{one_field(session.master)}"
    if session.user is not None:
        return one_field(session.user) + master
    return f"({one_field(session.named or b'')}{master})"
