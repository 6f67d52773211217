"""A Maildir with all its folders as one maildrop, over the wire, and beside sessions in single folders."""

from __future__ import annotations

import random
import threading
from typing import Any

from tests.integration.folder_case import FolderCase
from tests.integration.server import PASSWORD, USER, RunningServer
from tests.integration.wire import Wire

RECURSIVE = {"recursive": True, "lock_wait_seconds": 30}


class RecursiveTests(FolderCase):
    """One server."""

    tables = {"maildir": RECURSIVE}

    def listed(self, user: str = USER) -> dict[bytes, bytes]:
        """Subjects by unique-id, in order."""
        client = self.server.poplib(user)
        found = {}
        for line in client.uidl()[1]:
            number, unique_id = line.split()
            found[unique_id] = client.top(int(number), 0)[1][0].removeprefix(b"Subject: ")
        client.quit()
        return found

    def configure(self, **maildir: Any) -> None:
        """Restart with other keys."""
        self.server.stop()
        self.server.configuration["maildir"] = maildir
        self.server.start()

    def test_all_folders(self) -> None:
        """tpop3d: C{maildir-recursion}; Trash and Sent are left out; single folders can still be had."""
        self.deliver(".Trash", "0.x", b"Subject: trash\n\nx\n")
        self.assertEqual(list(self.listed().values()), [b"inbox", b"lists", b"tpops"])
        self.assertEqual(list(self.listed("joe+Lists/tpops").values()), [b"tpops"])
        self.assertEqual(list(self.listed("joe+Trash").values()), [b"trash"])
        self.assertEqual(list(self.listed("joe+INBOX").values()), [b"inbox"])
        self.configure(**RECURSIVE, ignored_folders=["^Lists"])
        self.assertEqual(list(self.listed().values()), [b"trash", b"inbox"])

    def test_unique_ids_stay(self) -> None:
        """RFC 1939 section 7: over restarts, flags, lost indexes; the Maildir's own in any case."""
        before = self.listed()
        for directory in ("", ".Lists"):
            for path in (self.server.maildir() / directory / "new").iterdir():
                path.rename(path.parent.parent / "cur" / f"{path.name}:2,S")
        self.assertEqual(self.listed(), before)
        self.server.stop()
        for directory in ("", ".Lists", ".Lists.tpops"):
            (self.server.maildir() / directory / "tpops_index").unlink()
        self.server.start()
        self.assertEqual(self.listed(), before)
        self.configure()
        self.assertEqual(self.listed(), {b"1.inbox.host": b"inbox"})
        self.assertEqual(next(iter(before)), b"1.inbox.host")

    def test_deletes_what_was_marked_where_it_is(self) -> None:
        """RFC 1939 section 6: in every folder; what an IMAP program has moved to another folder meanwhile stays."""
        client = self.server.poplib()
        for number in (1, 2, 3):
            client.dele(number)
        target = self.folder(".Archive") / "cur" / "2.lists.host:2,S"
        (self.server.maildir() / ".Lists" / "new" / "2.lists.host").rename(target)
        client.quit()
        self.assertEqual([self.files(one) for one in ("", ".Lists", ".Lists.tpops")], [set(), set(), set()])
        self.assertEqual(list(self.listed().values()), [b"lists"])

    def test_marks_seen(self) -> None:
        """Promise: C{mark_seen} and C{sizes} hold in folders."""
        self.deliver(".Lists", "4.size.host,S=500", b"Subject: size\n\nx\n")
        self.configure(recursive=True, mark_seen="retr", sizes="maildir++")
        client = self.server.poplib()
        self.assertEqual(client.list(4), b"+OK 4 500")
        client.retr(2)
        client.quit()
        self.assertEqual(self.files(".Lists"), {"2.lists.host:2,S", "4.size.host,S=500"})

    def test_unique_ids_of_tpop3d(self) -> None:
        """tpop3d: C{md5sum} of the name without flags."""
        self.configure(**RECURSIVE, unique_ids="tpop3d")
        self.deliver("", "1001.a.host:2,S", b"Subject: x\n\n")
        found = {subject: unique_id for unique_id, subject in self.listed().items()}
        # Of "1001.a.host", and of "ists/new/2.lists.host" (see tpops.mailbox.unique_ids).
        self.assertEqual(found[b"x"], b"f64cdb3eef6f2bed40d4fe41211ef6f0")
        self.assertEqual(found[b"lists"], b"436f49375570eadb0d314322f5c529ec")


