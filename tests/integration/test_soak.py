"""A short soak, and proof that its ledger finds what it is there to find."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import CHECKOUT, end, temporary, wait_until
from tests.soak.boxes import SITES
from tests.soak.faults import PLACES
from tests.soak.gauges import Gauges
from tests.soak.ledger import ACCEPTED, REFUSED, UNKNOWN, Ledger, Letter
from tests.soak.sites import Process
from tests.support import lacking, need

SHA = "0" * 64


def _why_not() -> str | None:
    """Why there is no soak here."""
    missing = need(None, "mariadbd", "mariadb-install-db", "mariadb")
    if missing is None and not importlib.util.find_spec("MySQLdb"):
        return lacking(None, "mysqlclient is not installed")
    return missing


class SoakTests(SynchronousTestCase):
    """The command."""

    timeout = 420
    skip = _why_not()

    def launch(self, *arguments: str) -> subprocess.Popen[str]:
        """A soak that runs; what it says goes to the file "output"."""
        self.output = temporary(self) / "output"
        with open(self.output, "w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak", "--clients", "14", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=CHECKOUT,
            )
        self.addCleanup(end, process)
        return process

    def test_every_promise_is_kept(self) -> None:
        """Promise: whatever is killed, full or hanging, no mail is lost, doubled or wrongly deleted, nothing left."""
        status = self.launch("--minutes", "0.3").wait(400)
        said = self.output.read_text()
        self.assertEqual(status, 0, said)
        self.assertIn("every promise was kept", said)
        self.assertRegex(said, r"(?m)^  accepted +[1-9]")
        self.assertRegex(said, r"(?m)^times retrieved +[1-9]")
        left_out = set(re.findall(r"(?m)^  left out: (.+?):", said))
        for kind in {kind for place in set(PLACES) - left_out for kind in PLACES[place]} - left_out:
            self.assertRegex(said, rf"(?m)^  {kind} .*[1-9]")
        for site in set(SITES) - left_out:
            self.assertRegex(said, rf"(?m)^  {site}( +[1-9]\d*){{4}}$")

    def test_interrupted(self) -> None:
        """Promise: Ctrl-C ends everything that was started, and the directory goes."""
        process = self.launch()
        directory = Path(wait_until(lambda: re.search(r"in (/tmp/\S+)\n", self.output.read_text()))[1])
        wait_until(lambda: (directory / "workers" / "output").exists(), "tpops starts")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 130, self.output.read_text())
        self.assertFalse(directory.exists())
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _mentions(path, str(directory))]
        self.assertEqual(left, [])


def _mentions(path: Path, text: str) -> bool:
    try:
        return text.encode() in path.read_bytes()
    except OSError:
        return False


class GaugesTests(SynchronousTestCase):
    """What grows is found, and nothing else."""

    def setUp(self) -> None:
        self.now = 0.0
        self.held: list[Process] = []
        self.gauges = Gauges(lambda: self.held, lambda: self.now)

    def look(self, seconds: float = 5, **facts: tuple[int, float]) -> None:
        """After so many seconds: descriptors and memory by role."""
        self.now += seconds
        self.held = [Process("site", role, 1, 1, *both) for role, both in facts.items()]
        self.gauges.last = self.gauges.look()
        self.gauges.first = self.gauges.first or self.gauges.last

    def rules(self) -> list[str]:
        """What is broken."""
        return [rule for rule, _ in self.gauges.broken()]

    def test_nothing_grows(self) -> None:
        """Promise: caches that are filled, connections to the database and a peak are no leak."""
        self.look(worker=(20, 40.0), supervisor=(10, 40.0))
        for step in range(200):
            self.look(worker=(20 + step % 14, min(80.0, 40 + step)), supervisor=(10, 40.0), session=(9, 90.0))
        self.assertEqual(self.rules(), [])

    def test_descriptors(self) -> None:
        """Promise: three more are too many where there is no database."""
        self.look(worker=(20, 40.0), supervisor=(10, 40.0))
        self.look(worker=(34, 40.0), supervisor=(13, 40.0))
        self.assertEqual(self.rules(), ["no descriptor is left"])

    def test_a_peak(self) -> None:
        """Promise: what was large in between is seen, too."""
        self.look(worker=(20, 40.0))
        self.look(worker=(20, 200.0))
        self.look(worker=(20, 40.0))
        self.assertEqual(self.rules(), ["memory is bounded"])

    def test_a_slow_leak(self) -> None:
        """Promise: what is lost a little at a time is found, long before it is much."""
        for step in range(360):
            self.look(server=(20, 40.0 + step / 10))
        self.assertEqual(self.rules(), ["memory does not grow"])


class LedgerTests(SynchronousTestCase):
    """Each rule, broken."""

    def setUp(self) -> None:
        self.ledger = Ledger(temporary(self) / "ledger", ["joe", "ann"])
        self.addCleanup(self.ledger.close)

    def letter(self, token: str, outcome: str = ACCEPTED, mailbox: str = "joe") -> Letter:
        """One that was handed over."""
        letter = Letter(token, mailbox, SHA, 10)
        self.ledger.offered(letter, "lmtp")
        self.ledger.answered(letter, outcome)
        return letter

    def session(self, *unique_ids: bytes) -> None:
        """A session that lists these; the message "1" has the unique-id "a", and so on."""
        self.ledger.listed("s", "joe", unique_ids, time.monotonic())
        for unique_id in unique_ids:
            self.ledger.retrieved("s", "joe", unique_id, str(ord(unique_id) - ord("a") + 1), SHA)

    def assert_broken(self, *rules: str) -> None:
        """These rules were broken, in this order."""
        self.assertEqual([rule for rule, _ in self.ledger.violations], list(rules))

    def settle(self, *tokens: str) -> None:
        """At the end these are stored for joe."""
        self.ledger.settle({"joe": [(token, SHA) for token in tokens]})

    def test_all_is_well(self) -> None:
        """Promise: mail that stays, goes, was refused, or is unsure for a reason breaks nothing."""
        for token, outcome in (("1", ACCEPTED), ("2", ACCEPTED), ("3", ACCEPTED), ("4", REFUSED), ("5", UNKNOWN)):
            self.letter(token, outcome)
        self.session(b"a", b"b", b"c")
        self.ledger.asked("s", "joe", [b"b"])
        self.ledger.done("s", "joe", [b"b"])
        self.ledger.asked("s", "joe", [b"c"])
        self.ledger.done("s", "joe", [b"c"], "the connection broke")
        self.session(b"a")
        self.settle("1")
        self.assert_broken()
        fates = {what: count for (kind, what), count in self.ledger.counts.items() if kind == "fate"}
        self.assertEqual((fates["kept"], fates["deleted"], fates["refused"]), (1, 1, 1))
        self.assertEqual(fates["gone, not acknowledged: the connection broke"], 1)

    def test_lost_mail(self) -> None:
        """Promise: seen by the next session, and in the store."""
        self.letter("1")
        self.session(b"a")
        self.session()
        self.assert_broken("accepted mail is there", "accepted mail is there")
        self.settle()
        self.assertEqual(len(self.ledger.violations), 3)

    def test_another_one_was_deleted(self) -> None:
        """Promise: QUIT removes what was asked for, and never another message."""
        self.letter("1")
        self.letter("2")
        self.session(b"a", b"b")
        self.ledger.asked("s", "joe", [b"a"])
        self.ledger.done("s", "joe", [b"a"])
        self.settle("1")
        self.assert_broken("what was deleted is gone", "accepted mail is there")

    def test_doubled_mail(self) -> None:
        """Promise: once is once; twice is all right when it was handed over twice without an answer."""
        self.letter("1")
        again = self.letter("2", UNKNOWN)
        self.ledger.offered(again, "lmtp")
        self.ledger.answered(again, ACCEPTED)
        self.settle("1", "1", "2", "2")
        self.assert_broken("no mail is doubled")

    def test_refused_mail(self) -> None:
        """Promise: what was refused is not stored."""
        self.letter("1", REFUSED)
        self.settle("1")
        self.assert_broken("refused mail is not stored")

    def test_mail_that_comes_back(self) -> None:
        """Promise: what a session did not list, no later one does."""
        self.letter("1", UNKNOWN)
        self.session(b"a")
        self.session()
        self.session(b"a")
        self.assert_broken("what is gone stays gone")

    def test_unique_ids(self) -> None:
        """RFC 1939 section 7: a unique-id is one message's, and a message has one."""
        self.letter("1")
        self.letter("2")
        self.session(b"a", b"b")
        self.ledger.retrieved("s", "joe", b"a", "2", SHA)
        self.ledger.listed("s", "joe", [b"a", b"b", b"a"], time.monotonic())
        self.assert_broken("unique-ids stay", "no mail is doubled, unique-ids stay", "unique-ids are unique")

    def test_octets_and_owners(self) -> None:
        """Promise: everybody gets his own mail as it was delivered."""
        self.letter("1", mailbox="ann")
        self.letter("2")
        self.ledger.retrieved("s", "joe", b"x", "1", SHA)
        self.ledger.retrieved("s", "joe", b"y", "2", "1" * 64)
        self.ledger.settle({"joe": [("2", "2" * 64), ("9", SHA)]})
        own, octets = "everybody gets his own mail", "octets are those delivered"
        self.assert_broken(own, octets, octets, own)

    def test_file(self) -> None:
        """Promise: what was offered is in the file before anything becomes of it, one entry a line."""
        self.ledger.offered(Letter("1", "joe", SHA, 10), "lmtp")
        (entry,) = self.ledger.path.read_text().splitlines()
        self.assertEqual((json.loads(entry)["what"], json.loads(entry)["token"]), ("offered", "1"))
