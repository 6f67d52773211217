"""What the tests of mail programs share: a server with awkward mail, and a way to run a program."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import PATIENCE_SECONDS, RunningServer


class ClientCase(SynchronousTestCase):
    """A server with the corpus, half in new and half in cur."""

    timeout = 240
    messages: Mapping[str, bytes] = corpus.ALL

    def setUp(self) -> None:
        """Deliver and start; the order of names is that of numbers."""
        self.server = RunningServer(self, protocol={"auth_delay_seconds": 0.05})
        for number, (name, octets) in enumerate(self.messages.items(), 1):
            if number % 2:
                self.server.deliver(f"{number + 1000}.{name}.host:2,S", octets, "cur")
            else:
                self.server.deliver(f"{number + 1000}.{name}.host", octets)
        self.server.start()

    def run_client(self, *command: str, statuses: tuple[int, ...] = (0,), **options: Any) -> bytes:
        """What a program prints that must end with one of these exit statuses."""
        done = subprocess.run(
            command,
            stdin=options.pop("stdin", subprocess.DEVNULL),
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            **options,
        )
        self.assertIn(done.returncode, statuses, f"{command}: {done.stdout!r} {done.stderr!r}")
        return done.stdout
