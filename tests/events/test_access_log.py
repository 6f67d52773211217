"""L{tpops.events.access_log}."""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.events.samples import MOMENT, session
from tpops.events.access_log import AccessLog
from tpops.events.log_file import LogFile
from tpops.interfaces import IEventSink
from tpops.model import Event, Peer, Session


class AccessLogTests(SynchronousTestCase):
    """Every connection leaves the line that TPOPS wrote."""

    def setUp(self) -> None:
        """A log in a place five and a half hours east of Greenwich."""
        self.use_zone("XXX-5:30")
        self.path = Path(self.mktemp())
        file = LogFile(str(self.path))
        self.addCleanup(file.close)
        self.log = AccessLog(file)

    def use_zone(self, zone: str) -> None:
        """Set the local time zone until the test ends."""
        old = os.environ.get("TZ")

        def restore() -> None:
            if old is None:
                os.environ.pop("TZ", None)
            else:
                os.environ["TZ"] = old
            time.tzset()

        self.addCleanup(restore)
        os.environ["TZ"] = zone
        time.tzset()

    def line(self, ended: Session) -> str:
        """What the log writes for a session."""
        before = len(self.path.read_bytes())
        self.assertIsNone(self.log.notify(Event("disconnect", ended.ended_at or MOMENT + 9, ended)))
        return self.path.read_bytes()[before:].decode()

    def test_is_told_of_the_end_of_every_connection(self) -> None:
        """Promise: the log wants disconnect and nothing else."""
        self.assertTrue(verifyObject(IEventSink, self.log))
        self.assertEqual(self.log.wants, {"disconnect"})

    def test_line_of_a_user(self) -> None:
        """Promise: address, both times in local time, user, messages and octets at login and left."""
        ended = session(
            ended_at=MOMENT + 60,
            named=b"joe",
            user="joe@example.org",
            messages_at_login=12,
            octets_at_login=34567,
            messages_left=3,
            octets_left=890,
        )
        self.assertEqual(
            self.line(ended),
            "192.0.2.7 2025/03/09 15:41:12 2025/03/09 15:42:12 joe@example.org 12 34567 3 890\n",
        )

    def test_line_of_a_master_user(self) -> None:
        """Promise: both names, also when the login failed; the master's is escaped as well."""
        self.assertIn(" joe*adm\\x20in ", self.line(session(named=b"joe", user="joe", master=b"adm in")))
        self.assertIn(" (joe*admin) ", self.line(session(named=b"joe", master=b"admin")))

    def test_line_of_somebody_who_was_only_named(self) -> None:
        """Promise: without a login the name is in parentheses and the numbers are 0."""
        self.assertEqual(
            self.line(session(ended_at=MOMENT, named=b"joe")),
            "192.0.2.7 2025/03/09 15:41:12 2025/03/09 15:41:12 (joe) 0 0 0 0\n",
        )

    def test_line_of_somebody_without_a_name(self) -> None:
        """Promise: a client that gave no name, or an empty one, is ()."""
        for named in (None, b""):
            self.assertEqual(
                self.line(session(ended_at=MOMENT, named=named)),
                "192.0.2.7 2025/03/09 15:41:12 2025/03/09 15:41:12 () 0 0 0 0\n",
            )

    def test_session_without_an_end_ends_with_the_event(self) -> None:
        """Promise: where ended_at is missing, the time of the event stands for it."""
        self.assertIn("15:41:12 2025/03/09 15:41:21 ()", self.line(session()))

    def test_names_cannot_forge_a_line(self) -> None:
        """Promise: whatever the client calls himself, there is one line with nine fields."""
        nasty = b"x) 0 0 0 0\r\n192.0.2.9 2025/03/09 00:00:00 2025/03/09 00:00:00 root 1 1 1 1\\"
        line = self.line(session(ended_at=MOMENT, named=nasty))
        self.assertEqual(line.count("\n"), 1)
        self.assertEqual(len(line.split(" ")), 10)
        self.assertIn("(x\\x29\\x200\\x200", line)

    def test_user_in_parentheses_is_not_taken_for_a_stranger(self) -> None:
        """Promise: only a client that did not log in has parentheses."""
        self.assertIn(" \\x28joe\\x29 ", self.line(session(user="(joe)")))

    def test_long_names_are_cut(self) -> None:
        """Promise: a name takes 200 octets at most."""
        self.assertIn(f" ({'n' * 200}) ", self.line(session(named=b"n" * 5000)))

    def test_unix_socket(self) -> None:
        """Promise: the path of a socket is one field as well."""
        for host, field in (("/run/my pop.sock", "/run/my\\x20pop.sock "), ("", "unix ")):
            ended = Session(Peer(host), MOMENT, MOMENT)
            self.assertTrue(self.line(ended).startswith(field))

    def test_seconds_are_formatted_once(self) -> None:
        """Promise: sessions of the same second share the work, and what is kept is bounded."""
        for number in range(1000):
            self.line(session(ended_at=MOMENT + number))
        self.assertLessEqual(len(self.log._texts), 64)
        self.assertIn("15:57:51", self.path.read_text().splitlines()[-1])
