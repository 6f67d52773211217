"""The benchmarks' own promises: the same mail everywhere, true octets, right ratios, a load generator that builds."""

from __future__ import annotations

import hashlib
import json
import mailbox
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from socket import SHUT_WR, create_connection, socket
from socketserver import StreamRequestHandler, TCPServer
from typing import Any

from twisted.trial import unittest

from benchmarks import mail, measure, mysql, mysql_peers, report
from benchmarks.peers import PEERS
from benchmarks.verify import verify
from benchmarks.work import WORK, Running
from tests.support import need

SOURCES = Path(mail.__file__).resolve().parent
NO_COMPILER = "" if shutil.which("cc") else "no C compiler (cc) here"


def _fingerprint(store: mail.Store) -> str:
    """One hash over the names and octets of every file of a set."""
    total = hashlib.sha256()
    for path in sorted(path for path in store.path.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(store.path)).encode())
        total.update(path.read_bytes())
    return total.hexdigest()


class Scratch(unittest.TestCase):
    """Gives each test a directory that goes away."""

    def setUp(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="tpops-bench-test-"))
        self.addCleanup(shutil.rmtree, self.scratch, ignore_errors=True)


class MailTests(Scratch):
    """The mail maker."""

    def test_same_octets_every_time(self) -> None:
        """Two makings of a set are the same files with the same octets."""
        for name, size in (("small", 2), ("list", 30), ("spool", 30), ("idle", 5)):
            first = mail.prepare(self.scratch / "one", name, size)
            second = mail.prepare(self.scratch / "two", name, size)
            self.assertEqual(_fingerprint(first), _fingerprint(second), name)
            self.assertEqual(first.manifest, second.manifest, name)

    def test_known_mail(self) -> None:
        """A change to the mail needs a new recipe number: old figures are not comparable with new ones."""
        first = b"".join(mail.small_mailbox(0))
        self.assertEqual((mail.RECIPE, hashlib.sha256(first).hexdigest()[:16]), (1, "cf7d9b2f696e22e0"))

    def test_manifest_announces_true_octets(self) -> None:
        """RFC 1939 §11: the octets in the manifest are those of the files with CRLF line ends."""
        store = mail.prepare(self.scratch, "small", 2)
        for user, book in store.manifest["users"].items():
            stored = [path.read_bytes() for path in (store.path / user / "Maildir" / "cur").iterdir()]
            crlf = [content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for content in stored]
            self.assertEqual(book["messages"], 20)
            self.assertEqual(book["octets"], sum(map(len, crlf)))
            self.assertCountEqual(book["digests"], [mail.digest(content) for content in crlf])

    def test_true_octets(self) -> None:
        """LF counts twice, CRLF as it is."""
        for stored in (b"", b"a", b"a\n", b"a\r\n", b"\n\r\n\n", b"a\rb\n", b"\r\r\n"):
            self.assertEqual(mail.true_octets(stored), len(mail.canonical(stored)), stored)

    def test_small_mailbox_is_as_described(self) -> None:
        """20 messages of 2 to 50 KB, about 260 KB together, some lines with dots in front, one message with CRLF."""
        messages = list(mail.small_mailbox(3))
        self.assertEqual(len(messages), 20)
        self.assertTrue(240_000 < sum(map(len, messages)) < 290_000)
        self.assertTrue(all(1900 < len(message) < 52_000 for message in messages))
        self.assertTrue(any(b"\n." in message for message in messages))
        self.assertEqual(sum(b"\r\n" in message for message in messages), 1)

    def test_finished_set_is_used_again(self) -> None:
        """A set with this recipe is left as it is; one with another recipe is made anew."""
        store = mail.prepare(self.scratch, "idle", 2)
        book = store.path.parent / "manifest.json"
        before = book.stat().st_mtime_ns
        mail.prepare(self.scratch, "idle", 2)
        self.assertEqual(book.stat().st_mtime_ns, before)
        book.write_text(json.dumps({**store.manifest, "recipe": -1}))
        self.assertEqual(mail.prepare(self.scratch, "idle", 2).manifest["recipe"], mail.RECIPE)

    def test_spool(self) -> None:
        """An mbox file with as many messages and octets as the manifest says, read by a program that is not ours."""
        store = mail.prepare(self.scratch, "spool", 30)
        spool = mailbox.mbox(store.path / "user0000")
        self.addCleanup(spool.close)
        octets = [mail.true_octets(spool.get_bytes(key)) for key in spool.iterkeys()]
        (book,) = store.manifest["users"].values()
        self.assertEqual((len(octets), sum(octets)), (book["messages"], book["octets"]))
        self.assertEqual((mail.kind("spool"), mail.kind("list")), ("mbox", "maildir"))

    def test_unknown_set(self) -> None:
        """A set that does not exist is an error, and leaves no manifest behind."""
        self.assertRaises(ValueError, mail.prepare, self.scratch, "enormous", 1)
        self.assertEqual(list(self.scratch.rglob("manifest.json")), [])


