"""Clients that come and go all the time, and remember what went wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, wait_until
from tests.integration.wire import Wire


class Load:
    """
    Polls in threads, from the beginning of a C{with} block to its end.

    @ivar polls: sessions that came to their end
    @ivar problems: those that did not: refused, reset, or with other answers than expected
    """

    def __init__(self, port: int, users: Sequence[str]) -> None:
        self.polls = 0
        self.problems: list[str] = []
        self._port = port
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._poll, args=(user,), daemon=True) for user in users]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for_more(self, polls: int) -> None:
        """Until so many more sessions have come to their end, or something went wrong."""
        most = self.polls + polls
        wait_until(lambda: self.polls >= most or self.problems, "clients get on")

    def check(self, testcase: SynchronousTestCase) -> None:
        """Nothing went wrong, and something went right."""
        testcase.assertEqual(self.problems, [])
        testcase.assertGreater(self.polls, 0)

    def _poll(self, user: str) -> None:
        while not self._over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), 60) as connected:
                    wire = Wire(connected)
                    wire.log_in(user, PASSWORD)
                    answers = [wire.command(b"STAT"), wire.command(b"QUIT")]
                    assert all(answer.startswith(b"+OK") for answer in answers), answers
                    assert wire.rest() == b""
            except (OSError, EOFError, AssertionError) as problem:
                with self._lock:
                    self.problems.append(f"{user}: {problem!r}")
                return
            with self._lock:
                self.polls += 1
