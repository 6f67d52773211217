"""
The event log for programs: one JSON object a line, for every event.

Purpose: C{jq}, log shippers and statistics.  Every line has time (ISO 8601, UTC, milliseconds), event,
session, peer, port, local, local_port, named, mechanism, master, user, folder, driver and detail; that of a disconnect
also has seconds, reason and what was done; where a limit was the cause, limit is the name of its key.  Lines of
deliveries have delivery, peer, sender, recipient, account,
octets, seconds, unique_id, reply and detail.  Never a secret: only names, numbers and our own words.
Limits: names are cut at 200 octets; octets that are no UTF-8 appear as C{\\xNN}.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Mapping

from zope.interface import implementer

from tpops.events.log_file import LogFile
from tpops.events.summary import uidl
from tpops.events.text import MOST_OCTETS
from tpops.interfaces import IEventSink
from tpops.model import KINDS, Event, Session

_encode = json.JSONEncoder(separators=(",", ":")).encode


@implementer(IEventSink)
class JSONLog:
    """Writes the event log; whoever opened the file reopens and closes it."""

    wants = KINDS
    before_ok = False

    def __init__(self, log_file: LogFile) -> None:
        self._file = log_file
        self._second = -1
        self._second_text = ""

    def notify(self, event: Event) -> Awaitable[None] | None:
        """Write the line of the event."""
        session = event.session
        peer = session.peer
        fields: dict[str, str | int | float | None] = {
            "time": self._time(event.at),
            "event": event.kind,
            "session": peer.session,
            "peer": peer.host,
            "port": peer.port,
            "local": peer.local_host,
            "local_port": peer.local_port,
            "named": None if session.named is None else _cut(session.named),
            "mechanism": session.mechanism,
            "master": None if session.master is None else _cut(session.master),
            "user": session.user,
            "folder": session.folder or None,
            "driver": session.driver,
            "detail": event.detail,
        }
        if event.limit:
            fields["limit"] = event.limit
        if event.kind == "disconnect":
            fields["seconds"] = round(max(0.0, (session.ended_at or event.at) - session.connected_at), 3)
            fields.update(_closing(session))
        self._file.write(_encode(fields).encode("ascii"))
        return None

    def delivery(self, event: str, at: float, facts: Mapping[str, str | int | float]) -> None:
        """
        Write the line of what became of a message for one recipient.

        @param event: delivered, deferred, bounced or recipient-refused
        """
        self._file.write(_encode({"time": self._time(at), "event": event, **facts}).encode("ascii"))

    def _time(self, at: float) -> str:
        """A moment in UTC."""
        second, millisecond = divmod(int(at * 1000), 1000)
        if second != self._second:
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._second_text}.{millisecond:03d}Z"


def _closing(session: Session) -> dict[str, str | int | None]:
    """What was done in a session that ended."""
    return {
        "reason": session.reason,
        "tls": session.tls,
        "retr_count": session.retr_count,
        "retr_octets": session.retr_octets,
        "top_count": session.top_count,
        "top_octets": session.top_octets,
        "dele_count": session.dele_count,
        "login_failures": session.login_failures,
        "messages_at_login": session.messages_at_login,
        "octets_at_login": session.octets_at_login,
        "messages_left": session.messages_left,
        "octets_left": session.octets_left,
        "uidl": uidl(session),
    }


def _cut(name: bytes) -> str:
    """A name that a client gave, as text of bounded length."""
    return name[:MOST_OCTETS].decode("utf-8", "backslashreplace")
