"""The control socket where several processes serve, and tpops top."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from typing import Any

from tests.integration.control_case import ControlCase
from tests.integration.server import (
    PATIENCE_SECONDS,
    RunningServer,
    end,
    program,
    wait_until,
)


class TopTests(ControlCase):
    """tpops top, in a terminal."""

    def watch(self, server: RunningServer, key: bytes) -> tuple[str, int]:
        """What a terminal gets until a key is pressed, and the exit status."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))
        command = [program("tpops"), "-c", str(server.configuration_file), "top", "--interval", "0.2"]
        environment = {**os.environ, "TERM": "xterm"}
        process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True)
        self.addCleanup(end, process)
        before = termios.tcgetattr(its)
        screen = b""

        def shows(part: bytes) -> bool:
            nonlocal screen
            while select.select([ours], [], [], 0.05)[0]:
                screen += os.read(ours, 65536)
            return part in screen

        wait_until(lambda: shows(b"q ends this"))
        ann = server.session("ann")
        wait_until(lambda: shows(b"ann"))
        if key == b"\x03":
            os.kill(process.pid, signal.SIGINT)
        else:
            os.write(ours, b"x" + key)
        wait_until(lambda: shows(b"\x1b[?1049l") and process.poll() is not None)
        self.assertEqual(termios.tcgetattr(its)[3] & termios.ECHO, before[3] & termios.ECHO)
        ann.socket.close()
        os.close(ours)
        os.close(its)
        return screen.decode(), process.wait()

    def test_live(self) -> None:
        """Promise: sessions appear as they come; q ends it, and the terminal is as it was."""
        server = self.server()
        server.session()
        screen, status = self.watch(server, b"q")
        self.assertEqual(status, 0, screen)
        for part in ("tpops: 1 sessions", "last minute: 1 logins", "joe", "limits: none", "1 processes, up "):
            self.assertIn(part, screen)

    def test_interrupt(self) -> None:
        """Promise: Ctrl-C ends it as well, without a word."""
        screen, status = self.watch(self.server(), b"\x03")
        self.assertEqual(status, 0, screen)
        self.assertNotIn("Traceback", screen)

    def test_no_terminal(self) -> None:
        """Promise: a pipe is told what is for it."""
        self.assertIn("this is for terminals", self.refused(self.server(), "top"))


class WorkersTests(ControlCase):
    """Several processes answer as one."""

    workers = 2

    def crowd(self, server: RunningServer) -> list[Any]:
        """Sessions until every worker has one."""
        wires = []

        def everybody() -> bool:
            wire = server.connect()
            wire.line()
            wires.append(wire)
            return len({one["process"] for one in self.who(server)}) == self.workers

        wait_until(everybody)
        return wires

    def test_all_workers(self) -> None:
        """Promise: sessions of all workers are listed, ended and counted; figures are added up."""
        server = self.server()
        wires = self.crowd(server)
        found = self.who(server)
        self.assertEqual(len(found), len(wires))
        self.assertTrue({one["process"] for one in found} <= set(server.workers()))
        answer = json.loads(self.tpops(server, "stats", "--json"))
        self.assertEqual(answer["totals"]["sessions"]["login"], len(wires))
        self.assertEqual(answer["totals"]["processes"], 2)
        self.assertEqual(sorted(one["worker"] for one in answer["processes"]), [1, 2])
        self.assertEqual(json.loads(self.tpops(server, "kick", "--json", "--address", "127.0.0.1"))["updating"], [])
        for wire in wires:
            self.assertEqual(wire.rest(), b"")
        wait_until(lambda: self.totals(server)["ends"] == {"ended by administrator": len(wires)})

    def test_restarts_and_silence(self) -> None:
        """Promise: a killed worker is counted; one that does not answer is named, and the others are shown."""
        server = self.server()
        os.kill(next(iter(server.workers())), signal.SIGKILL)
        wait_until(lambda: self.totals(server)["worker_restarts"] == 1)
        wait_until(lambda: self.totals(server)["processes"] == 2)
        victim = next(iter(server.workers()))
        os.kill(victim, signal.SIGSTOP)
        try:
            done = self.run_tpops(server, "who", "--json")
        finally:
            os.kill(victim, signal.SIGCONT)
        self.assertEqual((done.returncode, json.loads(done.stdout)), (0, []))
        self.assertRegex(done.stderr, rf"warning: worker \d \(process {victim}\) does not answer")

    def test_penalties(self) -> None:
        """Promise: shared, so each is there once, and forgotten everywhere."""
        server = self.server()
        for _ in range(6):
            wire = server.connect()
            wire.line()
            wire.command(b"USER joe")
            wire.command(b"PASS wrong")
        found = json.loads(self.tpops(server, "penalty", "list", "--json"))
        self.assertEqual(
            {(one["kind"], one["key"], one["failures"]) for one in found},
            {("client", "127.0.0.1", 1), ("name", "joe", 1)},
        )
        self.tpops(server, "penalty", "clear", "joe")
        self.tpops(server, "penalty", "clear", "127.0.0.1")
        self.assertEqual(json.loads(self.tpops(server, "penalty", "list", "--json")), [])

    def test_reload_and_drain(self) -> None:
        """Promise: the outcome of a reload is that of the new workers; a drain ends everybody."""
        server = self.server(server={"drain_seconds": 2})
        former = set(server.workers())
        server.configuration["protocol"]["greeting"] = "second"
        server.write_configuration()
        self.assertIn("reloaded", self.tpops(server, "reload"))
        wait_until(lambda: not former & set(server.workers()))
        self.assertEqual(server.connect().line().split(b" <")[0], b"+OK second")
        server.configuration["log"]["access_log"] = "no/such/directory/access.log"
        server.write_configuration()
        self.assertIn("cannot write the log", self.refused(server, "reload"))
        self.assertEqual(server.connect().line().split(b" <")[0], b"+OK second")
        self.assertIn("the server stops", self.tpops(server, "drain"))
        assert server.process is not None
        self.assertEqual(server.process.wait(PATIENCE_SECONDS), -signal.SIGTERM)
        self.assertEqual(server.workers(), {})
