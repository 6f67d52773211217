"""Clients that mean no good: what they cost tpops in memory and CPU, and how long a real client waits meanwhile.

    python -m benchmarks.hostile                # 10,000 idle, 2,000 slow, a flood, 200 that never read: two minutes
    python -m benchmarks.hostile --idle 1000 --slow 200 --stalled 20 --seconds 3

Each part has a server of its own, on 127.0.0.1, with one user.  Needs as many open files as there are connections
(`ulimit -n`; it is raised as far as the hard limit goes).  Memory is the server's resident set.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import poplib
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.work import default_python

REPOSITORY = Path(__file__).resolve().parent.parent

_CONFIGURATION = """\
[server]
state_dir = "{directory}"
drain_seconds = 0
[[listen]]
address = "127.0.0.1"
port = 0
backlog = 4096
[[accounts]]
driver = "passwd_file"
path = "{directory}/passwd"
[mail]
location = "maildir:{directory}/mail/$(user)/Maildir"
[log]
access_log = "{directory}/access.log"
[protocol]
login_timeout_seconds = 3600
[limits]
connections = 20000
connections_per_address = 0
{limits}
"""


class Server:
    """A server in a directory of its own, with so many users and a message of 20 MB for each."""

    def __init__(self, directory: Path, python: Path, users: int, limits: str) -> None:
        lines = []
        for number in range(users):
            new = directory / "mail" / f"u{number}" / "Maildir" / "new"
            for part in ("tmp", "cur", "new"):
                (new.parent / part).mkdir(parents=True)
            # With its sizes in the name, nobody has to read it to learn them.
            big = new / "1.host,S=21000014,W=22000016"
            if number:
                os.link(directory / "mail/u0/Maildir/new" / big.name, big)
            else:
                big.write_bytes(b"Subject: big\n\n" + b"all work and no play\n" * 1_000_000)
            lines.append(f"u{number}:{{PLAIN}}secret::::{directory}:\n")
        (directory / "passwd").write_text("".join(lines))
        path = directory / "tpops.toml"
        path.touch(0o600)
        path.write_text(_CONFIGURATION.format(directory=directory, limits=limits))
        self._log = directory / "log"
        with open(self._log, "wb") as output:
            self.process = subprocess.Popen(
                [str(python.parent / "twistd"), "-n", "--pidfile=", "tpops", "--config", str(path)],
                stdout=output,
                stderr=output,
                cwd=directory,
                env=dict(os.environ, PYTHONPATH=str(REPOSITORY)),
            )
        self.port = self._ready()
        self.poll()

    def _ready(self) -> int:
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            found = re.search(r"ready on .*:(\d+)", self._log.read_text())
            if found:
                return int(found[1])
            time.sleep(0.05)
        raise SystemExit(f"the server does not start: {self._log.read_text()}")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)

    def memory_mib(self) -> float:
        """Resident."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)

    def processor_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def poll(self) -> float:
        """A real client: seconds from connecting to the end of QUIT."""
        began = time.monotonic()
        client = poplib.POP3("127.0.0.1", self.port, timeout=60)
        client.user("u0")
        client.pass_("secret")
        client.stat()
        client.quit()
        return time.monotonic() - began

    def connect(self) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), 60)


