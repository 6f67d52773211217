"""Programs that a login or a logout starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.integration.server import temporary, wait_until
from tests.integration.sink_case import SinkCase

#: Writes down what it was started with.
_NOTES = """#!/usr/bin/env python3
import json, os, sys
facts = {
    "arguments": sys.argv[1:],
    "environment": dict(os.environ),
    "stdin": sys.stdin.read(),
    "directory": os.getcwd(),
    "leads": os.getpgid(0) == os.getpid() == os.getsid(0),
    "open": sorted(int(one) for one in os.listdir("/proc/self/fd")),
}
with open("%(file)s", "a") as file:
    file.write(json.dumps(facts) + "\\n")
"""

#: Leaves a child, and ends when it is killed.
_HANGS = """#!/bin/sh
sleep 1000 &
echo $$ $! > %(file)s
wait
"""

#: Fails with much to say.
_FAILS = """#!/bin/sh
echo "no such table" >&2
head -c 300000 /dev/zero >&2
exit 3
"""


class ProgramTests(SinkCase):
    """driver = "program"."""

    def setUp(self) -> None:
        self.directory = temporary(self)

    def script(self, name: str, text: str) -> str:
        """A program that keeps its notes in NAME.notes."""
        path = self.directory / name
        path.write_text(text % {"file": self.notes(name)} if "%(file)s" in text else text)
        path.chmod(0o755)
        return str(path)

    def notes(self, name: str) -> Path:
        """Where a program writes."""
        return self.directory / f"{name}.notes"

    def told(self, name: str) -> list[dict[str, Any]]:
        """What a program wrote."""
        path = self.notes(name)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def test_login_and_logout(self) -> None:
        """Promise: no shell, a group of its own, nothing on stdin, our variables; told before the +OK, and in order."""
        command = [self.script("notes", _NOTES), "$(event)", "$(user)", "by $(clienthost)", "; rm -rf /", "-$(user)"]
        running = self.server(
            {
                "driver": "program",
                "command": command,
                "events": ["login", "logout", "login-failed"],
                "before_ok": True,
                "timeout_seconds": 60,
            },
            pop_before_smtp={"ok_wait_seconds": 60},
            protocol={"auth_delay_seconds": 0},
        )
        wire = running.session("joe", "secret")
        (login,) = self.told("notes")
        self.assertEqual(login["arguments"], ["login", "joe", "by 127.0.0.1", "; rm -rf /", "-joe"])
        self.assertEqual((login["stdin"], login["directory"], login["leads"]), ("", "/", True))
        # The last one is that of the listing itself.
        self.assertEqual(login["open"][:3], [0, 1, 2])
        self.assertEqual(len(login["open"]), 4)
        environment = login["environment"]
        for name, value in {
            "TPOPS_EVENT": "login",
            "TPOPS_USER": "joe",
            "TPOPS_PEER": "127.0.0.1",
            "TPOPS_DRIVER": "passwd_file",
            "TPOPS_MECHANISM": "PASS",
            "USER": "joe",
            "LOGNAME": "joe",
            "REMOTE_ADDR": "127.0.0.1",
        }.items():
            self.assertEqual(environment[name], value, name)
        self.assertNotIn("secret", json.dumps(login))
        self.assertNotIn("HOME", environment)
        self.quit(wire)
        wait_until(lambda: len(self.told("notes")) == 2, "logout")
        logout = self.told("notes")[1]
        self.assertEqual(logout["arguments"][:2], ["logout", "joe"])
        self.assertEqual(logout["environment"]["TPOPS_SESSION"], environment["TPOPS_SESSION"])
        wire = running.connect()
        wire.line()
        wire.command(b"USER -rf\xff$(id)")
        self.assertTrue(wire.command(b"PASS wrong").startswith(b"-ERR"))
        wait_until(lambda: len(self.told("notes")) == 3, "wrong password")
        failed = self.told("notes")[2]
        self.assertEqual(failed["environment"]["TPOPS_NAMED"], "-rf\\x5cxff$\\x28id\\x29")
        self.assertEqual(failed["arguments"][:2], ["login-failed", ""])

    def test_programs_that_fail(self) -> None:
        """Promise: no login fails of them; who takes too long is killed with all his children; nobody is left over."""
        running = self.server(
            {"driver": "program", "name": "hangs", "command": [self.script("hangs", _HANGS)], "timeout_seconds": 1.5},
            {"driver": "program", "name": "fails", "command": [self.script("fails", _FAILS)], "before_ok": True},
            {"driver": "program", "name": "missing", "command": ["/nowhere/program"]},
            pop_before_smtp={"ok_wait_seconds": 60},
        )
        self.poll(running, "joe")
        wait_until(lambda: "sink-failed: hangs" in running.output(), "the time is up")
        log = running.output()
        self.assertIn("sink-failed: hangs at login: not done within 1.5 seconds", log)
        self.assertRegex(log, r"sink-failed: fails at login: /.*/fails ends with exit status 3: no such table")
        self.assertIn("sink-failed: missing at login: cannot start /nowhere/program: No such file", log)
        self.assertNotIn("Traceback", log)
        pids = [int(one) for one in self.notes("hangs").read_text().split()]
        wait_until(lambda: not any(_alive(pid) for pid in pids), "they are gone")
        for pid in running.workers() or [running.pid]:
            self.assertEqual(Path(f"/proc/{pid}/task/{pid}/children").read_text().split(), [])
        running.stop()


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may still have its number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
