"""L{tpops.events.json_log}."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.events.samples import MOMENT, session
from tpops.events.json_log import JSONLog
from tpops.events.log_file import LogFile
from tpops.interfaces import IEventSink
from tpops.model import KINDS, Event

COMMON = {
    "session": "s1",
    "peer": "192.0.2.7",
    "port": 40001,
    "local": "198.51.100.1",
    "local_port": 110,
}


class JSONLogTests(SynchronousTestCase):
    """Every event is one JSON object on one line."""

    def setUp(self) -> None:
        """A log in a file."""
        self.path = Path(self.mktemp())
        file = LogFile(str(self.path))
        self.addCleanup(file.close)
        self.log = JSONLog(file)

    def written(self, event: Event) -> dict[str, object]:
        """What the log writes for an event, read back."""
        before = len(self.path.read_bytes())
        self.assertIsNone(self.log.notify(event))
        line = self.path.read_bytes()[before:]
        self.assertEqual((line.count(b"\n"), line[-1:], line.isascii()), (1, b"\n", True))
        read = json.loads(line)
        assert isinstance(read, dict)
        return read

    def test_wants_everything(self) -> None:
        """Promise: all kinds are logged."""
        self.assertTrue(verifyObject(IEventSink, self.log))
        self.assertEqual(self.log.wants, KINDS)

    def test_line_of_a_connect(self) -> None:
        """Promise: what is not known yet is null."""
        self.assertEqual(
            self.written(Event("connect", MOMENT, session())),
            {
                "time": "2025-03-09T10:11:12.345Z",
                "event": "connect",
                **COMMON,
                "named": None,
                "mechanism": "",
                "master": None,
                "user": None,
                "folder": None,
                "driver": None,
                "detail": "",
            },
        )

    def test_limits_have_their_keys_in_a_field(self) -> None:
        """Promise: whatever refused or ended it, the field is the name of the key; other events have none."""
        for kind, detail, limit in (
            ("greeting-refused", "connections: 3 connections, at most 3", "connections"),
            ("limit", "idle_timeout_seconds: idle", "idle_timeout_seconds"),
            ("login-refused", "LimitReached: connections_per_user: 3 of joe", "connections_per_user"),
            ("login-refused", "TooSoon: last login 2 seconds ago", "login_delay_seconds"),
            ("login-refused", "MaildropBusy: in use", None),
            ("login-failed", "BadCredentials: wrong password", None),
            ("disconnect", "", None),
        ):
            self.assertEqual(self.written(Event(kind, MOMENT, session(), detail)).get("limit"), limit)

    def test_line_of_a_failed_login(self) -> None:
        """Promise: the name that was tried is there, with the reason."""
        read = self.written(Event("login-failed", MOMENT, session(named="jörg\n".encode()), "wrong password"))
        self.assertEqual((read["named"], read["user"], read["detail"]), ("jörg\n", None, "wrong password"))

    def test_master_user(self) -> None:
        """Promise: who logs in as another is there beside him."""
        read = self.written(Event("login", MOMENT, session(named=b"joe", user="joe", master=b"admin")))
        self.assertEqual((read["named"], read["user"], read["master"]), ("joe", "joe", "admin"))

    def test_line_of_a_disconnect(self) -> None:
        """Promise: the last line of a session says why it ended and what was done."""
        done = {
            "reason": "quit",
            "tls": "",
            "retr_count": 1,
            "retr_octets": 2,
            "top_count": 3,
            "top_octets": 4,
            "dele_count": 5,
            "login_failures": 6,
            "messages_at_login": 7,
            "octets_at_login": 8,
            "messages_left": 9,
            "octets_left": 10,
        }
        ended = session(
            named=b"joe", mechanism="PASS", user="joe@example.org", driver="main", ended_at=MOMENT + 1.23456, **done
        )
        self.assertEqual(
            self.written(Event("disconnect", MOMENT + 1.2346, ended)),
            {
                "time": "2025-03-09T10:11:13.579Z",
                "event": "disconnect",
                **COMMON,
                "named": "joe",
                "mechanism": "PASS",
                "master": None,
                "user": "joe@example.org",
                "folder": None,
                "driver": "main",
                "detail": "",
                "seconds": 1.235,
                **done,
                "uidl": None,
            },
        )

    def test_session_without_an_end_ends_with_the_event(self) -> None:
        """Promise: seconds counts to the event where ended_at is missing, and is never negative."""
        self.assertEqual(self.written(Event("disconnect", MOMENT + 2, session()))["seconds"], 2.0)
        self.assertEqual(self.written(Event("disconnect", MOMENT - 2, session()))["seconds"], 0.0)

    def test_time_has_three_digits(self) -> None:
        """Promise: milliseconds are padded and never rounded up into the next second."""
        for at, text in ((0.0, "00.000Z"), (0.0625, "00.062Z"), (0.9999, "00.999Z"), (1.5, "01.500Z")):
            self.assertEqual(self.written(Event("connect", at, session()))["time"], f"1970-01-01T00:00:{text}")

    @given(st.binary(max_size=300))
    def test_any_name_is_one_line(self, name: bytes) -> None:
        """Promise: no name breaks the line or makes it long."""
        named = self.written(Event("login-failed", MOMENT, session(named=name)))["named"]
        assert isinstance(named, str)
        self.assertLessEqual(len(named), 800)
