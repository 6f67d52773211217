"""Deliveries by LMTP: messages per second and CPU per message, tpops against Dovecot, in one run.

    python -m benchmarks.lmtp                       # 10 KB messages, 1 and 16 connections
    python -m benchmarks.lmtp --octets 100000 --connections 4 --seconds 10 --servers tpops

Each connection sends one message after the other to a user of 20, with MAIL, RCPT and DATA in one write, as Postfix
does.  Both servers write Maildirs, on the file system of --scratch, and make each message durable before they answer
(Dovecot by its default `mail_fsync = optimized`).  Every message that was answered with 250 is looked for afterwards.
Server and client are on a core each.  Needs root and dovecot-lmtpd.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.mail import OWNER
from benchmarks.measure import Tree
from benchmarks.work import default_python

USERS = 20

REPOSITORY = Path(__file__).resolve().parent.parent

_TPOPS = """\
[server]
hostname = "localhost"
user = "{owner}"
group = "{owner}"
state_dir = "{directory}"
[[listen]]
address = "127.0.0.1"
port = 0
[[accounts]]
driver = "passwd_file"
path = "{directory}/passwd"
[mail]
location = "maildir:{directory}/mail/$(user)/Maildir"
[lmtp]
listen = ["unix:{directory}/lmtp"]
"""

_DOVECOT = """\
protocols = lmtp
base_dir = {directory}/base
state_dir = {directory}/state
instance_name = tpops-lmtp
log_path = {directory}/log
ssl = no
mail_location = maildir:~/Maildir
first_valid_uid = 1000
passdb {{
  driver = static
  args = password=x
}}
userdb {{
  driver = static
  args = uid={owner} gid={owner} allow_all_users=yes home={directory}/mail/%u
}}
service lmtp {{
  process_min_avail = 16
  unix_listener {directory}/lmtp {{
    mode = 0666
  }}
}}
"""


@dataclass
class Client:
    """One connection and what it has done."""

    path: str
    message: bytes
    number: int
    delivered: int = 0
    seconds: list[float] = field(default_factory=list)

    def run(self, until: float) -> None:
        """Deliver until it is time to stop."""
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(60)
            wire.connect(self.path)
            replies = wire.makefile("rb")
            replies.readline()
            wire.sendall(b"LHLO bench\r\n")
            while not replies.readline().startswith(b"250 "):
                pass
            user = self.number
            while (began := time.monotonic()) < until:
                user = (user + 1) % USERS
                wire.sendall(b"MAIL FROM:<bench@example.org>\r\nRCPT TO:<user%04d>\r\nDATA\r\n" % user)
                for code in (b"250", b"250", b"354"):
                    line = replies.readline()
                    if not line.startswith(code):
                        raise RuntimeError(f"{line!r} instead of {code!r}")
                wire.sendall(self.message)
                line = replies.readline()
                if not line.startswith(b"250"):
                    raise RuntimeError(f"{line!r} instead of 250")
                self.delivered += 1
                self.seconds.append(time.monotonic() - began)


def _lay_out(directory: Path, python: Path, server: str) -> list[str]:
    """Write a server's files; its command."""
    directory.chmod(0o755)
    (directory / "mail").mkdir()
    (directory / "passwd").write_text("".join(f"user{n:04d}:{{PLAIN}}x\n" for n in range(USERS)))
    (directory / "passwd").chmod(0o640)
    for number in range(USERS):
        for part in ("tmp", "new", "cur"):
            (directory / f"mail/user{number:04d}/Maildir" / part).mkdir(parents=True)
    for path in (directory, *directory.rglob("*")):
        os.chown(path, OWNER, OWNER)
    text = {"tpops": _TPOPS, "dovecot": _DOVECOT}[server].format(directory=directory, owner=OWNER)
    configuration = directory / "configuration"
    configuration.write_text(text)
    if server == "dovecot":
        return ["dovecot", "-F", "-c", str(configuration)]
    twistd = python.parent / "twistd"
    return [str(twistd), "-n", "--pidfile=", "-l", str(directory / "log"), "tpops", "--config", str(configuration)]


