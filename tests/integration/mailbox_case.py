"""What the tests of "tpops mailbox" share: a server with three messages, and the console script."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PATIENCE_SECONDS, USER, RunningServer, end, program, wait_until
from tests.mailbox.spools import split_spool, spool_of

OLD = b"Received: by mx; Mon, 5 Jan 2026 10:00:00 +0100\nSubject: old\n\nold text\n"
LARGE = b"Date: Tue, 1 Jan 2030 00:00:00 +0000\nSubject: large\n\n" + b"x" * 70 + b"\n" * 3000
PLAIN = b"Subject: plain\n\n.\ntext\n"
MAIL = [OLD, LARGE, PLAIN]

HUNDRED_MIB = 100 << 20


def wire(message: bytes) -> bytes:
    """As a client gets it."""
    return message.replace(b"\n", b"\r\n")


class MailboxCase(SynchronousTestCase):
    """A server whose mail is of one kind; three messages."""

    timeout = 300
    kind = "maildir"

    def place(self) -> Path | None:
        """The server's directory; None for one of the test."""
        return None

    def setUp(self) -> None:
        locks = {"lock_wait_seconds": 0.2}
        self.server = RunningServer(self, self.place(), maildir=dict(locks), mbox=dict(locks))
        self.directory = self.server.directory
        self.spool = self.directory / "spools" / USER
        self.spool.parent.mkdir()
        self.server.configuration["server"] = {"state_dir": str(self.directory / "state")}
        (self.directory / "state").mkdir()
        if self.kind == "mbox":
            self.server.configuration["mail"] = {"location": "mbox:spools/$(user)"}
        self.fill(MAIL)
        self.server.write_configuration()

    def fill(self, messages: Sequence[bytes]) -> None:
        """This is what there is."""
        if self.kind == "mbox":
            self.spool.write_bytes(spool_of(messages))
            return
        for number, message in enumerate(messages, 1):
            self.server.deliver(f"{number}.host", message)

    def stored(self) -> list[bytes]:
        """The messages that there are, read in another way."""
        if self.kind == "mbox":
            return split_spool(self.spool.read_bytes())
        return [octets for _, octets in sorted(self.server.stored().items())]

    def command(self, *arguments: str) -> list[str]:
        return [program("tpops"), "-c", str(self.server.configuration_file), "mailbox", *arguments]

    def run_it(self, *arguments: str, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            cwd=self.directory,
            check=False,
            **options,
        )

    def mailbox(self, *arguments: str, stdin: bytes = b"") -> str:
        """A command that works; what it says."""
        done = self.run_it(*arguments, stdin=stdin)
        self.assertEqual((done.returncode, done.stderr), (0, b""), done)
        return done.stdout.decode()

    def refused(self, *arguments: str, **options: Any) -> str:
        """A command that does not; its one line."""
        done = self.run_it(*arguments, **options)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 1), done)
        return done.stderr.decode()

    def started(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """A command that runs meanwhile."""
        process = subprocess.Popen(
            # SIGINT may be ignored where tests run in the background.
            ["env", "--default-signal=INT", *self.command(*arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            **options,
        )
        self.addCleanup(self.finish, process)
        return process

    @staticmethod
    def finish(process: subprocess.Popen[bytes]) -> None:
        """Close what is left over of it."""
        end(process)
        for pipe in (process.stdin, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """What "list --json" says."""
        rows: list[dict[str, Any]] = json.loads(self.mailbox("list", USER, "--json", *arguments))
        return rows

    def ids(self) -> list[str]:
        """The unique-ids in order."""
        return self.mailbox("list", USER, "--unique-ids").split()

    def until_asked(self, process: subprocess.Popen[bytes]) -> str:
        """
        Read what it says until it asks, and waits for the answer.

        A signal that comes between the question and the waiting is not heard of by who waits.
        """
        assert process.stdout is not None
        said = b""
        while not said.endswith(b"[y/N]: "):
            octet = process.stdout.read(1)
            self.assertTrue(octet, said)
            said += octet
        status = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "S", "it waits for an answer")
        return said.decode()

    def left_behind(self) -> list[str]:
        """Files of exports under other names than their own."""
        return [name for name in os.listdir(self.directory) if ".export-" in name]
