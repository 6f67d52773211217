"""scripts/demo, started as somebody would who has just cloned the project."""

from __future__ import annotations

import os
import poplib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.support import need

CHECKOUT = Path(__file__).resolve().parents[2]

#: Seconds until a demonstration must answer, also on a slow and busy machine.
PATIENCE_SECONDS = 60.0


@attrs.frozen
class Demo:
    """
    A running demonstration.

    @ivar text: what it printed
    """

    process: subprocess.Popen[str]
    text: str
    port: int
    password: str

    def mailbox(self) -> poplib.POP3:
        """A connection that has logged in."""
        connection = poplib.POP3("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        connection.user("demo")
        connection.pass_(self.password)
        return connection


class DemoTests(SynchronousTestCase):
    """One command gives a server with mail to try."""

    skip = need(None, "curl", "bash", "env")
    timeout = 240

    def setUp(self) -> None:
        """A directory for the demonstration, and an environment that is installed already."""
        self.data = Path(self.mktemp()).absolute()
        self.environment = {
            **os.environ,
            "TPOPS_DEMO_DIR": str(self.data),
            "TPOPS_VENV": sys.prefix,
            "TPOPS_NO_INSTALL": "1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the script, with Ctrl-C working even where this test runs in the background."""
        process = subprocess.Popen(
            ["env", "--default-signal=INT", str(CHECKOUT / "scripts" / "demo"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd="/",
            text=True,
        )
        self.addCleanup(stop, process)
        return process

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Demo]:
        """A demonstration that has greeted, stopped with Ctrl-C afterwards."""
        process = self.start(*arguments)
        assert process.stdout is not None
        text = ""
        while "Ctrl-C stops" not in text:
            line = process.stdout.readline()
            if not line:
                self.fail(f"the demonstration ended: {text}")
            text += line
        found = re.search(r"curl -u demo:(\S+) pop3://127\.0\.0\.1:(\d+)/\n", text)
        if found is None:
            self.fail(f"no curl line: {text}")
        demo = Demo(process, text, int(found[2]), found[1])
        self.assertTrue(greeting(demo.port, process).startswith(b"+OK "))
        yield demo
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE_SECONDS)
        self.assertIn(process.returncode, (0, -signal.SIGINT, 128 + signal.SIGINT), rest)
        self.assertNotIn("Traceback", rest)
        self.assertNotIn(demo.password, rest)

    def test_printed_commands_work_and_a_second_start_keeps_the_data(self) -> None:
        """Promise: the curl lines work as they are; deletions and password outlive a restart."""
        with self.running() as demo:
            for command in re.findall(r"^ +curl (-u \S+ \S+)$", demo.text, re.MULTILINE):
                got = subprocess.run(["curl", "-sS", *command.split()], capture_output=True, timeout=PATIENCE_SECONDS)
                self.assertEqual((got.returncode, got.stderr), (0, b""))
                wanted = b"\r\nSubject: Welcome to tpops\r\n" if command.endswith("/1") else b"5 "
                self.assertIn(wanted, got.stdout)
            self.patch(poplib, "_MAXLINE", 8192)
            self.assert_mail_is_as_stored(demo)
            mailbox = demo.mailbox()
            mailbox.dele(2)
            mailbox.quit()
        with self.running() as again:
            self.assertEqual((again.password, again.port), (demo.password, demo.port))
            mailbox = again.mailbox()
            self.assertEqual(mailbox.stat()[0], 4)
            mailbox.quit()

    def assert_mail_is_as_stored(self, demo: Demo) -> None:
        """Check every message that comes over the wire against its file."""
        files = sorted((self.data / "mail" / "demo" / "Maildir" / "new").iterdir())
        mailbox = demo.mailbox()
        subjects = []
        for number, file in enumerate(files, 1):
            lines = mailbox.retr(number)[1]
            self.assertEqual(b"\n".join(lines) + b"\n", file.read_bytes())
            parsed = message_from_bytes(file.read_bytes(), policy=default)
            subjects.append(parsed["Subject"])
            self.assertEqual(parsed.defects, [])
        self.assertEqual(len(subjects), 5)
        self.assertIn("ご注文の発送のお知らせ", subjects)
        mailbox.quit()

    def test_given_port_is_taken(self) -> None:
        """Promise: with an argument the server is on that port, and on another one when started so again."""
        for _ in range(2):
            port = unused_port()
            with self.running(str(port)) as demo:
                self.assertEqual(demo.port, port)

    def test_busy_port_is_an_error_of_one_line(self) -> None:
        """Promise: a port that is in use is named, and nothing is made."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            process = self.start(str(port))
            text, _ = process.communicate(timeout=PATIENCE_SECONDS)
        self.assertEqual(process.returncode, 1)
        self.assertEqual(text, f"demo: port {port} is taken or not allowed; name another one\n")
        self.assertEqual(list(self.data.iterdir()), [])

    def test_foreign_directory_is_left_alone(self) -> None:
        """Promise: a directory with other files in it is refused and not touched."""
        self.data.mkdir()
        (self.data / "letter").write_text("mine")
        process = self.start()
        text, _ = process.communicate(timeout=PATIENCE_SECONDS)
        self.assertEqual(process.returncode, 1)
        self.assertIn("is not empty and not made by this script", text)
        self.assertEqual([path.name for path in self.data.iterdir()], ["letter"])


def greeting(port: int, process: subprocess.Popen[str]) -> bytes:
    """The first line of a server that is about to listen."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
                return connection.makefile("rb").readline()
        except OSError:
            if time.monotonic() > end or process.poll() is not None:
                raise
            time.sleep(0.05)


def unused_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop(process: subprocess.Popen[str]) -> None:
    """End a process that a failed test left behind."""
    if process.poll() is None:
        process.kill()
    process.communicate()