class ReportTests(unittest.SynchronousTestCase):
    """From records to the table."""

    def document(self) -> dict[str, Any]:
        """A canned run: tpops has one noisy measurement that must not count."""

        def poll(server: str, cpu: float, rate: float, foreign: float = 0.01) -> dict[str, Any]:
            figures = {"cpu_us_per_session": cpu, "sessions_per_second": rate, "ms": {"p50": 1.0, "p99": 2.0}}
            return {"server": server, "case": "poll-1", "foreign": foreign, "errors": 0, **figures}

        records = [
            poll("tpops", 300.0, 3000.0),
            poll("tpops", 320.0, 2900.0),
            poll("tpops", 9000.0, 10.0, foreign=0.6),
            poll("dovecot-tuned", 1550.0, 590.0),
            poll("dovecot-default", 18600.0, 59.0),
            {"server": "tpops", "case": "big", "failed": "no session came to its end"},
            {"server": "dovecot-tuned", "case": "idle", "kib_per_session": 700.0, "held": 1000},
        ]
        machine = {"cores": 2, "processor": "X", "kernel": "6", "python": "3.11", "dovecot": "2.3", "accounting": "?"}
        options = {"quick": True, "repeat": 1, "seconds": 1.0, "pinned": True}
        return json.loads(json.dumps({"made": "now", "machine": machine, "options": options, "records": records}))

    def test_ratio_says_how_many_times_better(self) -> None:
        """Less CPU and more sessions both count as better, by the medians of the quiet measurements."""
        header, *lines = report.table(self.document())
        self.assertEqual(
            header[2:], ["tpops", "dovecot-tuned", "dovecot-default", "x dovecot-tuned", "x dovecot-default", "wanted"]
        )
        cpu, rate = lines[0], lines[1]
        self.assertEqual(cpu[2:], ["310", "1,550", "18,600", "5.00", "60.0", "≥ 4 yes"])
        self.assertEqual(rate[2:], ["2,950", "590", "59.0", "5.00", "50.0", ""])

    def test_missed_and_unmeasured(self) -> None:
        """A ratio below the wanted one says NO; where tpops was not measured, only the wish is shown."""
        row = report.Row("poll-1", "cpu_us_per_session", "", "", wanted=4)
        self.assertEqual(report.verdict(3.9, row), "≥ 4 NO")
        idle = next(line for line in report.table(self.document()) if "idle" in line[0])
        self.assertEqual(idle[0], "1,000 idle sessions: memory of each")
        self.assertEqual(idle[2:], ["-", "700", "-", "", "", "≥ 20"])

    def test_only_noisy_measurements_are_marked(self) -> None:
        """Without a quiet measurement the noisy ones are shown, with a mark."""
        document = self.document()
        document["records"] = [record for record in document["records"] if record.get("foreign", 0) > 0.5]
        self.assertEqual(report.table(document)[1][2], "9,000~")

    def test_text_and_markdown(self) -> None:
        """Both forms hold every line of the table, the noise and the failure."""
        for text in (report.as_text(self.document()), report.as_markdown(self.document())):
            self.assertIn("FAILED: tpops, big: no session came to its end", text)
            self.assertIn("1 of 5 measurements stayed noisy", text)
            self.assertIn("5.00", text)
        rows = [line for line in report.as_markdown(self.document()).splitlines() if line.startswith("|")]
        self.assertEqual({line.count("|") for line in rows}, {9})


class AccountingTests(unittest.SynchronousTestCase):
    """The machine's own clock."""

    def test_foreign_share(self) -> None:
        """What was busy or stolen, less our own, over all processors; never negative."""
        self.patch(measure.os, "cpu_count", lambda: 2)
        before, after = measure.Machine(10.0, 1.0, 100.0), measure.Machine(13.0, 1.5, 102.0)
        self.assertAlmostEqual(after.foreign_since(before, 2.0), (1.0 + 0.5) / 4)
        self.assertEqual(after.foreign_since(before, 9.0), 0.0)


