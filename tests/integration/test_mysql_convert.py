"""tpops db convert: mail moves between real stores, and clients do not notice."""

from __future__ import annotations

import poplib
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.integration import corpus
from tests.integration.mail_database import MailDatabaseTests
from tests.integration.mariadb import ADMIN, ADMIN_PASSWORD
from tests.integration.mysql_case import deliver
from tests.integration.server import PATIENCE_SECONDS, RunningServer, end, program, wait_until
from tests.mailbox.spools import spool_of
from tpops.db import migrate
from tpops.db.mysql import Client
from tpops.db.mysql_servers import Line, access_of

MESSAGES = tuple(
    b"Received: from a by b; Thu, 1 Jan 2026 00:%02d:00 +0000\nSubject: %d\n\n%s" % (number, number, text)
    for number, text in enumerate(corpus.ALL.values())
)

#: What a client knows of a message: unique-id, octets, text.
Known = tuple[bytes, int, bytes]


class ConvertTests(MailDatabaseTests):
    """
    One database that has both kinds of tables.

    @ivar server: its configuration is that of the commands
    """

    kind = "classic"

    def make_tables(self) -> None:
        """Schema v2 beside what TPOPS has, as the command makes it."""
        super().make_tables()
        list(migrate.make(self.admin_client()))

    def admin_client(self) -> Client:
        """A connection of somebody who may make tables."""
        access = access_of(
            [self.mariadb.unix],
            "off",
            user=ADMIN,
            password=ADMIN_PASSWORD,
            database=self.schema,
            tls_ca="",
            timeout_seconds=20.0,
        )
        client = Client(access, Line(access.servers, time.monotonic), writable=True)
        self.addCleanup(client.close)
        return client

    def setUp(self) -> None:
        super().setUp()
        self.server = self.mail_server(start=False)
        self.server.configuration["maildir"] = {"uidl_map": True, "lock_wait_seconds": 0}
        self.server.configuration["mbox"] = {"lock_wait_seconds": 0}

    def convert(self, *arguments: str, status: int = 0) -> str:
        """What the command says; standard error behind standard output."""
        self.server.write_configuration()
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def command(self, *arguments: str) -> list[str]:
        """Its command line."""
        return [program("tpops"), "-c", str(self.server.configuration_file), "db", "convert", *arguments]

    def serve(self, preset: str = "", location: str = "mysql:", schema: str = "v2") -> RunningServer:
        """Serve from another place."""
        self.server.configuration["mail"] = {"location": location}
        self.server.configuration["mysql"]["schema"] = schema
        if preset:
            self.server.configuration["accounts"] = [self.source(preset=preset)]
        if self.server.process is not None and self.server.process.poll() is None:
            self.server.stop()
        return self.server.start()

    def known(self, name: str = "joe", password: str = "secret") -> list[Known]:
        """Everything that a client sees."""
        client = poplib.POP3("127.0.0.1", self.server.port, timeout=PATIENCE_SECONDS)
        # Lines are as long as they like here.
        before, poplib._MAXLINE = poplib._MAXLINE, 1 << 20
        try:
            client.user(name)
            client.pass_(password)
            ids = [line.split()[1] for line in client.uidl()[1]]
            sizes = [int(line.split()[1]) for line in client.list()[1]]
            texts = [b"\r\n".join(client.retr(number)[1]) for number in range(1, len(ids) + 1)]
            client.quit()
        finally:
            poplib._MAXLINE = before
            client.close()
        return list(zip(ids, sizes, texts, strict=True))

    def store_all(self) -> None:
        """Deliver everything into the classic tables."""
        for message in MESSAGES:
            self.store(message)

    def maildir(self) -> Path:
        """A Maildir with everything."""
        maildir = deliver(self.directory / "joe", 0)
        for number, message in enumerate(MESSAGES):
            (maildir / "new" / f"{1700000000 + number}.M1.host").write_bytes(message)
        return maildir

    def add_user(self) -> None:
        """joe in schema v2."""
        self.insert("tpops_user", name="joe", password_hash="{PLAIN}secret", created_at=0, changed_at=0)

    def sequences(self) -> list[Any]:
        """The unique-ids in schema v2, in order."""
        return [row[0] for row in self.run_sql("SELECT unique_id FROM tpops_message ORDER BY mailbox, sequence")]

    # From TPOPS' tables.

    def test_classic_to_v2(self) -> None:
        """Promise: accounts and mail move, and a client sees what it saw: unique-ids, octets and every text."""
        self.store_all()
        self.insert("user", uid=8, login="ann", passwd="word", mail="ann@example.org", quota=5000000)
        self.serve("tpops-classic", schema="classic")
        before = self.known()
        said = self.convert("--all", "--from", "classic", "--to", "v2", "--accounts")
        self.assertIn("2 accounts copied to schema v2", said)
        self.assertIn(f"joe: {len(MESSAGES)} messages copied", said)
        self.assertIn("ann: 0 messages copied", said)
        self.assertEqual(len(self.stored()), len(MESSAGES))
        self.serve("tpops-v2")
        self.assertEqual(self.known(), before)
        self.assertEqual(self.known("ann", "word"), [])
        quota = self.run_sql("SELECT quota_octets FROM tpops_user WHERE name = 'ann'")
        self.assertEqual(quota, [(5000000,)])
        done = subprocess.run(
            [program("tpops-store"), "-c", str(self.server.configuration_file), "ann@example.org"],
            input=b"Subject: hello\n\n",
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        self.assertEqual(done.returncode, 0)
        self.assertEqual(len(self.known("ann", "word")), 1)

    def test_again(self) -> None:
        """Promise: a second run copies what came meanwhile and nothing else; removing empties the old place."""
        self.store_all()
        self.add_user()
        self.convert("joe", "--from", "classic", "--to", "v2")
        self.store(b"Subject: late\n\n")
        said = self.convert("joe", "--from", "classic", "--to", "v2", "--remove-source")
        self.assertIn(f"joe: 1 messages copied (17 octets), {len(MESSAGES)} were there; compared, ", said)
        self.assertIn(f"{len(MESSAGES) + 1} removed from the old place", said)
        self.assertEqual(self.stored(), [])
        self.assertEqual(len(self.sequences()), len(MESSAGES) + 1)
        self.assertIn("joe: 0 messages copied (0 octets), 0 were there", self.convert("joe", "--to", "v2"))

    # Maildirs and spools.

    def test_maildir_there_and_back(self) -> None:
        """Promise: into the database and out again, each time with the same unique-ids in the same order."""
        maildir, back = self.maildir(), self.directory / "back"
        self.add_user()
        place = f"maildir:{maildir}"
        self.serve("tpops-v2", location=place)
        before = self.known()
        self.convert("joe", "--to", "v2")
        self.serve(location="mysql:")
        self.assertEqual(self.known(), before)
        self.convert("joe", "--to", f"maildir:{back}")
        self.serve(location=f"maildir:{back}")
        self.assertEqual(self.known(), before)
        self.assertEqual(len(list((maildir / "new").iterdir())), len(MESSAGES))
        times = sorted(int(path.stat().st_mtime) for path in (back / "new").iterdir())
        self.assertEqual(times[0], 1767225600)

    def test_spool_into_both(self) -> None:
        """Promise: an mbox goes into a Maildir and into the database; no unique-id changes."""
        spool, maildir = self.directory / "spool", self.directory / "box"
        spool.write_bytes(spool_of([message for message in MESSAGES if b"\nFrom " not in message]))
        self.add_user()
        self.serve("tpops-v2", location=f"mbox:{spool}")
        before = self.known()
        self.assertGreater(len(before), 5)
        for target, location in (("v2", "mysql:"), (f"maildir:{maildir}", f"maildir:{maildir}")):
            self.server.configuration["mail"] = {"location": f"mbox:{spool}"}
            self.convert("joe", "--to", target)
            self.serve(location=location)
            self.assertEqual(self.known(), before)
        self.assertTrue(spool.read_bytes())

    # What goes wrong.

    def test_killed_and_gone_on_with(self) -> None:
        """Promise: kill -9 at any point loses nothing and doubles nothing; the next run finishes."""
        maildir = deliver(self.directory / "joe", 0)
        for number in range(400):
            (maildir / "new" / f"{1700000000 + number}.M1.host").write_bytes(b"Subject: %d\n\n" % number + b"x" * 30000)
        self.add_user()
        place = f"maildir:{maildir}"
        self.server.configuration["mail"] = {"location": place}
        self.server.write_configuration()
        for least in (20, 120):
            cut = subprocess.Popen(self.command("joe", "--from", place, "--to", "v2"), stdout=subprocess.DEVNULL)
            self.addCleanup(end, cut)
            wait_until(lambda least=least: len(self.sequences()) >= least, "some are copied")
            cut.send_signal(signal.SIGKILL)
            cut.wait(PATIENCE_SECONDS)
            self.assertLess(len(self.sequences()), 400)
            # As if the lease had run out.
            self.run_sql("UPDATE tpops_lease SET owner = ''")
        self.convert("joe", "--from", place, "--to", "v2")
        self.assertEqual(self.sequences(), [b"%d.M1.host" % (1700000000 + number) for number in range(400)])
        self.assertEqual(len(list((maildir / "new").iterdir())), 400)

    def test_a_message_that_differs(self) -> None:
        """Promise: what is not the same in the new place is told, and nothing is removed from the old one."""
        maildir = self.maildir()
        self.add_user()
        place = f"maildir:{maildir}"
        self.convert("joe", "--from", place, "--to", "v2")
        self.run_sql("UPDATE tpops_chunk SET data = REPLACE(data, 'Subject', 'Subjekt') WHERE content = 3")
        said = self.convert("joe", "--from", place, "--to", "v2", "--remove-source", status=1)
        self.assertIn("is not the same in both stores; nothing is removed", said)
        self.assertIn("1 accounts were not converted", said)
        self.assertEqual(len(list((maildir / "new").iterdir())), len(MESSAGES))

    def test_busy_and_unknown(self) -> None:
        """Promise: an account that cannot be converted now is told, and the others are converted."""
        self.add_user()
        self.insert("tpops_user", name="ann", password_hash="{PLAIN}word", created_at=0, changed_at=0)
        for name in ("joe", "ann"):
            (deliver(self.directory / name, 0) / "new" / "1.host").write_bytes(MESSAGES[0])
        location = f"maildir:{self.directory}/$(user)"
        self.serve("tpops-v2", location=location)
        session = self.server.session("joe", "secret")
        said = self.convert("joe", "nobody", "ann", "--to", "v2", status=1)
        self.assertIn("joe: not converted: ", said)
        self.assertIn("nobody: not converted: no source has this name", said)
        self.assertIn("ann: 1 messages copied", said)
        self.assertEqual(session.command(b"QUIT")[:3], b"+OK")
        self.assertIn("joe: 1 messages copied", self.convert("--all", "--to", "v2"))

    def test_places_that_are_none(self) -> None:
        """Promise: the error says what would be right."""
        self.add_user()
        for arguments, words in (
            (("joe", "--to", "nowhere"), "must begin with 'maildir:'"),
            (("--to", "v2"), "give the NAMEs of accounts, or --all"),
            (("joe", "--all", "--to", "v2"), "give the NAMEs of accounts, or --all"),
        ):
            self.assertIn(words, self.convert(*arguments, status=2))
        self.store_all()
        said = self.convert("joe", "--from", "classic", "--to", f"mbox:{self.directory}/spool", status=1)
        self.assertIn("in a 'mbox:' location, which keeps no unique-ids", said)
        self.serve("tpops-v2", location=f"maildir:{self.maildir()}")
        self.assertIn("TPOPS' tables make unique-ids of their own", self.convert("joe", "--to", "classic", status=1))
        self.server.configuration["maildir"]["uidl_map"] = False
        said = self.convert("joe", "--to", f"maildir:{self.directory}/x", status=2)
        self.assertIn("set maildir.uidl_map = true first", said)