class ProcessTests(FolderCase):
    """Two servers with one Maildir: sessions with all folders at the one, in a folder at the other."""

    tables = {"maildir": RECURSIVE}

    def make_mail(self) -> None:
        """Many messages in three folders."""
        self.placed = {}
        for number in range(1, 151):
            directory = ("", ".Lists", ".Work")[number % 3]
            name = f"{number + 1000}.host"
            self.placed[name] = self.deliver(directory, name, f"Subject: {name}\n\nx\n".encode())

    def setUp(self) -> None:
        super().setUp()
        self.other = RunningServer(self, **self.server_tables())
        (self.other.directory / "users").write_text((self.server.directory / "users").read_text())
        self.other.start()

    def server_tables(self) -> dict[str, Any]:
        """What both have."""
        kept = ("protocol", "folders", "maildir")
        return {name: dict(table) for name, table in self.server.configuration.items() if name in kept}

    def test_they_exclude_each_other(self) -> None:
        """RFC 1939 section 4: all folders and one folder are never open at the same time; two folders may be."""
        self.other.stop()
        self.other.configuration["maildir"] = {"recursive": True, "lock_wait_seconds": 0}
        self.other.start()

        def refused(name: str) -> bool:
            wire = self.other.connect()
            wire.line()
            wire.command(f"USER {name}".encode())
            answer = wire.command(f"PASS {PASSWORD}".encode())
            wire.command(b"QUIT")
            self.assertTrue(answer.startswith((b"+OK", b"-ERR [IN-USE]")), answer)
            return answer.startswith(b"-")

        everything = self.server.session()
        self.assertEqual([refused(one) for one in ("joe", "joe+Lists", "joe+INBOX")], [True, True, True])
        everything.command(b"QUIT")
        lists = self.server.session("joe+Lists")
        self.assertEqual([refused(one) for one in ("joe", "joe+Lists", "joe+Work")], [True, True, False])
        self.server.process.kill()
        self.server.process.wait()
        lists.close()
        self.assertEqual([refused(one) for one in ("joe", "joe+Lists", "joe+Work")], [False, False, False])

    def test_only_what_was_marked_goes(self) -> None:
        """RFC 1939 section 6: whoever deletes where at the same time, what nobody has marked is left."""
        marked: set[bytes] = set()
        problems: list[str] = []

        def delete_some(server: RunningServer, name: str, seed: int) -> None:
            chance = random.Random(seed)
            try:
                for _ in range(5):
                    wire = Wire.connect(self, ("127.0.0.1", server.port))
                    wire.log_in(name, PASSWORD)
                    listed = wire.multi_line(b"UIDL")[1].splitlines()
                    gone = set()
                    for line in chance.sample(listed, min(4, len(listed))):
                        number = line.split()[0]
                        subject = wire.multi_line(b"TOP %s 0" % number)[1].splitlines()[0]
                        self.assertTrue(wire.command(b"DELE " + number).startswith(b"+OK"))
                        gone.add(subject.removeprefix(b"Subject: "))
                    if chance.random() < 0.3:
                        wire.close()
                        continue
                    self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
                    marked.update(gone)
            except BaseException as problem:
                problems.append(f"{name}: {problem!r}")

        names = ("joe", "joe+Lists", "joe+Work", "joe+INBOX")
        servers = (self.server, self.other)
        jobs = [(one, name, 2 * nth + at) for at, one in enumerate(servers) for nth, name in enumerate(names)]
        threads = [threading.Thread(target=delete_some, args=job) for job in jobs]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        self.assertEqual(problems, [])
        left = {name for directory in ("", ".Lists", ".Work") for name in self.files(directory)}
        self.assertEqual(left, set(self.placed) - {one.decode() for one in marked})
        self.assertGreater(len(marked), 20)
