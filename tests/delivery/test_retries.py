"""Messages that are tried again."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.append import Incoming
from tests.support import caught_stderr
from tpops.delivery.retries import DAYS, Attempt, Retries


class RetryTests(SynchronousTestCase):
    """Who got a message does not get it again."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute() / "state" / "deliveries"
        self.now = 1_764_000_000.0

    def attempt(self, text: bytes = b"x", sender: str = "a@b", recipients: tuple[str, ...] = ("joe", "ann")) -> Attempt:
        """A try, by a process of its own."""
        return Retries(str(self.directory), lambda: self.now).attempt(Incoming(text), sender, recipients)

    def test_remembered(self) -> None:
        """Promise: the same message, sender and recipients: who is done is known; anything else is another message."""
        self.attempt().ended(["joe", "j\udcf6rg"])
        self.assertEqual(self.attempt().done, {"joe", "j\udcf6rg"})
        self.assertEqual(self.attempt(b"y").done, frozenset())
        self.assertEqual(self.attempt(sender="").done, frozenset())
        self.assertEqual(self.attempt(recipients=("joe",)).done, frozenset())
        self.assertEqual(os.listdir(self.directory.parent), ["deliveries"])
        self.assertEqual([one.stat().st_mode & 0o777 for one in self.directory.iterdir()], [0o600])

    def test_forgotten(self) -> None:
        """Promise: when there is nothing to try again, nothing is kept."""
        self.attempt().ended(["joe"])
        self.attempt().ended([])
        self.assertEqual(list(self.directory.iterdir()), [])
        self.attempt().ended([])

    def test_half_a_file(self) -> None:
        """Promise: a file that is not whole names only those who are in it wholly."""
        self.attempt().ended(["joe", "ann"])
        (path,) = self.directory.iterdir()
        path.write_bytes(b"joe\0an")
        self.assertEqual(self.attempt().done, {"joe"})

    def test_old_files_go(self) -> None:
        """Promise: after ten days they do."""
        self.attempt().ended(["joe"])
        (path,) = self.directory.iterdir()
        os.utime(path, (self.now, self.now))
        self.now += DAYS * 86400 - 10
        self.assertEqual(self.attempt().done, {"joe"})
        self.now += 20
        self.assertEqual(self.attempt().done, frozenset())
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_no_directory(self) -> None:
        """Promise: where nothing can be remembered, that is told, and the delivery goes on."""
        self.directory.parent.parent.mkdir(exist_ok=True)
        self.directory.parent.write_text("a file")
        with caught_stderr() as said:
            attempt = self.attempt()
            self.assertEqual(attempt.done, frozenset())
            attempt.ended(["joe"])
            attempt.ended([])
        self.assertIn("may get it twice", said())
        self.assertEqual(said().count("\n"), 1)
