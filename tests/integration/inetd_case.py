"""Programs that start one when a client comes: openbsd-inetd, xinetd and tcpserver, each a private one."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import RunningServer, end, wait_until
from tests.integration.wire import Wire
from tests.support import need_root

MESSAGE = b"Subject: hello\n\nworld\n"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port: int = opened.getsockname()[1]
        return port


def command(server: RunningServer, *arguments: str) -> list[str]:
    """The program that is started for each client, or for the port."""
    return [sys.executable, "-P", "-m", "tpops.process.inetd", "-c", str(server.configuration_file), *arguments]


class InetdCase(SynchronousTestCase):
    """A configuration, mail, and one of these programs, which are started as root."""

    def setUp(self) -> None:
        """Be root."""
        need_root(self, "what is tested")

    def mail(self, directory: Path | None = None, **tables: object) -> RunningServer:
        """A server's directory, with one message; nothing is started."""
        listen = tables.pop("listen", None) or [{"address": "127.0.0.1", "port": free_port()}]
        server = RunningServer(self, directory, listen=listen, **tables)  # type: ignore[arg-type]
        server.port = server.configuration["listen"][0]["port"]
        server.deliver("1.host", MESSAGE)
        server.write_configuration()
        return server

    def run_program(self, server: RunningServer, *words: str) -> subprocess.Popen[bytes]:
        """Start it in the foreground, and wait until the port is open."""
        with open(server.directory / "inetd.log", "wb") as log:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=server.directory)
        self.addCleanup(end, process)
        place = f"{server.port:04X}"

        def listens() -> bool:
            return any(
                line.split()[1].endswith(f":{place}") and line.split()[3] == "0A"
                for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            )

        wait_until(lambda: listens() or process.poll() is not None, "the port is open")
        self.assertIsNone(process.poll(), (server.directory / "inetd.log").read_bytes())
        return process

    def inetd(self, server: RunningServer, mode: str = "nowait", *arguments: str) -> subprocess.Popen[bytes]:
        """openbsd-inetd."""
        words = command(server, *arguments)
        configuration = server.directory / "inetd.conf"
        configuration.write_text(f"127.0.0.1:{server.port} stream tcp {mode} root {words[0]} {' '.join(words)}\n")
        return self.run_program(server, str(shutil.which("inetd")), "-i", str(configuration))

    def tcpserver(self, server: RunningServer, *arguments: str) -> subprocess.Popen[bytes]:
        """tcpserver of ucspi-tcp."""
        words = ["tcpserver", "-HRl0", "-c40", "127.0.0.1", str(server.port), *command(server, *arguments)]
        return self.run_program(server, *words)

    def xinetd(self, server: RunningServer, wait: str = "no", **more: str) -> subprocess.Popen[bytes]:
        """xinetd."""
        words = command(server)
        values = {
            "type": "UNLISTED",
            "socket_type": "stream",
            "protocol": "tcp",
            "bind": "127.0.0.1",
            "port": str(server.port),
            "wait": wait,
            "user": "root",
            "server": words[0],
            "flags": "NAMEINARGS",
            "server_args": shlex.join(words),
            "instances": "40",
            "cps": "200 1",
            **more,
        }
        body = "".join(f"    {name} = {value}\n" for name, value in values.items())
        configuration = server.directory / "xinetd.conf"
        configuration.write_text(f"service tpops\n{{\n{body}}}\n")
        program = str(shutil.which("xinetd"))
        pid_file = str(server.directory / "xinetd.pid")
        return self.run_program(server, program, "-dontfork", "-f", str(configuration), "-pidfile", pid_file)

    def connect(self, server: RunningServer) -> Wire:
        """A new connection."""
        return Wire.connect(self, ("127.0.0.1", server.port))

    def children(self, process: subprocess.Popen[bytes]) -> list[int]:
        """The processes that it has started and that run."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == process.pid and fields[0] != "Z":
                found.append(int(path.name))
        return found

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End it and all that it has started."""
        for child in self.children(process):
            os.kill(child, signal.SIGTERM)
        process.terminate()
        process.wait(60)
