"""LMTP from a real Postfix: who bounces, who waits, who gets his mail; and what fetchmail then collects."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus, mariadb
from tests.integration.mail_database import SCHEMAS
from tests.integration.postfix import PROGRAMS, Postfix, reason_to_skip, shared
from tests.integration.server import PATIENCE_SECONDS, RunningServer
from tests.support import need

DOMAIN = "example.org"

SENDER = "ann@sender.test"

#: Postfix adds one where there is none.
DATE = b"Date: Wed, 25 Nov 2026 12:00:00 +0000\n"

MESSAGE = DATE + b"From: ann@sender.test\nSubject: hello\nMessage-ID: <1@sender.test>\n\ntext\n"

USERS = ("joe", "full", "max")

#: What Postfix can carry of the corpus: lines of SMTP have an end, and mail is a header and a body.
CARRIED = ("lf", "dots", "lone-dot", "dot-last", "8-bit", "from", "folded", "5000-octets", "attachment")


class PostfixCase(SynchronousTestCase):
    """A server with a few users, and a Postfix that delivers to it."""

    timeout = 240
    skip = need(None, *PROGRAMS, "fetchmail") or reason_to_skip()
    postfix: Postfix

    def setUp(self) -> None:
        place = Path(tempfile.mkdtemp(prefix="tpops-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, place)
        place.chmod(0o755)
        socket = place / "lmtp"
        self.server = RunningServer(
            self,
            place,
            {f"{name}@{DOMAIN}": "secret" for name in USERS},
            lmtp={"listen": [f"unix:{socket}"], "socket_mode": "0666"},
        )
        self.server.configuration["accounts"] += self.more_accounts()
        (self.server.maildir(f"full@{DOMAIN}") / "maildirsize").write_text("10S\n")
        self.server.start()
        self.postfix = shared()
        self.postfix.configure(
            self,
            {
                "transport_maps": f"inline:{{ {{ {DOMAIN} = lmtp:unix:{socket} }} }}",
                "relay_domains": DOMAIN,
                "lmtp_line_length_limit": "0",
            },
        )

    def more_accounts(self) -> list[dict[str, Any]]:
        """Accounts sources beside the file."""
        return []

    def counts(self) -> dict[str, int]:
        """How many messages everybody has."""
        return {name: len(self.server.names(f"{name}@{DOMAIN}")) for name in USERS}

    def to(self, *names: str) -> str:
        """Send a message; its number in Postfix' queue."""
        return self.postfix.send(SENDER, [f"{name}@{DOMAIN}" for name in names], MESSAGE)

    def status(self, queue_id: str, name: str) -> str:
        """What Postfix says of one recipient."""
        return self.postfix.status(queue_id, f"{name}@{DOMAIN}")


class BounceTests(PostfixCase):
    """A message for several never comes back for the wrong ones."""

    def test_each_for_himself(self) -> None:
        """RFC 2033 section 1: unknown and over quota bounce at once, the others have it once; nobody else bounces."""
        queue_id = self.to("nobody", "joe", "full", "max")
        self.postfix.wait_empty()
        self.assertTrue(self.status(queue_id, "nobody").startswith("dsn=5.1.1 status=bounced"))
        self.assertTrue(self.status(queue_id, "full").startswith("dsn=5.2.2 status=bounced"))
        for name in ("joe", "max"):
            self.assertRegex(self.status(queue_id, name), r"\Adsn=2.1.5 status=sent \(250 2.1.5 \w+\.1 stored\)")
        self.assertEqual(self.counts(), {"joe": 1, "full": 0, "max": 1})
        returned = set(re.findall(r"^Final-Recipient: rfc822; (\S+)$", self.postfix.bounce(queue_id), re.MULTILINE))
        self.assertEqual(returned, {f"nobody@{DOMAIN}", f"full@{DOMAIN}"})
        # The delivery's name in Postfix' log is that of ours.
        delivery = re.search(r"\(250 2.1.5 (\S+) stored\)", self.status(queue_id, "joe"))
        assert delivery is not None
        self.assertIn(f"delivered: {delivery[1]}, from <{SENDER}>, to <joe@{DOMAIN}>", self.server.output())

    def test_full_maildrop_may_wait(self) -> None:
        """Promise: with over_quota = "defer" the mail waits and arrives when there is room."""
        self.server.stop()
        self.server.configuration["lmtp"]["over_quota"] = "defer"
        self.server.start()
        queue_id = self.to("full", "joe")
        self.assertTrue(self.status(queue_id, "full").startswith("dsn=4.2.2 status=deferred"))
        (self.server.maildir(f"full@{DOMAIN}") / "maildirsize").write_text("100000S\n")
        self.postfix.wait_empty()
        self.assertEqual(self.counts(), {"joe": 1, "full": 1, "max": 0})
        self.assertEqual(self.postfix.bounces(), [])

    def test_server_away(self) -> None:
        """Promise: while tpops is down mail waits; a stop and a start lose and double nothing."""
        self.server.stop()
        first = self.to("joe", "max")
        self.assertIn("status=deferred", self.status(first, "joe"))
        self.server.start()
        for _ in range(3):
            for _ in range(3):
                self.to("joe", "max")
            self.server.restart()
        self.postfix.wait_empty()
        self.assertEqual(self.counts(), {"joe": 10, "full": 0, "max": 10})


