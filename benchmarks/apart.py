"""What a session costs that has a process of its own (sessions.run_as = "owner").

    python -m benchmarks.apart                      # 200 sessions at a time, five times
    python -m benchmarks.apart --sessions 50 --repeat 3 --maps

Every session has a user and a Maildir with one message of its own.  All log in, one after the other, and stay; then
they send STAT and QUIT, one after the other.  Printed are the medians over the repetitions of

    start       processor time until PASS is answered, for each session: of the broker, which forks; of the session's
                process; of the judge; of the front, which talks to the client
    end         processor time of all of them from STAT to the end of the process
    private     memory that a session's process shares with nobody, after PASS: median, and the most
    waits       from PASS to its answer

--maps prints where the private memory of one session is.  Needs root and control groups.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.measure import Tree
from benchmarks.work import default_python

REPOSITORY = Path(__file__).resolve().parent.parent

#: User and group id of the first user; nobody of this machine has them.
FIRST_ID = 3_000_000

_CONFIGURATION = """\
[server]
hostname = "localhost"
user = "nobody"
state_dir = "{directory}/state"
workers = 1
[[listen]]
address = "127.0.0.1"
port = {port}
[limits]
connections_per_address = 0
[[accounts]]
driver = "passwd_file"
path = "{directory}/passwd"
[mail]
location = "maildir:~/Maildir"
[sessions]
run_as = "owner"
"""

_PARTS = ("broker", "session", "judge", "front")


class Client:
    """One client of the server."""

    def __init__(self, port: int) -> None:
        self._wire = socket.create_connection(("127.0.0.1", port), 60)
        self._wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._wire.makefile("rb")
        self._lines.readline()

    def say(self, line: bytes) -> None:
        """Send a line; its answer must be +OK."""
        self._wire.sendall(line + b"\r\n")
        answer = self._lines.readline()
        if not answer.startswith(b"+OK"):
            raise RuntimeError(f"{line!r} is answered with {answer!r}")

    def close(self) -> None:
        """Wait for the server's end."""
        self._lines.read()
        self._lines.close()
        self._wire.close()


def _lay_out(directory: Path, users: int, port: int) -> None:
    """Write accounts, mail and configuration."""
    directory.chmod(0o755)
    (directory / "state").mkdir()
    lines = []
    for number in range(users):
        home, one = directory / f"home{number:04d}", FIRST_ID + number
        for part in ("tmp", "new", "cur"):
            (home / "Maildir" / part).mkdir(parents=True)
        (home / "Maildir/cur/1.bench,S=21,W=23:2,S").write_bytes(b"Subject: one\n\nmail\n\n\n")
        for path in (home, *home.rglob("*")):
            os.chown(path, one, one)
        home.chmod(0o700)
        lines.append(f"user{number:04d}:{{PLAIN}}x:{one}:{one}::{home}:\n")
    (directory / "passwd").write_text("".join(lines))
    (directory / "passwd").chmod(0o600)
    (directory / "tpops.toml").write_text(_CONFIGURATION.format(directory=directory, port=port))


def _seconds(pid: int) -> float:
    """The processor time of a process, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _private_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(map(int, re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", text, re.MULTILINE)))


class Server:
    """
    A running server.

    @ivar port: where it listens
    """

    def __init__(self, directory: Path, python: Path, port: int) -> None:
        self.port = port
        self.tree = Tree("apart", None)
        if self.tree.group is None:
            raise SystemExit("needs root and control groups")
        command = [str(python.parent / "twistd"), "-n", "--pidfile=", "-l", str(directory / "log"), "tpops"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        self.tree.start(
            [*command, "--config", str(directory / "tpops.toml")], REPOSITORY, directory / "out", environment
        )
        self._wait(directory)
        self.broker, self.judge, self.front = (self._process(one) for one in ("broker", "judge", "worker"))

    def _wait(self, directory: Path) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                Client(self.port)
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit((directory / "out").read_text() + (directory / "log").read_text())

    def _process(self, module: str) -> int:
        """The first process of a module of tpops."""
        name = f"tpops.process.{module}".encode()
        return min(pid for pid in self.tree.pids() if name in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))

    def sessions(self) -> list[int]:
        """The processes of sessions."""
        path = Path(f"/proc/{self.broker}/task/{self.broker}/children")
        return [int(pid) for pid in path.read_text().split() if int(pid) != self.judge]

    def settle(self, sessions: int) -> None:
        """Wait until so many sessions run and everything else rests."""
        end = time.monotonic() + 60
        while len(self.sessions()) != sessions:
            if time.monotonic() > end:
                raise RuntimeError(f"{len(self.sessions())} sessions instead of {sessions}")
            time.sleep(0.02)
        time.sleep(0.1)


def measure(server: Server, sessions: int) -> dict[str, float]:
    """One repetition; milliseconds and KiB."""
    parts = {"broker": server.broker, "judge": server.judge, "front": server.front}
    server.settle(0)
    before = {name: _seconds(pid) for name, pid in parts.items()}
    clients, waits = [], []
    for number in range(sessions):
        client = Client(server.port)
        client.say(b"USER user%04d" % number)
        began = time.perf_counter()
        client.say(b"PASS x")
        waits.append(time.perf_counter() - began)
        clients.append(client)
    server.settle(sessions)
    found = {name: (_seconds(pid) - before[name]) / sessions * 1000 for name, pid in parts.items()}
    pids = server.sessions()
    found["session"] = statistics.fmean(map(_seconds, pids)) * 1000
    private = list(map(_private_kib, pids))
    found["private"], found["most private"] = statistics.median(private), max(private)
    found["waits"] = statistics.median(waits) * 1000
    used = server.tree.cpu_seconds()
    for client in clients:
        client.say(b"STAT")
        client.say(b"QUIT")
        client.close()
    server.settle(0)
    found["end"] = (server.tree.cpu_seconds() - used) / sessions * 1000
    found["start"] = sum(found[name] for name in _PARTS)
    return found


def show_maps(server: Server) -> None:
    """Where the private memory of a session is."""
    client = Client(server.port)
    client.say(b"USER user0000")
    client.say(b"PASS x")
    server.settle(1)
    (pid,) = server.sessions()
    where: Counter[str] = Counter()
    place = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)", line)
        if found:
            place = f"{found[4] or 'anonymous'} {found[3]} {(int(found[2], 16) - int(found[1], 16)) >> 10}"
        elif line.startswith(("Private_Clean:", "Private_Dirty:")):
            where[place] += int(line.split()[1])
    for place, kib in where.most_common(40):
        if kib:
            print(f"{kib:6} KiB  {place}")
    client.say(b"QUIT")
    client.close()


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200, help="at a time (200)")
    parser.add_argument("--repeat", type=int, default=5, help="times (5)")
    parser.add_argument("--maps", action="store_true", help="where the private memory of a session is")
    parser.add_argument("--python", type=Path, default=default_python())
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="tpops-apart-") as name:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        _lay_out(Path(name), given.sessions, port)
        server = Server(Path(name), given.python, port)
        try:
            measure(server, given.sessions)  # connections, caches
            runs = [measure(server, given.sessions) for _ in range(given.repeat)]
            if given.maps:
                show_maps(server)
        finally:
            server.tree.end()
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    shares = ", ".join(f"{name} {median[name]:.2f}" for name in _PARTS)
    print(f"start    {median['start']:.2f} ms ({shares})")
    print(f"end      {median['end']:.2f} ms")
    print(f"private  {median['private']:.0f} KiB, at most {median['most private']:.0f} KiB")
    print(f"waits    {median['waits']:.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
