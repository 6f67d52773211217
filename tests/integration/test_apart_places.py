"""Index directories and bandwidth of sessions that run as the owners of mail."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from tests.integration import corpus
from tests.integration.apart_case import FRONT, ApartCase, sessions_of
from tests.integration.server import RunningServer
from tests.integration.test_apart import deliver
from tests.integration.test_apart_sight import ask
from tests.integration.test_unix_accounts import UnixAccount
from tests.mailbox.spools import spool_of


class PlaceTests(ApartCase):
    """maildir.index_dir and mbox.index_dir."""

    def poll(self, server: RunningServer, account: UnixAccount | None = None) -> bytes:
        """Log in and out: the answer to STAT."""
        wire = self.session(server, account)
        answer = wire.command(b"STAT")
        wire.command(b"QUIT")
        self.assertEqual(wire.rest(), b"")
        sessions_of(server, 0)
        return answer

    def check_own(self, directory: Path, account: UnixAccount) -> list[str]:
        """The directory is his alone: the names in it."""
        entry = pwd.getpwnam(account.name)
        own = directory / str(entry.pw_uid)
        facts = own.stat()
        self.assertEqual((facts.st_uid, facts.st_gid, facts.st_mode & 0o777), (entry.pw_uid, entry.pw_gid, 0o700))
        for path in own.iterdir():
            self.assertEqual(path.stat().st_uid, entry.pw_uid)
        return os.listdir(own)

    def test_indexes_of_maildirs(self) -> None:
        """Promise: each owner has a directory of his own in root's, made when it is needed, and its index is used."""
        other = self.make_account()
        old = 1_000_000_000.5  # of a file system whose times have fractions
        for account in (self.account, other):
            for part in ("new", "cur"):
                os.utime(account.home / "Maildir" / part, (old, old))
        server = self.server()
        index = server.directory / "state" / "index"
        os.chown(server.directory, 0, 0)
        server.directory.chmod(0o755)
        log = server.directory / "log"
        log.mkdir()
        os.chown(log, pwd.getpwnam(FRONT).pw_uid, -1)
        server.configuration["server"]["state_dir"] = str(log)
        server.configuration["log"] = {"json_log": "log/events.json"}
        server.configuration["maildir"] = {"index_dir": str(index)}
        server.start()
        for account in (self.account, other):
            for _ in range(2):
                self.assertTrue(self.poll(server, account).startswith(b"+OK 1 "))
            self.assertEqual(len(self.check_own(index, account)), 1)
            self.assertFalse((account.home / "Maildir" / "tpops_index").exists())
        self.assertEqual(ask(server, "stats")["totals"]["listings"], {"memory": 0, "index": 2, "scan": 2})
        self.assertEqual((index.stat().st_uid, index.stat().st_mode & 0o777), (0, 0o711))
        own = index / str(pwd.getpwnam(self.account.name).pw_uid)
        os.chown(own, pwd.getpwnam(other.name).pw_uid, -1)
        refused = self.answer(server, self.account.name, self.account.password)
        self.assertTrue(refused.startswith(b"-ERR [SYS/PERM]"), refused)
        server.stop()
        output = server.output()
        for wrong in ("Traceback", "no index kept"):
            self.assertNotIn(wrong, output)

    def test_directory_that_others_may_write(self) -> None:
        """Promise: refused at the start, with what to do."""
        server = self.server(maildir={"index_dir": "index"})
        (server.directory / "index").mkdir()
        for mode, owner, why in (
            (
                0o755,
                pwd.getpwnam(FRONT).pw_uid,
                "nobody else may write to it (chown root, chmod 711)",
            ),
            (0o777, 0, "it must be root's, and nobody else may write to it"),
            (0o700, 0, "the owners of mail must be able to enter it (chmod 711)"),
        ):
            (server.directory / "index").chmod(mode)
            os.chown(server.directory / "index", owner, -1)
            text = server.refuses_to_start()
            self.assertIn("maildir.index_dir: ", text)
            self.assertIn(why, text)

    def test_what_is_kept_of_spools(self) -> None:
        """Promise: locks and indexes of spools are in the owner's directory, not in his home."""
        entry = pwd.getpwnam(self.account.name)
        spool = self.account.home / "mbox"
        spool.write_bytes(spool_of([b"Subject: 1\n\nx\n", b"Subject: 2\n\ny\n"]))
        os.chown(spool, entry.pw_uid, entry.pw_gid)
        server = self.server(mail={"location": "mbox:~/mbox"}, mbox={"index_dir": "/nowhere"})
        index = server.directory / "kept"
        index.mkdir(mode=0o711)
        server.configuration["mbox"] = {"index_dir": str(index)}
        server.start()
        wire = self.session(server)
        wire.command(b"DELE 1")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        self.assertEqual(wire.rest(), b"")
        self.assertTrue(any(name.endswith(".lock") for name in self.check_own(index, self.account)))
        self.assertFalse((self.account.home / ".tpops").exists())


class PaceTests(ApartCase):
    """limits.octets_per_second_per_session."""

    def test_bandwidth_of_a_session(self) -> None:
        """Promise: a session is slowed down, over its own octets, and the event log says so; exempt clients are not."""
        deliver(self.account, "2.host", b"Subject: x\n\n" + b"0123456789 0123456789 0123456789\n" * 3000)
        for exempt in ((), ("127.0.0.1",)):
            server = self.server(limits={"octets_per_second_per_session": 50_000, "exempt": exempt}).start()
            wire = self.session(server)
            self.assertEqual(wire.multi_line(b"RETR 1")[1], corpus.wire(corpus.ALL["lf"]))
            self.assertGreater(len(wire.multi_line(b"RETR 2")[1]), 100_000)
            wire.command(b"QUIT")
            self.assertEqual(wire.rest(), b"")
            server.event("disconnect", user=self.account.name)
            details = [one["detail"] for one in server.events("limit")]
            if exempt:
                self.assertEqual(details, [])
            else:
                self.assertRegex(details[0], r"^octets_per_second_per_session: slowed down by (?!0\.0)\d+\.\d seconds$")
            server.stop()
