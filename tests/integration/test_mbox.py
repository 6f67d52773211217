"""Spools over real sockets, with a real delivery agent beside."""

from __future__ import annotations

import hashlib
import mailbox
import os
import poplib
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, USER, RunningServer, wait_until
from tests.mailbox.spools import split_spool, spool_of
from tests.support import need

MAIL = [b"Subject: %d\n\n%s\n" % (number, b"text\n" * number) for number in range(1, 6)]


def numbered(number: int) -> bytes:
    """A message that tells itself from all others."""
    return b"From: a@example.org\nSubject: number %d\nMessage-ID: <%d@example.org>\n\n%s" % (
        number,
        number,
        b"text of the message\n" * (1 + number % 40),
    )


def number_of(message: bytes) -> int:
    """Which of them it is."""
    return int(message.partition(b"Subject: number ")[2].split(b"\n", 1)[0])


class MboxTests(SynchronousTestCase):
    """One spool, one server."""

    timeout = 300

    def setUp(self) -> None:
        self.server = RunningServer(self, mbox={"lock_wait_seconds": 30})
        self.spools = self.server.directory / "spools"
        self.spools.mkdir()
        self.server.configuration["server"] = {"state_dir": str(self.server.directory / "state")}
        self.server.configuration["mail"] = {"location": "maildir:~/nowhere mbox:spools/$(user)"}
        self.spool = self.spools / USER

    def test_a_session(self) -> None:
        """Promise: messages octet by octet, TOP, DELE and QUIT on a spool; an account may have a place of its own."""
        self.spool.write_bytes(spool_of(MAIL))
        other = self.server.directory / "own"
        other.write_bytes(spool_of([b"Subject: own\n\n"]))
        with open(self.server.directory / "users", "a") as users:
            users.write(f"ann:{{PLAIN}}{PASSWORD}::::/nowhere::userdb_mail=mbox:{other}\n")
        self.server.start()
        wire = self.server.session()
        self.assertEqual(wire.multi_line(b"RETR 3")[1], MAIL[2].replace(b"\n", b"\r\n"))
        self.assertEqual(wire.multi_line(b"TOP 5 1")[1], b"Subject: 5\r\n\r\ntext\r\n")
        self.assertEqual(wire.command(b"DELE 2"), b"+OK message 2 deleted")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (4 messages left)")
        self.assertEqual(split_spool(self.spool.read_bytes()), [MAIL[0], *MAIL[2:]])
        self.assertEqual(self.server.session("ann").command(b"STAT"), b"+OK 1 16")

    def test_mail_is_delivered_while_sessions_delete(self) -> None:
        """Promise: of 1,000 messages that procmail appends while 50 sessions delete, each is there exactly once."""
        need(self, "procmail")
        self.spool.write_bytes(b"")
        self.server.start()
        deliveries = 4
        threads = [
            threading.Thread(target=self.deliver, args=(range(first, 1000, deliveries),)) for first in range(deliveries)
        ]
        for thread in threads:
            thread.start()
        fetched: list[int] = []
        for _ in range(50):
            fetched += self.fetch_half()
        for thread in threads:
            thread.join()
        while rest := self.fetch_half():
            fetched += rest
        self.assertEqual(sorted(fetched), list(range(1000)))
        self.assertEqual(self.spool.read_bytes(), b"")
        self.assertEqual(sorted(os.listdir(self.spools)), [USER])

    def deliver(self, numbers: range) -> None:
        """Have procmail deliver them, with the locks that it takes by itself."""
        places = [f"DEFAULT={self.spool}", f"ORGMAIL={self.spool}", "LOCKSLEEP=1"]
        for number in numbers:
            command = ["procmail", "-p", "-f", "a@example.org", *places, "/dev/null"]
            subprocess.run(command, input=numbered(number), check=True, timeout=120, capture_output=True)

    def fetch_half(self) -> list[int]:
        """A session that takes every other message, and the last; their numbers."""
        client = self.server.poplib()
        count = client.stat()[0]
        taken = []
        for number in range(count, 0, -2):
            text = b"\n".join(client.retr(number)[1]) + b"\n"
            taken.append(number_of(text))
            self.assertEqual(text, numbered(taken[-1]))
            client.dele(number)
        client.quit()
        return taken

    def test_killed_at_quit(self) -> None:
        """Promise: kill -9 while many sessions end: the spool has the old messages or the new ones, and new mail."""
        mail = [numbered(number) for number in range(400)]
        for attempt in range(6):
            self.spool.write_bytes(spool_of(mail))
            self.server.start()
            client = self.server.poplib()
            for number in range(1, 401, 2):
                client.dele(number)
            client._shortcmd = None
            client.sock.sendall(b"QUIT\r\n")
            time.sleep(attempt * 0.002)
            self.server.stop(signal.SIGKILL)
            with open(self.spool, "ab") as file:
                file.write(spool_of([numbered(1000)], 1000))
            self.server.start()
            self.server.session().command(b"QUIT")
            left = [number_of(one) for one in split_spool(self.spool.read_bytes())]
            self.assertIn(left, ([*range(400), 1000], [*range(1, 400, 2), 1000]))
            self.server.stop()

    def test_marks_of_mail_programs(self) -> None:
        """Promise: what was retrieved and stays is read for mail programs; sizes and unique-ids hold afterwards."""
        self.spool.write_bytes(spool_of(MAIL))
        self.server.configuration["mbox"]["mark_seen"] = "retr"
        self.server.start()
        client = self.server.poplib()
        ids = [line.split()[1] for line in client.uidl()[1]]
        for number in (1, 2, 4):
            client.retr(number)
        client.top(3, 1)
        client.dele(1)
        client.quit()
        left = mailbox.mbox(self.spool)
        self.addCleanup(left.close)
        self.assertEqual([left[key].get_flags() for key in left.iterkeys()], ["RO", "", "RO", ""])
        client = self.server.poplib()
        self.assertEqual([line.split()[1] for line in client.uidl()[1]], ids[1:])
        for line in client.list()[1]:
            number, octets = map(int, line.split())
            self.assertEqual(client.retr(number)[2], octets)
        self.assertIn(b"Status: RO", client.retr(1)[1])
        client.quit()
        now = mailbox.mbox(self.spool)
        self.addCleanup(now.close)
        self.assertEqual([now[key].get_flags() for key in now.iterkeys()], ["RO"] * 4)

    def test_marks_and_unique_ids_of_tpop3d(self) -> None:
        """Promise: a server that would change unique-ids does not start."""
        self.server.configuration["mbox"].update(mark_seen="retr", unique_ids="tpop3d")
        self.assertIn('must be "never" with unique_ids = "tpop3d"', self.server.refuses_to_start())

    def test_killed_while_it_marks(self) -> None:
        """Promise: kill -9 while sessions end that have retrieved: the old spool or the marked one, and new mail."""
        mail = [numbered(number) for number in range(400)]
        marked = list(mail)
        for at in (0, 200):
            marked[at] = mail[at].replace(b"\n\n", b"\nStatus: RO\n\n", 1)
        self.server.configuration["mbox"]["mark_seen"] = "retr"
        for attempt in range(4):
            self.spool.write_bytes(spool_of(mail))
            self.server.start()
            client = self.server.poplib()
            client.retr(1)
            client.retr(201)
            client._shortcmd = None
            client.sock.sendall(b"QUIT\r\n")
            time.sleep(attempt * 0.002)
            self.server.stop(signal.SIGKILL)
            with open(self.spool, "ab") as file:
                file.write(spool_of([numbered(1000)], 1000))
            self.server.start()
            self.server.session().command(b"QUIT")
            left = split_spool(self.spool.read_bytes())
            self.assertIn(left, ([*mail, numbered(1000)], [*marked, numbered(1000)]))
            self.server.stop()

    def test_no_room_for_rewriting(self) -> None:
        """Promise: a disk or quota that is full removes nothing and marks nothing; with room again it goes on."""
        mail = [numbered(number) for number in range(400)]
        self.spool.write_bytes(spool_of(mail))
        before = os.stat(self.spool)
        self.server.configuration["mbox"]["mark_seen"] = "retr"

        def little() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before.st_size // 2, before.st_size // 2))

        self.server.start(preexec_fn=little)
        wire = self.server.session()
        wire.command(b"RETR 2")
        wire.body()
        wire.command(b"DELE 1")
        self.assertTrue(wire.command(b"QUIT").startswith(b"-ERR [SYS/TEMP] some deleted messages not removed"))
        wait_until(lambda: "not marked as read" in self.server.output())
        self.assertEqual(self.spool.read_bytes(), spool_of(mail))
        after = os.stat(self.spool)
        for name in ("st_ino", "st_mode", "st_uid", "st_gid", "st_mtime_ns"):
            self.assertEqual(getattr(after, name), getattr(before, name), name)
        self.server.restart()
        wire = self.server.session()
        wire.command(b"DELE 1")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (399 messages left)")
        self.assertEqual(split_spool(self.spool.read_bytes()), mail[1:])

    def test_unique_ids_of_the_servers_before(self) -> None:
        """Promise: nothing is fetched twice after moving from tpop3d or UW ipop3d."""
        internal = b"X-IMAP: 1700000000 0000000042\n\ninternal\n"
        self.spool.write_bytes(spool_of([internal, b"X-UID: 17\n" + MAIL[0]]))
        spool = self.spool.read_bytes()
        start = spool.index(b"From sender1")
        tpop3d = hashlib.md5(spool[start : start + 512]).hexdigest().encode()
        for style, expected in (("x-uid", b"6553f10000000011"), ("tpop3d", tpop3d)):
            self.server.configuration["mbox"]["unique_ids"] = style
            self.server.start()
            client = poplib.POP3("127.0.0.1", self.server.port)
            client.user(USER)
            client.pass_(PASSWORD)
            (line,) = client.uidl()[1]
            client.quit()
            self.server.stop()
            self.assertEqual(line, b"1 " + expected)

    def test_what_the_operator_sees(self) -> None:
        """Promise: a file of another format, and a directory that cannot be made, are told in the log."""
        self.spool.write_bytes(b"this is no spool\n")
        self.server.start()
        wire = self.server.connect()
        wire.line()
        wire.command(b"USER " + USER.encode())
        self.assertTrue(wire.command(b"PASS " + PASSWORD.encode()).startswith(b"-ERR [SYS/PERM]"))
        wait_until(lambda: "does not begin with a line" in str(self.server.events("login-refused")))
        self.assertEqual(self.spool.read_bytes(), b"this is no spool\n")
        self.assertTrue(Path(self.server.directory / "state" / "mbox").is_dir())