class Observed:
    """What a part of the run has cost."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._began, self._processor = time.monotonic(), server.processor_seconds()
        self.most_mib = server.memory_mib()
        self.polls: list[float] = []

    def look(self, poll: bool = True) -> None:
        """Once more: how big it is, and how long a real client waits."""
        if poll:
            self.polls.append(self._server.poll())
        self.most_mib = max(self.most_mib, self._server.memory_mib())

    def cpu_percent(self) -> float:
        """Of one core, since the beginning."""
        return 100 * (self._server.processor_seconds() - self._processor) / (time.monotonic() - self._began)

    def row(self, what: str, before_mib: float) -> str:
        """A line of the table."""
        slowest = f"{1000 * max(self.polls):.0f}" if self.polls else "-"
        after = self._server.memory_mib()
        return (
            f"| {what} | {before_mib:.1f} | {self.most_mib:.1f} | {after:.1f} | {self.cpu_percent():.1f} | {slowest} |"
        )


def _idle(server: Server, count: int, seconds: float) -> Iterator[str]:
    before = server.memory_mib()
    opening = Observed(server)
    held = []
    for number in range(count):
        held.append(server.connect())
        if number % 500 == 499:
            opening.look()
    for one in held:
        one.recv(100)
    yield opening.row(f"{count} connections are opened", before)
    idle = Observed(server)
    time.sleep(seconds)
    yield idle.row(f"{count} idle connections, nobody else", before)
    idle = Observed(server)
    for _ in range(20):
        idle.look()
        time.sleep(seconds / 20)
    yield idle.row(f"{count} idle connections, 20 polls", before)
    for one in held:
        one.close()


def _slow(server: Server, count: int, seconds: float) -> Iterator[str]:
    before = server.memory_mib()
    cost = Observed(server)
    held: list[socket.socket | None] = [None] * count
    dropped = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for at, one in enumerate(held):
            if one is None:
                held[at] = server.connect()
                continue
            try:
                one.send(b"A")
            except OSError:
                one.close()
                held[at] = None
                dropped += 1
        cost.look()
    for one in held:
        if one is not None:
            one.close()
    yield cost.row(f"{count} send octet by octet and come again ({dropped} made room)", before)


def _flood(server: Server, seconds: float) -> Iterator[str]:
    before = server.memory_mib()
    cost = Observed(server)
    count = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(200):
            with contextlib.suppress(OSError):
                server.connect().close()
            count += 1
        cost.look()
    yield cost.row(f"{count / seconds:.0f} connections a second without a word", before)


def _lines(server: Server, count: int) -> Iterator[str]:
    before = server.memory_mib()
    cost = Observed(server)
    for _ in range(count):
        with server.connect() as one, contextlib.suppress(OSError):
            one.sendall(b"x" * (1 << 20))
        cost.look(poll=False)
    cost.look()
    yield cost.row(f"{count} lines of 1 MB", before)


def _stalled(server: Server, count: int, seconds: float) -> Iterator[str]:
    before = server.memory_mib()
    cost = Observed(server)
    held = []
    for number in range(1, count + 1):
        one = server.connect()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.sendall(b"USER u%d\r\nPASS secret\r\nRETR 1\r\nRETR 1\r\n" % number)
        held.append(one)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        cost.look()
        time.sleep(0.1)
    yield cost.row(f"{count} never read their 20 MB", before)
    for one in held:
        one.close()


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--idle", type=int, default=10000, help="idle connections (%(default)s)")
    add("--slow", type=int, default=2000, help="connections that send octet by octet (%(default)s)")
    add("--stalled", type=int, default=200, help="clients that never read (%(default)s)")
    add("--lines", type=int, default=100, help="lines of 1 MB (%(default)s)")
    add("--seconds", type=float, default=10.0, help="for each part (%(default)s)")
    add("--python", type=Path, default=default_python(), help="interpreter beside twistd (%(default)s)")
    asked = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    seconds: float = asked.seconds
    parts: list[tuple[str, int, Callable[[Server], Iterator[str]]]] = [
        ("unauthenticated_connections = 0", 1, lambda server: _idle(server, asked.idle, seconds)),
        ("unauthenticated_connections = 500", 1, lambda server: _slow(server, asked.slow, seconds)),
        ("unauthenticated_connections = 500", 1, lambda server: _flood(server, seconds)),
        ("unauthenticated_connections = 500", 1, lambda server: _lines(server, asked.lines)),
        ("", asked.stalled + 1, lambda server: _stalled(server, asked.stalled, seconds)),
    ]
    print("| | MiB before | MiB at most | MiB after | CPU, % of a core | slowest poll, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for limits, users, part in parts:
        with tempfile.TemporaryDirectory(prefix="tpops-hostile-") as directory:
            server = Server(Path(directory), asked.python, users, limits)
            try:
                for row in part(server):
                    print(row, flush=True)
            finally:
                server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