class DatabaseDownTests(PostfixCase):
    """Users in a file, eva in a database, and the mail of sql in that database."""

    skip = PostfixCase.skip or need(None, *mariadb.PROGRAMS)

    def more_accounts(self) -> list[dict[str, Any]]:
        self.database = mariadb.MariaDB()
        self.addCleanup(self.database.remove)
        self.database.start()
        self.place = self.server.directory / "eva"
        for part in ("tmp", "new", "cur"):
            (self.place / part).mkdir(parents=True)
        self.database.run(
            "CREATE DATABASE people",
            "CREATE TABLE people.people (who VARCHAR(255), pw VARCHAR(255), place VARCHAR(255))",
            f"INSERT INTO people.people VALUES ('eva@{DOMAIN}', '{{PLAIN}}secret', '{self.place}')",
        )
        for name in ("accounts", "mail"):
            self.database.script(SCHEMAS / f"mysql-v2-{name}.sql", "people")
        with open(self.server.directory / "users", "a") as users:
            users.write(f"sql@{DOMAIN}:{{PLAIN}}secret::::{self.server.directory}::userdb_mail=mysql:\n")
        return [
            {
                "driver": "mysql",
                "servers": [self.database.unix],
                "user": mariadb.ADMIN,
                "password": mariadb.ADMIN_PASSWORD,
                "database": "people",
                "query": "SELECT pw AS password, place AS maildrop FROM people WHERE who = %s",
                "timeout_seconds": 5,
            }
        ]

    def mail_of_eva(self) -> int:
        """How many messages she has."""
        return len(list(self.place.glob("new/*")))

    def test_database_down(self) -> None:
        """Promise: what a database that is down would know waits; it is delivered, once, when the database is back."""
        self.database.stop()
        queue_id = self.to("joe", "eva", "sql", "nobody", "full")
        self.assertTrue(self.status(queue_id, "joe").startswith("dsn=2.1.5 status=sent"))
        self.assertTrue(self.status(queue_id, "full").startswith("dsn=5.2.2 status=bounced"))
        for name in ("eva", "sql", "nobody"):
            self.assertIn("dsn=4.3.0 status=deferred", self.status(queue_id, name))
        self.assertEqual(self.counts(), {"joe": 1, "full": 0, "max": 0})
        self.assertEqual(self.mail_of_eva(), 0)
        self.assertIn(f"full@{DOMAIN}", self.postfix.bounce(queue_id))
        self.database.start()
        self.postfix.wait_empty()
        self.assertEqual(self.counts(), {"joe": 1, "full": 0, "max": 0})
        self.assertEqual(self.mail_of_eva(), 1)
        session = self.server.session(f"sql@{DOMAIN}", "secret")
        self.assertTrue(session.command(b"STAT").startswith(b"+OK 1 "))
        header, _, rest = session.multi_line(b"RETR 1")[1].partition(DATE.replace(b"\n", b"\r\n"))
        self.assertTrue(
            header.startswith(b"Return-Path: <ann@sender.test>\r\nDelivered-To: sql@example.org\r\nReceived: ")
        )
        self.assertEqual(rest, MESSAGE.removeprefix(DATE).replace(b"\n", b"\r\n"))
        self.assertTrue(self.status(queue_id, "nobody").startswith("dsn=5.1.1 status=bounced"))
        self.assertEqual(len(self.postfix.bounces(queue_id)), 2)


class CollectTests(PostfixCase):
    """From SMTP to fetchmail."""

    def fetchmail(self) -> list[bytes]:
        """All that fetchmail collects of joe's, as it gives it to a program."""
        home = Path(self.mktemp()).absolute()
        home.mkdir()
        program = home / "take"
        program.write_text(f'#!/bin/sh\nexec cat > "$(mktemp {home}/in/XXXXXXXXXX)"\n')
        program.chmod(0o700)
        (home / "in").mkdir()
        settings = home / "fetchmailrc"
        settings.touch(0o600)
        settings.write_text(
            f"poll 127.0.0.1 service {self.server.port} protocol pop3 auth password timeout 60\n"
            f'  user "joe@{DOMAIN}" password "secret" mda "{program}" fetchall no rewrite no mimedecode sslproto \'\'\n'
        )
        done = subprocess.run(
            ["fetchmail", "--fetchmailrc", str(settings), "--pidfile", str(home / "pid"), "--invisible", "--nosyslog"],
            env={**os.environ, "HOME": str(home), "FETCHMAILHOME": str(home)},
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return [path.read_bytes() for path in (home / "in").iterdir()]

    def test_byte_for_byte(self) -> None:
        """Promise: what Postfix gets by SMTP, fetchmail collects octet by octet, below what the servers add."""
        for name in CARRIED:
            self.postfix.send(SENDER, [f"joe@{DOMAIN}"], DATE + corpus.ALL[name])
        self.postfix.wait_empty()
        collected = {}
        for message in self.fetchmail():
            header, _, rest = message.partition(DATE)
            self.assertIn(b"Return-Path: <ann@sender.test>\nDelivered-To: joe@example.org\nReceived: ", header)
            self.assertEqual(header.count(b"Return-Path"), 1)
            rest = DATE + rest
            collected[rest.partition(b"Subject: ")[2].partition(b"\n")[0].decode()] = rest
        for name in CARRIED:
            sent = DATE + corpus.ALL[name].partition(b"\n")[2]
            self.assertEqual(collected[name], sent if sent.endswith(b"\n") else sent + b"\n", name)