class ProgramTests(Scratch):
    """The two C programs, and the files' sizes."""

    if NO_COMPILER:
        skip = NO_COMPILER

    def test_load_against_limit(self) -> None:
        """The load generator gets through each kind of work against the canned server, and counts it."""
        load, limit = (measure.build(SOURCES / name, self.scratch) for name in ("load.c", "limit.c"))
        with TCPServer(("127.0.0.1", 0), StreamRequestHandler) as probe:
            port = probe.server_address[1]
        server = subprocess.Popen([str(limit), str(port), "20", "5000"])
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        for _ in range(100):
            with socket() as probe_again:
                if probe_again.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        for mode, messages in (("poll", 0), ("list", 0), ("fetch", 60), ("pipe", 60)):
            words = [str(load), mode, f"port={port}", "users=5", "connections=2", "sessions=3", "patience=5"]
            result = json.loads(subprocess.run(words, check=True, capture_output=True, timeout=20).stdout)
            self.assertEqual((result["sessions"], result["messages"], result["wrong"]), (3, messages, 0), mode)
        words = [str(load), "big", f"port={port}", "users=1", "seconds=0.1", "patience=5"]
        result = json.loads(subprocess.run(words, check=True, capture_output=True, timeout=20).stdout)
        self.assertEqual(result["errors"], 0)
        self.assertGreater(result["wire_mb_per_second"], 1)

    def test_inetd_gives_connections_away(self) -> None:
        """Each connection gets a program of its own, and afterwards the next one does."""
        inetd = measure.build(SOURCES / "inetd.c", self.scratch)
        with TCPServer(("127.0.0.1", 0), StreamRequestHandler) as probe:
            port = probe.server_address[1]
        server = subprocess.Popen([str(inetd), str(port), "/bin/cat"])
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        for _ in range(2):
            with self.connected(port) as peer:
                peer.sendall(b"hello")
                peer.shutdown(SHUT_WR)
                self.assertEqual(peer.makefile("rb").read(), b"hello")

    def connected(self, port: int) -> socket:
        """A connection to a server that has just been started."""
        for _ in range(500):
            try:
                return create_connection(("127.0.0.1", port), 10)
            except ConnectionRefusedError:
                time.sleep(0.02)
        raise AssertionError("nobody listens")

    def test_load_says_what_it_does_not_know(self) -> None:
        """An option that does not exist ends the load generator with a sentence."""
        load = measure.build(SOURCES / "load.c", self.scratch)
        done = subprocess.run([str(load), "poll", "speed=9"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (2, "load: what is speed=9?\n"))


class _Canned(StreamRequestHandler):
    """Serves one message whose lines begin with dots; the last announced octet count is one too many."""

    message = b"Subject: x\r\n\r\n.\r\n..two\r\nend\r\n"

    def handle(self) -> None:
        stuffed = self.message.replace(b"\r\n.", b"\r\n..")
        listing = b"".join(b"%d %d\r\n" % (n, len(self.message) + (n == 2)) for n in (1, 2))
        replies = {b"LIST": listing, b"RETR": stuffed}
        self.wfile.write(b"+OK\r\n")
        for line in self.rfile:
            body = replies.get(line[:4])
            self.wfile.write(b"+OK\r\n" if body is None else b"+OK\r\n" + body + b".\r\n")


class VerifyTests(unittest.TestCase):
    """The client that looks at every octet."""

    def test_finds_wrong_announcements_and_wrong_content(self) -> None:
        """Stuffing is undone; an announcement that is one off and a message that is not ours are both found."""
        server = TCPServer(("127.0.0.1", 0), _Canned)
        self.addCleanup(server.server_close)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        self.addCleanup(thread.join)
        digests = [mail.digest(_Canned.message), mail.digest(b"another")]
        book = {"messages": 2, "octets": 2 * len(_Canned.message), "digests": digests}
        findings = verify(server.server_address[1], {"users": {"user0000": book}})
        self.assertEqual((findings["messages"], findings["octets"]), (2, findings["true_octets"]))
        self.assertEqual((findings["announced_wrong"], findings["content_wrong"]), (1, 1))
        self.assertIn("user0000 message 2: LIST says", findings["first_problem"])


class PeerTests(unittest.SynchronousTestCase):
    """The list of servers."""

    def test_order_of_the_table_knows_every_peer(self) -> None:
        """No server can be measured and then be missing from the table."""
        self.assertEqual(sorted(PEERS), sorted(report.ORDER))

    def test_every_kind_of_mail_is_served(self) -> None:
        """Work that nobody but tpops can do would compare nothing."""
        for work, (mail_set, _) in WORK.items():
            able = [name for name, peer in PEERS.items() if mail.kind(mail_set) in peer.kinds]
            self.assertIn("tpops", able, work)
            self.assertGreater(len(able), 1, work)


class DatabaseTests(Scratch):
    """Mail in MySQL (benchmarks.mysql)."""

    def test_costs_of_server_and_database(self) -> None:
        """What a session costs is the server's time and the database's; without a database it is the server's."""
        each = {"Questions": 4.0, "database_cpu_seconds": 0.0003}
        record = mysql.completed({"case": "poll-1", "cpu_us_per_session": 500.0, "each": each})
        self.assertAlmostEqual(record["database_us_per_session"], 300.0)
        self.assertAlmostEqual(record["both_us_per_session"], 800.0)
        alone = mysql.completed({"case": "poll-1", "cpu_us_per_session": 500.0, "each": {}})
        self.assertEqual(alone["both_us_per_session"], 500.0)
        self.assertNotIn("database_us_per_session", alone)
        self.assertEqual(mysql.completed({"case": "verify"}), {"case": "verify"})

    def test_table_compares_mail_in_the_database_with_maildirs(self) -> None:
        """Ratios are those of both processor times, sessions and times; below 1 mail in the database is dearer."""
        records = []
        for server, spent, database in (("maildir", 200, 100), ("v2", 400, 200), ("dovecot-tuned", 1200, None)):
            each = {} if database is None else {"Questions": 4, "database_cpu_seconds": database / 1e6}
            record = {"case": "poll-1", "cpu_us_per_session": spent, "each": each, "sessions_per_second": 1e6 / spent}
            records.append({"server": server, **mysql.completed(record)})
        lines = {line[0]: line[2:] for line in mysql.table(records)}
        self.assertEqual(lines["figure"], ["maildir", "v2", "dovecot-tuned", "v2 x maildir", "v2 x dovecot-tuned"])
        self.assertEqual(
            lines["poll, 1 connection: CPU of server and database"], ["300", "600", "1,200", "0.500", "2.00"]
        )
        self.assertEqual(lines["poll, 1 connection: of the server"], ["200", "400", "1,200", "", ""])
        self.assertEqual(lines["poll, 1 connection: statements"], ["4.00", "4.00", "-", "", ""])
        self.assertEqual(lines["poll, 1 connection: sessions"][-2:], ["0.500", "3.00"])

    def test_exit_status(self) -> None:
        """A figure that is missing, and mail that came out wrong from us, end the command with 1."""
        good = {"server": "v2", "case": "verify", "content_wrong": 0, "announced_wrong": 0}
        self.assertEqual(mysql.exit_status([good]), 0)
        self.assertEqual(mysql.exit_status([good | {"content_wrong": 1}]), 1)
        self.assertEqual(mysql.exit_status([good | {"announced_wrong": 1}]), 1)
        self.assertEqual(mysql.exit_status([good | {"content_wrong": 1, "server": "dovecot-tuned"}]), 0)
        self.assertEqual(mysql.exit_status([{"server": "v2", "case": "poll", "failed": "no greeting"}]), 1)

    def test_statements_and_octets_of_a_run(self) -> None:
        """Both schemas send the octets of the Maildirs, with the statements that docs/mail/mysql.md promises."""
        need(self, *mysql_peers.PROGRAMS, "cc", "taskset")
        measure.build(SOURCES / "load.c", self.scratch / "bin")
        self.scratch.chmod(0o755)
        sizes = mysql.Sizes(
            self.scratch, self.scratch / "bin", Path(sys.executable), True, 0.0, False, small_users=2, most_tries=1
        )
        store = mail.prepare(self.scratch, "small", 2)
        with mysql_peers.Database(self.scratch, pinned=False) as database:
            self.assertIn("innodb_flush_log_at_trx_commit = 1", database.told())
            for schema, polls in (("v2", 4), ("classic", 5)):
                peer = mysql_peers.TpopsOnDatabase(schema, database, schema, mail_in_it=True)
                with Running(peer, store, sizes) as running:
                    found = verify(running.port, store.manifest)
                    self.assertEqual((found["messages"], found["first_problem"]), (40, ""), schema)
                    self.assertEqual(found["octets"], found["true_octets"])
                    polled = mysql.completed(running.load_once("poll", sessions=6))
                    fetched = running.load_once("fetch", sessions=2)
                self.assertEqual((polled["errors"], fetched["errors"], fetched["wrong"]), (0, 0, 0))
                self.assertEqual(polled["each"]["Questions"], polls, polled)
                self.assertEqual(fetched["each"]["Questions"], polls + 5, fetched)
                self.assertGreater(polled["both_us_per_session"], polled["cpu_us_per_session"])
