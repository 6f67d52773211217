"""What tests of the control socket share."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import (
    PASSWORD,
    PATIENCE_SECONDS,
    USER,
    RunningServer,
    program,
)
from tpops.sight.control import short


class ControlCase(SynchronousTestCase):
    """Servers and commands."""

    timeout = 240
    workers = 1

    def server(self, directory: Path | None = None, **tables: Any) -> RunningServer:
        """One that runs, with a message."""
        tables["server"] = {"workers": self.workers, **tables.get("server", {})}
        protocol = {"auth_delay_seconds": 0.1, "auth_delay_max_seconds": 0.1, **tables.pop("protocol", {})}
        users = {USER: PASSWORD, "ann": PASSWORD, "eve": PASSWORD}
        server = RunningServer(self, directory, users=users, protocol=protocol, **tables)
        server.deliver("1.host", corpus.ALL["lf"])
        return server.start()

    def run_tpops(self, server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command on the server's configuration."""
        command = [program("tpops"), "-c", str(server.configuration_file), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    def tpops(self, server: RunningServer, *arguments: str) -> str:
        """What a command writes that succeeds."""
        done = self.run_tpops(server, *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def refused(self, server: RunningServer, *arguments: str) -> str:
        """What a command says that fails."""
        done = self.run_tpops(server, *arguments)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr

    def ask(self, server: RunningServer, do: str, **fields: str) -> dict[str, Any]:
        """The answer of the control socket."""
        connected = self.control(server)
        connected.sendall(json.dumps({"do": do, **fields}).encode() + b"\n")
        with connected, connected.makefile() as lines:
            answer: dict[str, Any] = json.loads(lines.readline())
        return answer

    def who(self, server: RunningServer, **chosen: str) -> list[dict[str, Any]]:
        """The sessions."""
        found: list[dict[str, Any]] = self.ask(server, "who", **chosen)["sessions"]
        return found

    def totals(self, server: RunningServer) -> dict[str, Any]:
        """The figures."""
        found: dict[str, Any] = self.ask(server, "stats")["totals"]
        return found

    def control(self, server: RunningServer) -> socket.socket:
        """A connection to the control socket."""
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(PATIENCE_SECONDS)
        self.addCleanup(connected.close)
        with short(str(server.directory / "control.sock")) as name:
            connected.connect(name)
        return connected
