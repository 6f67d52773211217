"""tpops mailbox list, show and expunge, by the console script, beside a running server."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.integration.mailbox_case import LARGE, MAIL, OLD, PLAIN, MailboxCase, wire
from tests.integration.server import PATIENCE_SECONDS, USER, program
from tests.mailbox.spools import spool_of
from tests.support import lacking


class BothKinds:
    """What every kind of maildrop is to show."""

    def test_a_pop3_session_holds_the_lock(self) -> None:
        """RFC 1939 §4: while somebody is logged in, nothing is read or removed; who that is, is told."""
        self.server.start()
        session = self.server.session()
        for arguments in (("export", USER, "out"), ("expunge", USER, "--all", "--yes")):
            said = self.refused(*arguments)
            self.assertIn(f"the mail of {USER} is in use: ", said)
            self.assertIn(f"held by process {self.server.pid} (twistd)", said)
        self.assertEqual(self.stored(), MAIL)
        self.assertFalse((self.directory / "out").exists())
        self.assertEqual(self.left_behind(), [])
        session.command(b"QUIT")
        self.assertEqual(len(self.ids()), 3)

    def test_expunge_removes_exactly_these(self) -> None:
        """Promise: what is named goes, and a client sees the rest with its unique-ids; a wrong name removes nothing."""
        ids = self.ids()
        said = self.refused("expunge", USER, ids[0], "nobody", "--yes")
        self.assertIn("no message with the unique-id 'nobody'; nothing was done", said)
        self.assertEqual(self.stored(), MAIL)
        octets = len(wire(LARGE))
        said = self.mailbox("expunge", USER, ids[1], "--yes")
        self.assertEqual(said, f"removed {ids[1]}\nremoved 1 messages, {octets} octets; 2 are left\n")
        self.assertEqual(self.stored(), [OLD, PLAIN])
        client = self.server.start().poplib()
        self.assertEqual([line.split()[1].decode() for line in client.uidl()[1]], [ids[0], ids[2]])
        client.quit()


class MaildirTests(BothKinds, MailboxCase):
    """Maildirs, and what does not depend on the kind."""

    def test_show(self) -> None:
        """Promise: header and text, safe for a terminal; the raw octets; the first lines."""
        self.fill([OLD, LARGE, b"Subject: \xff \x1b[2J\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n\tone\x9b\r\ntwo \xe2\x80\xae"])
        ids = self.ids()
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        done = self.run_it("show", USER, ids[2], env=environment)
        self.assertEqual(
            done.stdout.decode(), "Subject: \\xff \\x1b[2J\n\nGrüße\n\tone\\x9b\ntwo \\u202e\n", done.stderr
        )
        self.assertEqual(self.mailbox("show", USER, "3", "--top", "0"), "Subject: \\xff \\x1b[2J\n\n")
        raw = self.run_it("show", USER, "2", "--raw").stdout
        self.assertEqual(raw, LARGE)
        self.assertIn("there is no message 4; there are 3", self.refused("show", USER, "4"))

    def test_expunge_by_age_and_size(self) -> None:
        """Promise: several conditions have all to be met; what does not say when it arrived is never old."""
        ids = self.ids()
        would = json.loads(self.mailbox("expunge", USER, "--older-than", "30d", "--dry-run", "--json"))
        self.assertEqual([row["unique_id"] for row in would["would_remove"]], ids[:1])
        self.assertEqual(would["undated"], 1)
        none = json.loads(self.mailbox("expunge", USER, "--older-than", "1h", "--larger-than", "1K", "--yes", "--json"))
        self.assertEqual(none, {"removed": [], "stayed": [], "gone": [], "left": 3})
        self.assertEqual(self.stored(), MAIL)
        some = json.loads(self.mailbox("expunge", USER, "--older-than", "1h", "--yes", "--json"))
        self.assertEqual(some, {"removed": ids[:1], "stayed": [], "gone": [], "left": 2})
        self.assertEqual(self.stored(), [LARGE, PLAIN])

    def test_no_is_no(self) -> None:
        """Promise: any other answer, and Ctrl-C, remove nothing."""
        done = self.run_it("expunge", USER, "--all", stdin=b"n\n")
        self.assertEqual((done.returncode, done.stderr.strip()), (1, b"Aborted!"), done)
        process = self.started("expunge", USER, "--all")
        self.until_asked(process)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(PATIENCE_SECONDS), 1)
        assert process.stderr is not None
        self.assertEqual(process.stderr.read().strip(), b"Aborted!")
        self.assertEqual(self.stored(), MAIL)

    def test_list_says_what_a_client_sees(self) -> None:
        """Promise: the numbers, octets and unique-ids of POP3, and what the header says; choosing by age and size."""
        client = self.server.start().poplib()
        sizes = [line.split() for line in client.list()[1]]
        ids = [line.split()[1].decode() for line in client.uidl()[1]]
        client.quit()
        rows = self.rows()
        self.assertEqual([(row["number"], row["octets"]) for row in rows], [(int(a), int(b)) for a, b in sizes])
        self.assertEqual([row["unique_id"] for row in rows], ids)
        self.assertEqual([row["subject"] for row in rows], ["old", "large", "plain"])
        self.assertEqual([row["date"] for row in rows], [None, "2030-01-01T00:00:00Z", None])
        table = self.mailbox("list", USER)
        self.assertIn("large", table)
        self.assertIn(f"3 messages, {sum(map(len, map(wire, MAIL)))} octets", table)
        (large,) = self.rows("--larger-than", "2K", "--no-headers")
        self.assertEqual(large, {"number": 2, "octets": len(wire(LARGE)), "unique_id": ids[1]})
        done = self.run_it("list", USER, "--unique-ids", "--older-than", "30d")
        self.assertEqual(done.stdout.decode().split(), ids[:1])
        self.assertEqual(done.stderr, b"left out: 1 messages that do not say when they arrived\n")

    def test_nobody_waits_while_it_asks(self) -> None:
        """Promise: sessions go on meanwhile; mail that has come stays, and what went is told."""
        ids = self.ids()
        self.server.start()
        process = self.started("expunge", USER, "--all")
        self.assertIn("chosen: 3 messages", self.until_asked(process))
        client = self.server.poplib()
        client.dele(1)
        client.quit()
        new = b"Subject: new\n\n"
        self.server.deliver("9.host", new)
        said, errors = process.communicate(b"y\n", PATIENCE_SECONDS)
        self.assertEqual((process.returncode, errors), (0, b""))
        self.assertIn(f"removed {ids[1]}\nremoved {ids[2]}\ngone {ids[0]} (somebody else", said.decode())
        self.assertEqual(self.stored(), [new])


class MboxTests(BothKinds, MailboxCase):
    """Spools."""

    kind = "mbox"

    def test_no_room_for_the_journal(self) -> None:
        """Promise: what could not be removed is told as such, the reason too, and the spool is as it was."""
        before = self.spool.read_bytes()
        ids = self.ids()

        def little() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

        done = self.run_it("expunge", USER, ids[0], "--yes", preexec_fn=little)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout.decode(), f"stayed {ids[0]}\nremoved 0 messages, 0 octets; 3 are left\n")
        self.assertIn(b"1 messages were not removed: ", done.stderr)
        self.assertIn(b"File too large", done.stderr)
        self.assertEqual(self.spool.read_bytes(), before)

    def test_another_program_has_the_spool(self) -> None:
        """Promise: a dotlock is respected."""
        lock = Path(f"{self.spool}.lock")
        lock.write_text(f"{os.getpid()}\n")
        self.assertIn("is locked by another program", self.refused("list", USER))
        lock.unlink()
        self.assertEqual(len(self.ids()), 3)


class RightsTests(MailboxCase):
    """Whose rights count, and whose the files are then."""

    if os.geteuid() != 0:
        skip = lacking(None, "needs root, who can work for others")

    uid = 65534

    def place(self) -> Path:
        """Open to everybody, unlike the tests' own."""
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        directory.chmod(0o755)
        return directory

    def give(self, path: Path, uid: int) -> None:
        """The path and all below it."""
        subprocess.run(["chown", "-R", f"{uid}:{uid}", str(path)], check=True)

    def owners(self, path: Path) -> set[int]:
        """Of all below a path."""
        return {one.lstat().st_uid for one in path.rglob("*")}

    def test_root_leaves_a_maildir_to_its_owner(self) -> None:
        """Promise: lock and listing that root makes in somebody's Maildir are his."""
        self.give(self.server.maildir(), 12345)
        self.ids()
        self.mailbox("expunge", USER, "1.host", "--yes")
        self.assertTrue((self.server.maildir() / "tpops_lock").exists())
        self.assertEqual(self.owners(self.server.maildir()), {12345})

    def test_root_works_as_the_servers_user(self) -> None:
        """Promise: with server.user, what is made for the server is his, and what is exported is root's."""
        self.server.configuration["server"]["user"] = str(self.uid)
        self.server.configuration["mail"] = {"location": "mbox:spools/$(user)"}
        self.spool.write_bytes(spool_of(MAIL))
        for path in (self.directory / "state", self.directory / "spools", self.directory / "users"):
            self.give(path, self.uid)
        self.server.write_configuration()
        self.give(self.server.configuration_file, self.uid)
        private = self.directory / "private"
        private.mkdir(0o700)
        self.mailbox("export", USER, "private/out.mbox")
        self.mailbox("export", USER, "private/out", "--format", "maildir")
        self.mailbox("expunge", USER, self.ids()[0], "--yes")
        self.assertEqual(self.owners(self.directory / "state"), {self.uid})
        self.assertTrue(list((self.directory / "state" / "mbox").iterdir()))
        self.assertEqual(self.owners(private), {0})
        self.assertEqual(self.owners(self.directory / "spools"), {self.uid})

    def test_somebody_without_rights(self) -> None:
        """Promise: whoever may not read the mail is told who may."""
        script = (
            "import encodings.idna, os, tpops.backend, tpops.cred.passwd_file, twisted.internet.reactor\n"
            "from tpops.admin.cli import main\n"
            "os.setgroups([]), os.setgid(12345), os.setuid(12345)\n"
            "main()\n"
        )
        self.give(self.server.configuration_file, 12345)
        self.give(self.directory / "users", 12345)
        os.chmod(self.directory / USER, 0o700)
        command = [str(Path(program("python"))), "-c", script, *self.command("list", USER)[1:]]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), r"^Error: .*/Maildir/: Permission denied; run this as root, or as")
        self.server.configuration["server"]["user"] = str(self.uid)
        self.server.write_configuration()
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(re.search(rb"belongs to the server's user: run this as root or as ", done.stderr), done.stderr)
