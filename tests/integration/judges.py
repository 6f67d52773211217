"""What the tests of accounts sources share where a program, PAM or a plugin judges the password."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import RunningServer, program, wait_until
from tests.integration.test_twistd import reachable_directory
from tests.support import need_root

DISABLED = b"-ERR [AUTH] account is disabled"
WRONG = b"-ERR [AUTH] authentication failed"
LATER = b"-ERR [SYS/TEMP] authentication is temporarily unavailable"


class JudgesCase(SynchronousTestCase):
    """
    A server with one accounts source, in a directory that every user may enter.

    @ivar directory: the server's
    """

    timeout = 240

    def setUp(self) -> None:
        self.directory = reachable_directory(self)

    def server(self, source: dict[str, Any], **tables: Any) -> RunningServer:
        """A server that is not started; mail lies at mail/NAME."""
        settings = {
            "protocol": {"auth_delay_seconds": 0.05, "auth_tries": 100, "digests": "any"},
            "mail": {"location": f"maildir:{self.directory}/mail/$(user)"},
            **tables,
        }
        server = RunningServer(self, self.directory, users={}, **settings)
        server.configuration["accounts"] = [source]
        return server

    def mail(self, name: str, messages: int = 1) -> Path:
        """A Maildir with so many messages, which everybody may use."""
        maildir = self.directory / "mail" / name
        for part in ("tmp", "new", "cur"):
            (maildir / part).mkdir(parents=True)
        for number in range(messages):
            (maildir / "new" / f"{number}.host").write_bytes(corpus.ALL["lf"])
        for path in (maildir.parent, maildir, *maildir.iterdir()):
            path.chmod(0o777)
        return maildir

    def executable(self, name: str, text: str) -> Path:
        """A program that every user may run."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def answer(self, server: RunningServer, name: str, password: str = "secret") -> bytes:
        """What the client gets for PASS, on a connection of its own."""
        wire = server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        self.assertTrue(wire.command(b"USER " + name.encode()).startswith(b"+OK"))
        answer = wire.command(b"PASS " + password.encode())
        wire.command(b"QUIT")
        return answer

    def detail(self, server: RunningServer, name: str) -> str:
        """What the event log says of the last login of a name that failed."""

        def found() -> list[str]:
            events = server.events("login-failed") + server.events("login-refused")
            return [
                str(one["detail"]) for one in sorted(events, key=lambda one: str(one["time"])) if one["named"] == name
            ]

        return str(wait_until(found, f"a failed login of {name}")[-1])

    def check(self, server: RunningServer) -> tuple[int, str]:
        """Exit status and output of C{tpops check}."""
        server.write_configuration()
        done = subprocess.run(
            [program("tpops"), "-c", str(server.configuration_file), "check"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def need_root(self) -> None:
        """Skip where the test runs as an ordinary user, who cannot become another."""
        need_root(self, "running programs as other users")


def everybodys_python() -> str:
    """A Python that every user may run: the one of the tests may lie in somebody's home."""
    if os.geteuid() != 0:
        return sys.executable
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(PermissionError, FileNotFoundError):
            subprocess.run([path, "-IS", "-c", "import json"], user="nobody", check=True)
            return path
    raise AssertionError("no Python of this machine can be run by everybody: install python3")


def alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def descendants(pid: int) -> dict[int, str]:
    """The processes that a process has started, and theirs, with their command lines."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found: dict[int, str] = {}
    wanted = {pid}
    while wanted:
        wanted = {child for child, parent in parents.items() if parent in wanted}
        for child in wanted:
            try:
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found
