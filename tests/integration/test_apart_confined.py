"""Sessions that can touch their maildrop and nothing else serve every kind of it as ever."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.integration import corpus
from tests.integration.apart_case import ApartCase, broker_of, children, sessions_of
from tests.integration.server import RunningServer, program, wait_until
from tests.integration.test_apart import deliver
from tests.mailbox.spools import spool_of
from tests.support import need_landlock

_ALL_IN_ONE = {"recursive": True, "mark_seen": "retr", "uidl_map": True}
_CONFINED = "sessions are confined by Landlock"


class ConfinedTests(ApartCase):
    """Real sessions, confined as far as this kernel can."""

    def setUp(self) -> None:
        super().setUp()
        need_landlock(self)
        self.maildir = self.account.home / "Maildir"
        self.ids = pwd.getpwnam(self.account.name)[2:4]

    def directory(self, *paths: Path) -> None:
        """Make directories of the user."""
        for path in paths:
            path.mkdir()
            os.chown(path, *self.ids)

    def confined(self, **tables: Any) -> RunningServer:
        """A server that must be able to confine."""
        tables["sessions"] = {"confine": "landlock", **tables.get("sessions", {})}
        return self.server(**tables)

    def calm(self, server: RunningServer) -> None:
        """Nothing went wrong that only the log tells."""
        sessions_of(server, 0)
        server.stop()
        output = server.output()
        self.assertIn(_CONFINED, output)
        for wrong in ("Traceback", "denied", "no index kept", "session of"):
            self.assertNotIn(wrong, output)

    def test_maildir_with_all_that_is_kept_in_it(self) -> None:
        """Promise: folders, index, unique-id map, quota file, flags and deletions, in one maildrop and in a folder."""
        lists = self.maildir / ".lists"
        self.directory(lists, *(lists / part for part in ("new", "cur", "tmp")))
        for number in (1, 2):
            path = lists / "new" / f"{number}.lists"
            path.write_bytes(corpus.ALL["lf"])
            os.chown(path, *self.ids)
        size = self.maildir / "maildirsize"
        size.write_text("100000S\n456 3\n")
        (self.maildir / "tpops_uidl").write_text("")
        for path in (size, self.maildir / "tpops_uidl"):
            os.chown(path, *self.ids)
        server = self.confined(maildir=_ALL_IN_ONE, folders={"separator": "+"}).start()
        wire = self.session(server)
        self.assertTrue(wire.command(b"STAT").startswith(b"+OK 3 "))
        for number in (1, 2):
            wire.multi_line(b"RETR %d" % number)
        wire.command(b"DELE 1")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (2 messages left)")
        self.assertEqual(wire.rest(), b"")
        seen = [path.name for path in self.maildir.rglob("cur/*")]
        self.assertEqual(len(seen), 1, "what was read and stays is marked")
        self.assertTrue(seen[0].endswith(":2,S"))
        self.assertEqual(len(size.read_text().splitlines()), 3)
        self.assertEqual((self.maildir / "tpops_index").stat().st_uid, self.ids[0])
        wire = server.session(f"{self.account.name}+lists", self.account.password)
        wire.command(b"DELE 1")
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(wire.rest(), b"")
        self.calm(server)

    def test_maildir_that_is_missing(self) -> None:
        """Promise: it is made where that is configured, and is an empty maildrop elsewhere."""
        shutil.rmtree(self.maildir)
        for create in (False, True):
            server = self.confined(maildir={"create": create}).start()
            wire = self.session(server)
            self.assertEqual(wire.command(b"STAT"), b"+OK 0 0")
            wire.command(b"QUIT")
            self.assertEqual(wire.rest(), b"")
            self.assertEqual(self.maildir.exists(), create)
            self.calm(server)

    def test_other_places_are_out_of_reach(self) -> None:
        """Promise: a real session cannot read what lies elsewhere, though its user can; without confinement it can."""
        elsewhere = self.account.home / "elsewhere"
        lists = self.maildir / ".lists"
        self.directory(elsewhere, lists, lists / "new", lists / "tmp")
        (lists / "cur").symlink_to(elsewhere)
        (elsewhere / "5.host:2,").write_bytes(corpus.ALL["lf"])
        os.chown(elsewhere / "5.host:2,", *self.ids)
        for confine, answer in (("auto", b"-ERR [SYS/PERM]"), ("none", b"+OK")):
            server = self.confined(maildir={"recursive": True}, sessions={"confine": confine}).start()
            told = self.answer(server, self.account.name, self.account.password)
            self.assertTrue(told.startswith(answer), told)
            self.assertEqual(_CONFINED in server.output(), confine == "auto")
            server.stop()

    def with_spool(self) -> tuple[RunningServer, Path]:
        """A server, and a spool with three messages in a directory of group mail."""
        server = self.confined(
            mail={"location": "mbox:spools/$(user)"},
            mbox={"dotlock": "always", "mark_seen": "retr"},
            sessions={"groups": ["mail"]},
        )
        spools, mail = server.directory / "spools", grp.getgrnam("mail")
        spools.mkdir()
        os.chown(spools, 0, mail.gr_gid)
        spools.chmod(0o2775)
        spool = spools / self.account.name
        spool.write_bytes(spool_of([b"Subject: %d\n\nx\n" % number for number in range(3)]))
        os.chown(spool, self.ids[0], mail.gr_gid)
        spool.chmod(0o660)
        return server, spool

    def test_killed_session_of_a_spool(self) -> None:
        """Promise: what is left behind ends and is buried by the broker, whatever process 1 cares for."""
        server, spool = self.with_spool()
        server.start()
        self.session(server)
        (session,) = sessions_of(server)
        (beside,) = children(session)
        os.kill(beside, signal.SIGSTOP)
        os.kill(session, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{session}").exists(), "the session is buried")
        self.assertEqual(children(broker_of(server)).count(beside), 1)
        os.kill(beside, signal.SIGCONT)
        wait_until(lambda: not Path(f"/proc/{beside}").exists(), "the process beside is buried")
        self.assertEqual(self.session(server).command(b"QUIT"), b"+OK bye (3 messages left)")
        self.assertEqual(os.listdir(spool.parent), [spool.name])

    def test_spool(self) -> None:
        """Promise: read, marked, rewritten and journalled, with its dotlock, in a directory of group mail."""
        server, spool = self.with_spool()
        spools = spool.parent
        server.start()
        wire = self.session(server)
        (session,) = sessions_of(server)
        (beside,) = children(session)
        self.assertEqual(wire.multi_line(b"RETR 2")[1], b"Subject: 1\r\n\r\nx\r\n")
        wire.command(b"DELE 1")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (2 messages left)")
        self.assertEqual(wire.rest(), b"")
        left = spool.read_bytes()
        self.assertNotIn(b"Subject: 0", left)
        self.assertIn(b"\nStatus: RO\n", left)
        wait_until(lambda: not Path(f"/proc/{beside}").exists(), "the process beside has ended")
        lock = spools / f"{self.account.name}.lock"
        lock.write_text("1\n")
        server.configuration["mbox"]["lock_wait_seconds"] = 0.2
        server.restart()
        (self.account.home / ".tpops" / "mbox").joinpath("x").touch()
        with open(spool, "ab") as file:
            file.write(spool_of([b"Subject: new\n\nx\n"]))
        refused = self.answer(server, self.account.name, self.account.password)
        self.assertTrue(refused.startswith(b"-ERR [IN-USE]"), refused)
        lock.unlink()
        self.assertTrue(self.answer(server, self.account.name, self.account.password).startswith(b"+OK"))
        self.assertEqual(os.listdir(spools), [self.account.name])
        self.calm(server)

    def test_what_an_operator_is_told(self) -> None:
        """Promise: tpops check and the log say how far sessions are confined."""
        deliver(self.account, "2.host", b"x\n")
        server = self.confined()
        server.write_configuration()
        command = [program("tpops"), "-c", str(server.configuration_file), "check"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertIn(_CONFINED, done.stdout)
        (server.directory / "users").write_text(f"ann:{{PLAIN}}x:1000:1000::{self.maildir}::userdb_mail=mysql:ann\n")
        server.configuration["accounts"] = [{"driver": "passwd_file", "path": "users"}]
        server.write_configuration()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("'ann' has his mail in mysql:, which belongs to no user of this machine", done.stderr)
        server.configuration["sessions"]["confine"] = "none"
        server.start()
        self.assertIn('sessions are not confined: sessions.confine is "none"', server.output())
        server.stop()
        server.configuration["sessions"] |= {"confine": "landlock", "program": ["/bin/cat"]}
        self.assertIn("whose needs are not known", server.refuses_to_start())
