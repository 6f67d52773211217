"""
What happens in sessions, for syslog, in the words of TPOPS.

    connection from 192.0.2.7 session=40ae101
    login: joe has 3 messages (5120 octets) session=40ae101 peer=192.0.2.7 method=PASS tls=- driver=passwd_file
    logout: joe has 2 messages (4096 octets) session=40ae101 peer=192.0.2.7 top=0/0 retr=1/1024 dele=1/1024 ...
    authentication failed: joe session=40ae102 peer=192.0.2.7 tries=1 (BadCredentials: wrong password)
    cannot lock for joe session=40ae103 peer=192.0.2.7 (MaildropBusy: ...)
    login refused: joe session=40ae104 peer=192.0.2.7 (TooSoon: last login 2.1 seconds ago, ...)
    refused: 192.0.2.7 session=40ae105 (connections_per_address: 50 connections from 192.0.2.7, at most 50)
    limit: idle_timeout_seconds: idle session=40ae106 peer=192.0.2.7 user=joe
    disconnect from 192.0.2.7 session=40ae101

Purpose: each line has the session's identifier; what TPOPS logged comes first, so that its log readers go on
working.  The end of a logout line is L{tpops.events.summary}.
Limits: names are escaped (L{tpops.events.text}), so nobody can forge a line.
"""

from __future__ import annotations

import os
from functools import partial

from zope.interface import implementer

from tpops.events import syslog_wire
from tpops.events.summary import summary
from tpops.events.syslog_senders import Sender
from tpops.events.syslog_wire import INFO, NOTICE, WARNING
from tpops.events.text import one_field, one_line
from tpops.interfaces import IEventSink
from tpops.model import Event, Session

#: How important each event is.
_SEVERITIES = {
    "connect": INFO,
    "login": INFO,
    "logout": INFO,
    "disconnect": INFO,
    "login-failed": NOTICE,
    "login-refused": NOTICE,
    "greeting-refused": WARNING,
    "limit": NOTICE,
}


@implementer(IEventSink)
class Syslog:
    """Writes these lines; whoever opened the sender closes it."""

    wants = frozenset(_SEVERITIES)
    before_ok = False

    def __init__(self, sender: Sender, facility: int, tag: str, host: str | None) -> None:
        """
        @param facility: its number
        @param tag: the name of the program
        @param host: this machine's name for another machine, None for the daemon of this one
        """
        self._sender = sender
        process = os.getpid()
        if host is None:
            self._local = partial(syslog_wire.local, facility)
            self._remote = None
        else:
            self._remote = partial(syslog_wire.remote, facility)
        self._host = syslog_wire.host_name(host or "")
        self._tag, self._process = tag, process

    def notify(self, event: Event) -> None:
        """Send the line of an event."""
        text, severity = line(event), _SEVERITIES[event.kind]
        if self._remote is None:
            message = self._local(severity, event.at, self._tag, self._process, text)
        else:
            message = self._remote(severity, event.at, self._host, self._tag, self._process, event.kind, text)
        self._sender.send(message)


def line(event: Event) -> str:
    """The text of an event."""
    session = event.session
    peer = one_field(session.peer.host) or "unix"
    about = f"session={session.peer.session} peer={peer}"
    if event.kind == "connect":
        return f"connection from {peer} session={session.peer.session}"
    if event.kind == "disconnect":
        return f"disconnect from {peer} session={session.peer.session}"
    if event.kind == "greeting-refused":
        return f"refused: {peer} session={session.peer.session} ({one_line(event.detail)})"
    if event.kind == "limit":
        return f"limit: {one_line(event.detail)} {about} user={_who(session)}"
    if event.kind == "login":
        has = f"{session.messages_at_login} messages ({session.octets_at_login} octets)"
        tls = session.tls.replace(" ", "/") or "-"
        way = f"method={session.mechanism or '-'} tls={tls} driver={session.driver or '-'}"
        return f"login: {_who(session)} has {has} {about} {way}"
    if event.kind == "logout":
        has = f"{session.messages_left} messages ({session.octets_left} octets)"
        return f"logout: {_who(session)} has {has} {about} {summary(session, session.ended_at or event.at)}"
    why = f"({one_line(event.detail)})"
    if event.kind == "login-failed":
        return f"authentication failed: {_who(session)} {about} tries={session.login_failures} {why}"
    locked = event.detail.startswith("MaildropBusy")
    return f"{'cannot lock for' if locked else 'login refused:'} {_who(session)} {about} {why}"


def _who(session: Session) -> str:
    """The user, or the name that the client gave; with the master who acts as him."""
    who = one_field(session.user if session.user is not None else session.named or b"") or "-"
    return who if session.master is None else f"{who}*{one_field(session.master)}"
