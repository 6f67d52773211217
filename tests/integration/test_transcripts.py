"""Transcripts of sessions, without secrets."""

from __future__ import annotations

import base64

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, RunningServer, wait_until
from tpops.admin import log_check
from tpops.config.log import Log


class TranscriptTests(SynchronousTestCase):
    """What is in the file, and what is not."""

    timeout = 120

    def test_no_secret_is_in_it(self) -> None:
        """Promise: commands and answers are there; passwords, responses, wrong lines and mail are not."""
        log = {"transcript": "transcript.log"}
        server = RunningServer(self, log=log, protocol={"auth_delay_seconds": 0.05, "auth_tries": 9})
        server.deliver("1.host", b"Subject: private\n\nlove letter\n")
        server.start()
        path = server.directory / "transcript.log"
        wire = server.connect()
        wire.line()
        plain = base64.b64encode(b"\0joe\0wrong one")
        for line in (b"CAPA",):
            wire.send(line + b"\r\n")
            while wire.line() != b".":
                pass
        wire.command(b"AUTH PLAIN " + plain)
        wire.command(b"AUTH PLAIN")
        wire.command(plain)
        wire.command(b"wrong two")
        wire.command(b"USER joe wrong three")
        wire.command(b"PASS wrong four")
        wire.command(b"APOP joe 0123456789abcdef0123456789abcdef")
        wire.command(b"USER joe")
        wire.command(b"PASS " + PASSWORD.encode())
        wire.command(b"STAT")
        for line in (b"RETR 1", b"TOP 1 1", b"UIDL"):
            wire.send(line + b"\r\n")
            while wire.line() != b".":
                pass
        wire.command(b"QUIT")
        text = wait_until(lambda: "C: QUIT" in path.read_text() and path.read_text())
        for part in ("C: CAPA", "C: AUTH PLAIN (hidden)", "C: USER joe", "C: PASS (hidden)", "C: RETR 1", "S: +OK"):
            self.assertIn(part, text)
        for part in ("C: (SASL response, ", "C: (no command, 9 octets)", "C: APOP joe (hidden)", "C: STAT", "octets)"):
            self.assertIn(part, text)
        for secret in (PASSWORD, plain.decode(), "wrong", "0123456789", "private", "love", "1.host"):
            self.assertNotIn(secret, text)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertIn("transcripts of sessions are kept in", server.output())

    def test_others_are_not_in_it(self) -> None:
        """Promise: only clients of the networks that are named; and nothing is ever written that nobody asked for."""
        log = {"transcript": "transcript.log", "transcript_networks": ["192.0.2.0/24"]}
        server = RunningServer(self, log=log).start()
        server.session().command(b"QUIT")
        self.assertEqual((server.directory / "transcript.log").read_text(), "")

    def test_check_warns(self) -> None:
        """Promise: tpops check says that it is on, and of whom."""
        (warning,) = log_check.warnings(Log(transcript="/x/t.log", transcript_networks=("192.0.2.0/24",)))
        self.assertIn("what 192.0.2.0/24 do is written to /x/t.log", warning)
