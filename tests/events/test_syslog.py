"""L{tpops.events.syslog}, L{tpops.events.syslog_wire} and L{tpops.events.summary}."""

from __future__ import annotations

import os
import time

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.events.samples import MOMENT, session
from tpops.events import syslog_wire
from tpops.events.summary import summary, uidl
from tpops.events.syslog import Syslog, line
from tpops.interfaces import IEventSink
from tpops.mailbox.snapshot import Snapshot
from tpops.model import Event


class Outbox:
    """A sender that keeps what it is given."""

    dropped = 0
    waiting = 0

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def send(self, message: bytes) -> None:
        """See L{tpops.events.syslog_senders.Sender}."""
        self.messages.append(message)

    def close(self) -> None:
        """See L{tpops.events.syslog_senders.Sender}."""


class LineTests(SynchronousTestCase):
    """The words of TPOPS, and what is behind them."""

    def line(self, kind: str, detail: str = "", **facts: object) -> str:
        """The text of an event."""
        return line(Event(kind, MOMENT + 2, session(**facts), detail))

    def test_connection(self) -> None:
        """Promise: TPOPS' words first, then the session."""
        self.assertEqual(self.line("connect"), "connection from 192.0.2.7 session=s1")
        self.assertEqual(self.line("disconnect", "quit"), "disconnect from 192.0.2.7 session=s1")

    def test_login(self) -> None:
        """Promise: user, messages and octets as TPOPS wrote them."""
        facts = {"user": "joe", "messages_at_login": 3, "octets_at_login": 99, "mechanism": "APOP", "driver": "main"}
        self.assertEqual(
            self.line("login", **facts, tls="TLSv1.3 X"),
            "login: joe has 3 messages (99 octets) session=s1 peer=192.0.2.7 method=APOP tls=TLSv1.3/X driver=main",
        )

    def test_logout(self) -> None:
        """Promise: what is left, and a summary of what was done."""
        facts = {
            "user": "joe",
            "octets_at_login": 99,
            "messages_left": 2,
            "octets_left": 90,
            "dele_count": 1,
            "retr_count": 4,
            "retr_octets": 70,
            "top_count": 5,
            "top_octets": 60,
            "reason": "client closed",
        }
        self.assertEqual(
            self.line("logout", "client closed", **facts, ended_at=MOMENT + 1.5, master=b"admin"),
            "logout: joe*admin has 2 messages (90 octets) session=s1 peer=192.0.2.7 top=5/60 retr=4/70 dele=1/9"
            " left=2/90 uidl=- seconds=1.500 reason=client-closed",
        )

    def test_failures(self) -> None:
        """Promise: who, from where, and why; a lock in TPOPS' words; a limit with its name."""
        facts = {"named": b"joe", "login_failures": 2}
        about = "session=s1 peer=192.0.2.7"
        self.assertEqual(
            self.line("login-failed", "BadCredentials: wrong password", **facts),
            f"authentication failed: joe {about} tries=2 (BadCredentials: wrong password)",
        )
        self.assertEqual(
            self.line("login-refused", "MaildropBusy: taken", **facts),
            f"cannot lock for joe {about} (MaildropBusy: taken)",
        )
        self.assertEqual(
            self.line("login-refused", "TooSoon: 2 seconds", **facts),
            f"login refused: joe {about} (TooSoon: 2 seconds)",
        )
        self.assertEqual(
            self.line("greeting-refused", "connections: 5, at most 5"),
            "refused: 192.0.2.7 session=s1 (connections: 5, at most 5)",
        )
        self.assertEqual(self.line("limit", "idle", user="joe"), f"limit: idle {about} user=joe")

    def test_nobody_forges_a_line(self) -> None:
        """Promise: line ends and spaces in names are escaped; an empty name is a dash."""
        text = self.line("login-failed", "BadCredentials: no \n such", named=b"joe\r\nlogout: ann has")
        self.assertIn(r"authentication failed: joe\x0d\x0alogout:\x20ann\x20has session=s1", text)
        self.assertNotIn("\n", text)
        self.assertIn("failed: - session", self.line("login-failed"))


class SummaryTests(SynchronousTestCase):
    """Whether the list of unique-ids is another one."""

    def test_checksum(self) -> None:
        """Promise: the same list has the same checksum, in any session; deletions are marked."""
        one, same = Snapshot.of([1, 2], [b"a", b"b"], [b"x", b"y"]), Snapshot.of([1, 2], [b"a", b"b"], [b"p", b"q"])
        other = Snapshot.of([1, 2], [b"a", b"c"], [b"x", b"y"])
        self.assertEqual(uidl(session(listing=one)), uidl(session(listing=same)))
        self.assertNotEqual(uidl(session(listing=one)), uidl(session(listing=other)))
        removed = session(listing=one, dele_count=1)
        self.assertEqual(uidl(removed), f"{uidl(session(listing=one))}/removed")
        self.assertIn(f" uidl={uidl(removed)} ", summary(removed, MOMENT))

    def test_without_a_login(self) -> None:
        """Promise: no listing, no checksum; a clock that went back is no negative time."""
        self.assertIsNone(uidl(session()))
        self.assertIn("uidl=- seconds=0.000 reason=-", summary(session(), MOMENT - 5))


class WireTests(SynchronousTestCase):
    """The form of the messages."""

    def test_local(self) -> None:
        """RFC 3164 section 4.1: priority, local time with a day of two places, tag, process."""
        self.patch(os, "environ", {**os.environ, "TZ": "UTC"})
        os.putenv("TZ", "UTC")
        time.tzset()
        message = syslog_wire.local(2, 6, MOMENT, "tpops", 17, "hello")
        self.assertEqual(message, b"<22>Mar  9 10:11:12 tpops[17]: hello")

    def test_remote(self) -> None:
        """RFC 5424 section 6: version, UTC with milliseconds, host, program, process, event."""
        message = syslog_wire.remote(16, 4, MOMENT, "mail.example.org", "tpops", 17, "limit", "hello")
        self.assertEqual(message, b"<132>1 2025-03-09T10:11:12.345Z mail.example.org tpops 17 limit - hello")

    def test_counted(self) -> None:
        """RFC 6587 section 3.4.1: octets, not characters."""
        self.assertEqual(syslog_wire.counted("jörg".encode()), b"5 " + "jörg".encode())

    def test_long_message(self) -> None:
        """RFC 5424 section 6.1: not more than every receiver takes, and no half character."""
        message = syslog_wire.remote(2, 6, MOMENT, "-", "t", 1, "login", "ö" * 3000)
        self.assertIn(len(message), (2047, 2048))
        self.assertTrue(message.decode().endswith("ö"))

    def test_host_name(self) -> None:
        """RFC 5424 section 6.2.4: what is no name is left out."""
        self.assertEqual(syslog_wire.host_name("mail example\n"), "mailexample")
        self.assertEqual(syslog_wire.host_name(""), "-")

    def test_sink(self) -> None:
        """Promise: the local form without a host name, RFC 5424 with one."""
        outbox = Outbox()
        local, remote = Syslog(outbox, 2, "pop", None), Syslog(outbox, 2, "pop", "mail.example.org")
        self.assertTrue(verifyObject(IEventSink, local))
        for sink in (local, remote):
            sink.notify(Event("connect", MOMENT, session()))
        first, second = outbox.messages
        self.assertTrue(first.startswith(b"<22>") and b" pop[%d]: connection from" % os.getpid() in first)
        self.assertIn(b"<22>1 2025-03-09T10:11:12.345Z mail.example.org pop %d connect - conn" % os.getpid(), second)
