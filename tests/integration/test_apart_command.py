"""tpops mailbox beside sessions that run as the owners of mail: with the owner's rights, and his locks."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess

from tests.integration.apart_case import ApartCase, sessions_of
from tests.integration.server import PATIENCE_SECONDS, RunningServer, program
from tests.integration.test_apart import deliver
from tests.mailbox.spools import spool_of


class CommandTests(ApartCase):
    """list, show and expunge, by root."""

    def mailbox(self, server: RunningServer, *arguments: str, status: int = 0) -> str:
        """What it says."""
        server.write_configuration()
        command = [program("tpops"), "-c", str(server.configuration_file), "mailbox", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr if status else done.stdout

    def test_maildir(self) -> None:
        """Promise: a Maildir in a home that nobody else can enter; what is made is the owner's; a session locks it."""
        name, entry = self.account.name, pwd.getpwnam(self.account.name)
        deliver(self.account, "2.host", b"Subject: two\n\nx\n")
        server = self.server(maildir={"lock_wait_seconds": 0.2})
        index = server.directory / "index"
        index.mkdir(mode=0o711)
        server.configuration["maildir"]["index_dir"] = str(index)
        self.assertIn("two", self.mailbox(server, "list", name))
        self.assertIn("Subject: two", self.mailbox(server, "show", name, "2.host"))
        own = index / str(entry.pw_uid)
        self.assertEqual({path.stat().st_uid for path in (own, *own.iterdir())}, {entry.pw_uid})
        server.start()
        wire = self.session(server)
        (session,) = sessions_of(server)
        said = self.mailbox(server, "expunge", name, "2.host", "--yes", status=1)
        self.assertIn(f"the mail of {name} is in use: ", said)
        self.assertIn(f"held by process {session}", said)
        wire.command(b"QUIT")
        self.assertEqual(wire.rest(), b"")
        sessions_of(server, 0)
        self.assertIn("removed 1 messages", self.mailbox(server, "expunge", name, "2.host", "--yes"))
        self.assertEqual(os.listdir(self.account.home / "Maildir" / "new"), ["1.host"])
        made = {path.stat().st_uid for path in (self.account.home / "Maildir").iterdir()}
        self.assertEqual(made, {entry.pw_uid})
        server.configuration["sessions"]["minimum_uid"] = 100_000_000
        self.assertIn("sessions.minimum_uid is 100000000", self.mailbox(server, "list", name, status=1))

    def test_convert_is_refused(self) -> None:
        """Promise: mail of many users is not copied by root, who would follow their links."""
        server = self.server()
        server.write_configuration()
        command = [
            program("tpops"),
            "-c",
            str(server.configuration_file),
            "db",
            "convert",
            "--from",
            "maildir:~/Maildir",
        ]
        command += ["--to", "mbox:~/mbox", self.account.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("convert works with the rights of one user", done.stderr)
        self.assertFalse((self.account.home / "mbox").exists())

    def test_spool(self) -> None:
        """Promise: a spool of group mail, with its dotlock and the lock that sessions have."""
        name, entry, mail = self.account.name, pwd.getpwnam(self.account.name), grp.getgrnam("mail")
        server = self.server(
            mail={"location": "mbox:spools/$(user)"},
            mbox={"dotlock": "always", "lock_wait_seconds": 0.2},
            sessions={"groups": ["mail"]},
        )
        spools = server.directory / "spools"
        spools.mkdir()
        os.chown(spools, 0, mail.gr_gid)
        spools.chmod(0o2775)
        spool = spools / name
        spool.write_bytes(spool_of([b"Subject: 1\n\nx\n", b"Subject: 2\n\ny\n"]))
        os.chown(spool, entry.pw_uid, mail.gr_gid)
        spool.chmod(0o660)
        server.start()
        wire = self.session(server)
        self.assertIn("is in use", self.mailbox(server, "list", name, status=1))
        unique_id = wire.command(b"UIDL 1").split()[2].decode()
        wire.command(b"QUIT")
        self.assertEqual(wire.rest(), b"")
        sessions_of(server, 0)
        self.assertIn("removed 1 messages", self.mailbox(server, "expunge", name, unique_id, "--yes"))
        self.assertNotIn(b"Subject: 1", spool.read_bytes())
        self.assertEqual((spool.stat().st_uid, os.listdir(spools)), (entry.pw_uid, [name]))
        kept = self.account.home / ".tpops" / "mbox"
        self.assertEqual({path.stat().st_uid for path in (kept, *kept.iterdir())}, {entry.pw_uid})