def _wait_for(path: Path, output: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(5)
                probe.connect(str(path))
                if probe.recv(100).startswith(b"220"):
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"no greeting: {output.read_text(errors='replace')}")


def measure(server: str, options: argparse.Namespace, connections: int) -> tuple[float, float, float]:
    """Messages per second, CPU milliseconds per message, median milliseconds of one."""
    directory = Path(tempfile.mkdtemp(prefix=f"{server}-", dir=options.scratch))
    line = b"x" * 76 + b"\r\n"
    head = (
        b"From: bench@example.org\r\nTo: user@example.org\r\nSubject: benchmark\r\nMessage-ID: <1@example.org>\r\n\r\n"
    )
    message = head + line * ((options.octets - len(head)) // len(line)) + b".\r\n"
    tree = Tree(f"lmtp-{server}", 0 if options.pin else None)
    output = directory / "output"
    try:
        command = _lay_out(directory, options.python, server)
        tree.start(command, REPOSITORY, output, dict(os.environ, PYTHONPATH=str(REPOSITORY)))
        _wait_for(directory / "lmtp", output)
        _round(directory, message, connections, 1.0)
        before = tree.cpu_seconds()
        began = time.monotonic()
        clients = _round(directory, message, connections, options.seconds)
        elapsed, spent = time.monotonic() - began, tree.cpu_seconds() - before
        delivered = sum(one.delivered for one in clients)
        _check(directory, message)
        median = statistics.median(second for one in clients for second in one.seconds)
        return delivered / elapsed, spent / delivered * 1000, median * 1000
    finally:
        tree.end()
        shutil.rmtree(directory, ignore_errors=True)


def _round(directory: Path, message: bytes, connections: int, seconds: float) -> list[Client]:
    clients = [Client(str(directory / "lmtp"), message, number) for number in range(connections)]
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=one.run, args=(until,)) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _COUNTED[directory] = _COUNTED.get(directory, 0) + sum(one.delivered for one in clients)
    return clients


#: Messages that were answered with 250, by directory.
_COUNTED: dict[Path, int] = {}


def _check(directory: Path, message: bytes) -> None:
    """Every message that was promised is there, whole."""
    paths = list(directory.glob("mail/*/Maildir/new/*"))
    if len(paths) != _COUNTED[directory]:
        raise RuntimeError(f"{_COUNTED[directory]} were answered with 250, {len(paths)} are there")
    body = message.removesuffix(b".\r\n").replace(b"\r\n", b"\n")
    for path in paths[:: max(1, len(paths) // 100)]:
        if not path.read_bytes().endswith(body):
            raise RuntimeError(f"{path} is not what was sent")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--octets", type=int, default=10240)
    parser.add_argument("--connections", default="1,16", help="%(default)s")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeat", type=int, default=3, help="rounds, of which the median counts (%(default)s)")
    parser.add_argument("--servers", default="tpops,dovecot", help="%(default)s")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp"), help="%(default)s: mail and servers")
    parser.add_argument("--python", type=Path, default=default_python(), help="interpreter beside twistd (%(default)s)")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="leave cores to the scheduler")
    options = parser.parse_args()
    if options.pin:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print("| connections | server | messages/s | CPU ms/message | median ms |\n| ---: | --- | ---: | ---: | ---: |")
    for connections in map(int, options.connections.split(",")):
        found: dict[str, list[tuple[float, float, float]]] = {}
        for _ in range(options.repeat):
            for server in options.servers.split(","):
                found.setdefault(server, []).append(measure(server, options, connections))
        for server, rounds in found.items():
            rate, cpu, median = (statistics.median(values) for values in zip(*rounds, strict=True))
            print(f"| {connections} | {server} | {rate:,.0f} | {cpu:.2f} | {median:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
