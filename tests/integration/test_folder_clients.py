"""Folders that login names say: real clients, and what Dovecot makes of folders."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.integration.clients import ClientCase
from tests.integration.folder_case import FolderCase, encoded
from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, temporary
from tests.support import need


class CurlTests(FolderCase):
    """curl."""

    skip = need(None, "curl")
    run_client = ClientCase.run_client

    def test_every_mechanism(self) -> None:
        """Promise: the name with its folder is one name to a client, whatever mechanism it takes."""
        url = f"pop3://127.0.0.1:{self.server.port}/1"
        for options in ((), *(("--login-options", f"AUTH={one}") for one in ("+APOP", "PLAIN", "LOGIN", "CRAM-MD5"))):
            got = self.run_client("curl", "-sS", "-u", f"joe+Lists/tpops:{PASSWORD}", *options, url)
            self.assertIn(b"Subject: tpops", got, options)


class FetchmailTests(FolderCase):
    """fetchmail, with two folders of one account."""

    skip = need(None, "fetchmail")
    run_client = ClientCase.run_client

    def test_fetches_each_folder_once(self) -> None:
        """Promise: unique-ids of the folders are kept apart by the client, and nothing comes twice."""
        home = temporary(self)
        taker = home / "take"
        taker.write_text(f'#!/bin/sh\nexec cat >> "{home}/mail"\n')
        taker.chmod(0o700)
        settings = home / "fetchmailrc"
        settings.touch(0o600)
        users = "".join(
            f'  user "{name}" password "{PASSWORD}" mda "{taker}" keep no rewrite sslproto \'\'\n'
            for name in ("joe+Lists", "joe+Lists/tpops")
        )
        settings.write_text(f"poll 127.0.0.1 service {self.server.port} protocol pop3 auth password uidl\n{users}")
        options = ("--fetchmailrc", str(settings), "--idfile", str(home / "ids"), "--pidfile", str(home / "pid"))
        environment = {**os.environ, "HOME": str(home), "LC_ALL": "C"}
        for _ in range(2):
            self.run_client("fetchmail", "--nodetach", "--nosyslog", *options, statuses=(0, 1), env=environment)
        subjects = re.findall(r"^Subject: (.*)$", (home / "mail").read_text(), re.MULTILINE)
        self.assertEqual(subjects, ["lists", "tpops"])
        self.assertEqual(len(self.server.events("login")), 4)


class DovecotTests(FolderCase):
    """Folders that Dovecot has made."""

    skip = need(None, "doveadm")

    def make_mail(self) -> None:
        """A message in each of some folders, by Dovecot."""
        # The names of its sockets must be short, and it serves no mail of root's.
        self.directory = Path(tempfile.mkdtemp(prefix="tpops-"))
        self.addCleanup(shutil.rmtree, self.directory)
        owner = (os.getuid(), os.getgid()) if os.getuid() else (65534, 65534)
        os.chown(self.directory, *owner)
        (self.server.directory / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}::::{self.directory}:\n")
        self.settings = self.directory / "dovecot.conf"
        self.settings.write_text(
            f"base_dir = {self.directory}/run\nlog_path = /dev/stderr\nmail_location = maildir:~/Maildir\n"
            f"first_valid_uid = 0\nfirst_valid_gid = 0\nmail_uid = {owner[0]}\nmail_gid = {owner[1]}\n"
            f"mail_home = {self.directory}\nnamespace inbox {{\n  inbox = yes\n  separator = /\n}}\n"
        )
        for folder in ("INBOX", *self.folders):
            if folder != "INBOX":
                self.doveadm("mailbox", "create", folder)
            self.doveadm("save", "-m", folder, given=f"Subject: mail of {len(folder)}\n\nx\n".encode())

    folders = ("Lists/tpops", "Entwürfe/Ältere & neue", "台北", "[Gmail] ~", "☃💌+1")

    def doveadm(self, *arguments: str, given: bytes = b"") -> str:
        """What doveadm prints."""
        done = subprocess.run(
            ["doveadm", "-c", str(self.settings), *arguments],
            input=given,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            env={**os.environ, "USER": "joe", "HOME": str(self.directory)},
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode()

    def test_names_agree(self) -> None:
        """RFC 3501 section 5.1.3: every folder of Dovecot is found under the name that it has in Dovecot."""
        for folder in ("INBOX", *self.folders):
            wire = self.wire()
            wire.command(f"AUTH PLAIN {encoded('', f'joe+{folder}', PASSWORD).decode()}".encode())
            self.assertEqual(self.subject(wire), f"mail of {len(folder)}".encode(), folder)

    def test_deleted_here_is_gone_there(self) -> None:
        """Promise: Dovecot sees what a session has deleted, and finds nothing wrong with its folders."""
        wire = self.wire()
        wire.command(f"AUTH PLAIN {encoded('', 'joe+Entwürfe/Ältere & neue', PASSWORD).decode()}".encode())
        wire.command(b"DELE 1")
        wire.command(b"QUIT")
        status = self.doveadm("-f", "tab", "mailbox", "status", "messages", "*")
        counted = dict(line.split("\t") for line in status.splitlines()[1:])
        self.assertEqual(counted["Entwürfe/Ältere & neue"], "0")
        self.assertEqual(sum(map(int, counted.values())), len(self.folders))

    def test_folders_made_here_are_folders_there(self) -> None:
        """Promise: with C{maildir.create}, under the name that the client gave."""
        self.server.stop()
        self.server.configuration["maildir"] = {"create": True}
        self.server.start()
        self.answer(b"AUTH PLAIN " + encoded("", "joe+Entwürfe/日本語", PASSWORD))
        self.assertIn("Entwürfe/日本語", self.doveadm("mailbox", "list").splitlines())
