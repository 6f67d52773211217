"""Sessions in the log of the process."""

from __future__ import annotations

from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tpops.events.process_log import PROBLEMS, ProcessLog
from tpops.interfaces import IEventSink
from tpops.model import KINDS, Event, Peer, Session


class ProcessLogTests(SynchronousTestCase):
    """What an operator sees without any other log."""

    def entry(self, kind: str, session: Session, detail: str = "") -> tuple[str, LogLevel]:
        """The text and the level of an event's entry."""
        with capturedLogs() as entries:
            ProcessLog(True).notify(Event(kind, 0.0, session, detail))
        (entry,) = entries
        return formatEvent(entry), entry["log_level"]

    def test_is_told_of_problems_or_of_everything(self) -> None:
        """Successful sessions cost nothing unless they are asked for."""
        verifyObject(IEventSink, ProcessLog(False))
        self.assertEqual(ProcessLog(False).wants, PROBLEMS | {"login"})
        self.assertEqual(ProcessLog(True).wants, KINDS)

    def test_refusals_are_shown_with_their_reason(self) -> None:
        """Who, from where, and why."""
        session = Session(Peer("192.0.2.7", session="a1"), 0.0, named=b"joe")
        self.assertEqual(
            self.entry("login-failed", session, "BadCredentials: wrong password"),
            ("login-failed: session a1, 192.0.2.7, user joe: BadCredentials: wrong password", LogLevel.info),
        )
        session.user = "joe@example.org"
        text, level = self.entry("login", session)
        self.assertEqual((text, level), ("login: session a1, 192.0.2.7, user joe@example.org: -", LogLevel.debug))

    def test_master_users_are_shown(self) -> None:
        """Promise: who logs in as another is always logged, other logins are not."""
        session = Session(Peer("192.0.2.7", session="a1"), 0.0, named=b"joe", user="joe")
        with capturedLogs() as entries:
            ProcessLog(False).notify(Event("login", 0.0, session))
            session.master = b"adm in"
            ProcessLog(False).notify(Event("login", 0.0, session))
        self.assertEqual(
            [formatEvent(entry) for entry in entries], [r"login: session a1, 192.0.2.7, user joe*adm\x20in: -"]
        )

    def test_names_cannot_forge_lines(self) -> None:
        """Control characters of a name are escaped; no name is no name."""
        session = Session(Peer("192.0.2.7", session="a1"), 0.0, named=b"x\n2026 login: \xff")
        self.assertNotIn("\n", self.entry("login-failed", session)[0])
        session.named = None
        self.assertIn("user not named", self.entry("greeting-refused", session)[0])
