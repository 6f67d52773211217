"""A real Postfix hands mail to tpops-pipe: what is delivered, comes back or waits; and fetchmail collects it."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus, postfix
from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, RunningServer, wait_until
from tests.integration.test_twistd import reachable_directory
from tests.support import need

SENDER = f"ann@{postfix.SENDER_DOMAIN}"

#: What Postfix takes octet by octet: lines of text, a date, no Return-Path.
MAIL = {
    name: corpus.ALL[name].replace(b"Return-Path: <ann@example.org>\n", b"Date: Tue, 24 Nov 2026 07:00:00 +0000\n")
    for name in ("lf", "8-bit", "attachment")
}


class PipeTests(SynchronousTestCase):
    """fallback_transport is tpops-pipe, as TPOPS' manual had it."""

    timeout = 300
    skip = need(None, *postfix.PROGRAMS) or postfix.reason_to_skip()

    def setUp(self) -> None:
        self.postfix = postfix.shared()
        owner = pwd.getpwnam(postfix.USER)
        users = {f"{name}@example.org": PASSWORD for name in (USER, "bob", "jürgen")}
        users |= {f"{name}@direct.test": PASSWORD for name in (USER, "bob")}
        self.server = RunningServer(self, reachable_directory(self), users=users)
        self.server.configuration["delivery"] = {"extension_separator": "+"}
        self.configure()
        for path in (self.server.directory, *self.server.directory.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        pipe = self.postfix.console_command(
            "tpops.delivery.pipe", "-c", str(self.server.configuration_file), "-f", "${sender}", "--", "${recipient}"
        )
        self.postfix.configure(
            self,
            {
                "mydestination": "example.org",
                "fallback_transport": "tpops",
                "recipient_delimiter": "+",
                "relay_domains": "direct.test",
                "transport_maps": "inline:{ direct.test=tpops: }",
                "tpops_destination_recipient_limit": "10",
            },
            [f"tpops unix - n n - 2 pipe flags= user={postfix.USER} argv={pipe}"],
        )

    def configure(self) -> None:
        """Write the configuration for the user under whom tpops-pipe runs."""
        self.server.write_configuration()
        self.server.configuration_file.chmod(0o644)

    def send(self, *recipients: str, message: bytes = MAIL["lf"], options: tuple[str, ...] = ()) -> str:
        """Send a message; gives its number."""
        return self.postfix.send(SENDER, [f"{one}@example.org" for one in recipients], message, *options)

    def stored(self, user: str = USER) -> list[bytes]:
        """The messages in a Maildir, from the Subject on, behind what Postfix puts before."""
        stored = self.server.stored(f"{user}@example.org")
        return [self.bare(stored[name]) for name in sorted(stored)]

    def bare(self, message: bytes) -> bytes:
        """A message without the field Received that Postfix puts before it."""
        lines = message.split(b"\n")
        self.assertTrue(lines[0].startswith(b"Received: from client.test"), message)
        first = next(number for number, line in enumerate(lines) if number and line[:1] not in b" \t")
        return b"\n".join(lines[first:])

    def test_to_fetchmail(self) -> None:
        """Promise: what was sent is fetched, octet by octet; extensions and UTF-8 addresses too."""
        need(self, "fetchmail")
        for message in MAIL.values():
            queued = self.send(USER, message=message)
            self.assertIn("status=sent", self.postfix.status(queued, "joe@example.org"))
        queued = self.send("bob+list")
        self.assertIn("status=sent", self.postfix.status(queued, "bob+list@example.org"))
        queued = self.send("Jürgen", options=("SMTPUTF8",))
        self.postfix.wait_empty()
        self.assertEqual((self.stored("bob"), self.stored("jürgen")), ([MAIL["lf"]],) * 2)
        self.assertEqual(self.stored(), list(MAIL.values()))
        self.assertEqual(self.owners(), {postfix.USER})
        self.server.start()
        home = self.server.directory / "home"
        (home / "in").mkdir(parents=True)
        taking = home / "take"
        taking.write_text(f'#!/bin/sh\nexec cat > "$(mktemp {home}/in/XXXXXXXXXX)"\n')
        taking.chmod(0o700)
        settings = home / "fetchmailrc"
        settings.touch(0o600)
        settings.write_text(
            f"poll 127.0.0.1 service {self.server.port} protocol pop3 auth password timeout 60\n"
            f'  user "joe@example.org" password "{PASSWORD}" mda "{taking}" no rewrite no mimedecode sslproto \'\'\n'
        )
        done = subprocess.run(
            ["fetchmail", "--nodetach", "--nosyslog", "-f", settings, "--pidfile", home / "pid", "--fetchall"],
            env={**os.environ, "FETCHMAILHOME": str(home), "HOME": str(home)},
            timeout=PATIENCE_SECONDS,
            capture_output=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        fetched = [self.without_received(path.read_bytes()) for path in (home / "in").iterdir()]
        self.assertEqual(sorted(fetched), sorted(MAIL.values()))
        self.assertEqual(self.server.stored("joe@example.org"), {})

    def without_received(self, message: bytes) -> bytes:
        """A message without the fields that Postfix and fetchmail put before it."""
        return message[message.index(b"Date: Tue, 24") :]

    def owners(self) -> set[str]:
        """Who owns joe's messages."""
        paths = self.server.maildir("joe@example.org").rglob("*/*")
        return {pwd.getpwuid(path.stat().st_uid).pw_name for path in paths}

    def test_what_comes_back(self) -> None:
        """Promise: unknown users and full mailboxes come back with their status codes; nothing of them waits."""
        self.server.configuration["quota"] = {"messages": 1}
        self.configure()
        unknown = self.send("nobody-here")
        status = self.postfix.status(unknown, "nobody-here@example.org")
        self.assertIn("dsn=5.1.1 status=bounced", status)
        self.assertIn("there is no such user here", status)
        self.send(USER)
        wait_until(self.stored, "the first message")
        full = self.send(USER, message=MAIL["8-bit"])
        status = self.postfix.status(full, "joe@example.org")
        self.assertIn("dsn=5.2.2 status=bounced", status)
        self.assertIn("the mailbox is full", status)
        self.postfix.wait_empty()
        self.assertIn("there is no such user here", self.postfix.bounce(unknown))
        self.assertIn("the mailbox is full", self.postfix.bounce(full))
        self.assertEqual(len(self.postfix.bounces()), 2)
        self.assertEqual(self.stored(), [MAIL["lf"]])

    def test_what_waits(self) -> None:
        """Promise: a broken configuration and lost accounts make mail wait, for known and unknown; then it is there."""
        configuration, users = self.server.configuration_file, self.server.directory / "users"
        for path in (configuration, users):
            away = Path(f"{path}.away")
            path.rename(away)
            queued = self.send(USER)
            self.assertIn("dsn=4.3.0 status=deferred", self.postfix.status(queued, "joe@example.org"))
            away.rename(path)
            self.postfix.wait_empty()
        self.assertEqual(self.stored(), [MAIL["lf"]] * 2)
        self.assertEqual(self.postfix.bounces(), [])

    def test_one_of_several_waits(self) -> None:
        """Promise: when one of several recipients must be tried again, the others do not get the message twice."""
        new = self.server.maildir("bob@direct.test", "new")
        new.rename(f"{new}.away")
        both = [f"{name}@direct.test" for name in (USER, "bob")]
        queued = self.postfix.send(SENDER, both, MAIL["lf"])
        for one in both:
            self.assertIn("status=deferred", self.postfix.status(queued, one))
        Path(f"{new}.away").rename(new)
        self.postfix.wait_empty()
        self.assertEqual([len(self.server.stored(one)) for one in both], [1, 1])
