"""Postfix' own local(8) delivers into a spool while POP3 sessions delete."""

from __future__ import annotations

import os
import pwd
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import postfix
from tests.integration.server import PASSWORD, RunningServer
from tests.integration.test_twistd import reachable_directory
from tests.support import need

SENDER = f"ann@{postfix.SENDER_DOMAIN}"

#: Messages, recipients of each, sessions.
MESSAGES, RECIPIENTS, SESSIONS = 20, 50, 50

USER = postfix.USER


class LocalTests(SynchronousTestCase):
    """One spool, two programs."""

    timeout = 300
    skip = need(None, *postfix.PROGRAMS) or postfix.reason_to_skip()

    def setUp(self) -> None:
        self.server = RunningServer(self, reachable_directory(self), users={USER: PASSWORD})
        self.spools = self.server.directory / "spools"
        self.spools.mkdir()
        owner = pwd.getpwnam(USER)
        os.chown(self.spools, owner.pw_uid, owner.pw_gid)
        self.server.configuration["server"] = {"state_dir": str(self.server.directory / "state")}
        self.server.configuration["mail"] = {"location": f"mbox:{self.spools}/$(user)"}
        self.server.configuration["mbox"] = {"lock_wait_seconds": 60}
        self.postfix = postfix.shared()
        self.postfix.configure(
            self,
            {
                "mydestination": "example.org",
                "recipient_delimiter": "+",
                "mail_spool_directory": str(self.spools),
                "mailbox_delivery_lock": "fcntl, dotlock",
                "deliver_lock_attempts": "1000",
                "deliver_lock_delay": "1s",
                "local_destination_concurrency_limit": "4",
                "initial_destination_concurrency": "4",
            },
        )

    def test_mail_is_delivered_while_sessions_delete(self) -> None:
        """Promise: of 1,000 messages that local(8) appends while 50 sessions delete, each is there exactly once."""
        self.server.start()
        everybody = [f"{USER}+{number}@example.org" for number in range(RECIPIENTS)]
        for number in range(MESSAGES):
            text = b"Subject: number %d\n\nFrom the text\n%s" % (number, b"a line of text\n" * (1 + number * 7 % 40))
            self.postfix.send(SENDER, everybody, text)
        fetched: list[tuple[int, int]] = []
        for _ in range(SESSIONS):
            fetched += self.fetch_half()
        self.postfix.wait_empty(240)
        while rest := self.fetch_half():
            fetched += rest
        expected = [(number, recipient) for number in range(MESSAGES) for recipient in range(RECIPIENTS)]
        self.assertEqual(sorted(fetched), expected)
        self.assertEqual((self.spools / USER).read_bytes(), b"")
        self.assertEqual(os.listdir(self.spools), [USER])
        self.assertEqual(self.postfix.bounces(), [])

    def fetch_half(self) -> list[tuple[int, int]]:
        """A session that takes every other message, and the last; their numbers and recipients."""
        client = self.server.poplib(USER)
        count = client.stat()[0]
        taken = []
        for number in range(count, 0, -2):
            lines = client.retr(number)[1]
            text = b"\n".join(lines)
            which = re.search(rb"^Subject: number (\d+)$", text, re.MULTILINE)
            whose = re.search(rb"^X-Original-To: \S+?\+(\d+)@", text, re.MULTILINE)
            assert which is not None, text
            assert whose is not None, text
            self.assertEqual(lines[lines.index(b"") + 1], b">From the text")
            self.assertEqual(lines.count(b"a line of text"), 1 + int(which[1]) * 7 % 40)
            taken.append((int(which[1]), int(whose[1])))
            client.dele(number)
        client.quit()
        return taken
