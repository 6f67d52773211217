"""
The server of the soak, its database, its mailboxes, a disk that can become full, and a clock that can jump.

Everything lies in one directory below /tmp and listens on 127.0.0.1 or UNIX sockets there.  The full disk is a small
tmpfs, which needs a mount namespace of our own (L{namespace}); the clock is that of Python in the processes of
tpops alone.  What cannot be had is in L{World.left_out}, with the reason.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from tests.integration.clock import Clock
from tests.integration.mariadb import MariaDB
from tests.integration.server import RunningServer, wait_until
from tests.pki import self_signed
from tests.soak import stores
from tests.soak.stores import Spool
from tpops.cred import sqlite

PASSWORD = "soak's secret"

WORKERS = 2

SCHEMAS = Path(__file__).resolve().parents[2] / "tpops" / "db" / "schema"

_SMALL_MIB = 8

_INSIDE = "TPOPS_SOAK_NAMESPACE"


def namespace() -> None:
    """Start this program again in a mount namespace of its own, where that is allowed; once."""
    if os.geteuid() or _INSIDE in os.environ or shutil.which("unshare") is None:
        return
    command = ("unshare", "--mount", "--propagation", "private")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
        os.environ[_INSIDE] = "1"
        os.execvp(command[0], [*command, sys.executable, "-m", "tests.soak", *sys.argv[1:]])


@attrs.frozen
class Box:
    """
    A mailbox.

    @ivar kind: "maildir", "mbox" or "mysql"
    @ivar source: where the account is: "passwd_file", "sqlite" or "mysql"
    @ivar path: of the Maildir or spool
    @ivar on_small_disk: whether it is on the disk that becomes full
    """

    name: str
    kind: str
    source: str
    path: Path
    on_small_disk: bool

    @property
    def location(self) -> str:
        """As the accounts say it."""
        return "mysql:" if self.kind == "mysql" else f"{self.kind}:{self.path}"


@attrs.frozen
class Process:
    """What a process of the server holds."""

    role: str
    descriptors: int
    memory_mib: float


class World:
    """
    See the module.

    @ivar boxes: the mailboxes, by name
    @ivar clock: that of the server
    @ivar left_out: what cannot be had here, and why
    @ivar output: what former runs of the server have said
    """

    def __init__(self, mailboxes: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tpops-soak-", dir="/tmp"))
        self.left_out: dict[str, str] = {}
        self.output: list[str] = []
        self._cleanups: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.small: Path | None = None
        self._marker = f"TPOPS_SOAK={secrets.token_hex(8)}"
        self.clock = Clock(self.directory / "clock")
        self._mailboxes = mailboxes

    def make(self) -> None:
        """The disk, the database, the mailboxes and accounts; call C{close} whatever comes of it."""
        self.small = self._small_disk()
        self.boxes = {box.name: box for box in map(self._box, range(self._mailboxes))}
        self.spools = {box.name: Spool(box.path) for box in self.boxes.values() if box.kind == "mbox"}
        self.mariadb = MariaDB()
        self.addCleanup(self._remove_database)
        self.mariadb.start()
        self.server = self._make_server()

    def addCleanup(self, function: Callable[..., object], *arguments: object) -> None:  # as a test case has it
        """Call this at the end; the last one comes first."""
        self._cleanups.append((function, arguments))

    def close(self) -> None:
        """End everything that was started; the directory stays."""
        while self._cleanups:
            function, arguments = self._cleanups.pop()
            function(*arguments)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _remove_database(self) -> None:
        if not self.mariadb.ended():
            self.mariadb.go_on()
        self.mariadb.remove()

    # Making it.

    def _small_disk(self) -> Path | None:
        path = self.directory / "small"
        path.mkdir()
        if _INSIDE not in os.environ:
            self.left_out["full disk"] = "needs root and unshare(1) for a tmpfs of its own"
            return None
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SMALL_MIB}m", "tmpfs", str(path)], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", str(path)])
        return path

    def _box(self, number: int) -> Box:
        kind = ("maildir", "mbox", "mysql")[number % 3]
        source = ("passwd_file", "sqlite", "mysql")[number // 3 % 3]
        small = kind == "maildir" and number // 3 % 2 == 1 and self.small is not None
        place = (
            self.small if small and self.small is not None else self.directory / ("spools" if kind == "mbox" else kind)
        )
        box = Box(f"u{number}", kind, source, place / f"u{number}", small)
        if kind == "maildir":
            for part in ("tmp", "new", "cur"):
                (box.path / part).mkdir(parents=True)
        elif kind == "mbox":
            box.path.parent.mkdir(exist_ok=True)
        return box

    def _make_server(self) -> RunningServer:
        database = {"servers": [self.mariadb.unix], "user": "admin", "password": "admin's word", "database": "soak"}
        certificate, key = self_signed("127.0.0.1")
        (self.directory / "certificate.pem").write_bytes(certificate + key)
        locks = {"lock_wait_seconds": 1, "cache_mib": 8}
        local = {"address": "127.0.0.1", "port": 0}
        server = RunningServer(
            self,
            self.directory,
            users={},
            listen=[{**local, "tls": "optional"}, {**local, "tls": "implicit"}],
            server={"workers": WORKERS, "drain_seconds": 3},
            tls={"certificate": "certificate.pem"},
            protocol={"auth_delay_seconds": 0.1, "auth_delay_max_seconds": 0.1},
            limits={"connections_per_address": 0},
            maildir=locks,
            mbox={**locks, "quoting": "mboxrd"},
            mysql={**database, **locks, "lease_seconds": 5},
            lmtp={"listen": [f"unix:{self.lmtp}"]},
        )
        server.configuration["accounts"] = [
            {"driver": "passwd_file", "path": "users"},
            {"driver": "sqlite", "path": "accounts.sqlite"},
            {"driver": "mysql", "preset": "tpops-v2", **database},
        ]
        server.write_configuration()
        self._make_accounts()
        return server

    @property
    def lmtp(self) -> str:
        """The path of the socket for deliveries."""
        return str(self.directory / "lmtp")

    def _make_accounts(self) -> None:
        in_file = [box for box in self.boxes.values() if box.source == "passwd_file"]
        lines = [f"{box.name}:{{PLAIN}}{PASSWORD}::::/nowhere::userdb_mail={box.location}\n" for box in in_file]
        (self.directory / "users").write_text("".join(lines))
        self.mariadb.run("CREATE DATABASE soak CHARACTER SET utf8mb4")
        for name in ("accounts", "mail"):
            self.mariadb.script(SCHEMAS / f"mysql-v2-{name}.sql", "soak")
        sqlite.create(str(self.directory / "accounts.sqlite"))
        with contextlib.closing(sqlite3.connect(self.directory / "accounts.sqlite")) as accounts:
            for box in self.boxes.values():
                row = (box.name, box.location, f"{{PLAIN}}{PASSWORD}")
                if box.source == "sqlite":
                    accounts.execute(
                        "INSERT INTO users (name, maildrop, password_hash, created_at, changed_at) "
                        "VALUES (?, ?, ?, 0, 0)",
                        row,
                    )
                elif box.source == "mysql":
                    with self.mariadb.connection("soak") as connection:
                        connection.cursor().execute(
                            "INSERT INTO tpops_user (name, maildrop, password_hash, created_at, changed_at) "
                            "VALUES (%s, %s, %s, 0, 0)",
                            row,
                        )
            accounts.commit()

    # The process.

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        key, _, value = self._marker.partition("=")
        environment = {**self.clock.environment, key: value}
        environment.pop(_INSIDE, None)
        self.server.start(env=environment)

    def ended(self) -> None:
        """Keep what the server has said, and wait until its last process is gone."""
        self.output.append(self.server.output())
        wait_until(lambda: not self.processes(), "all processes of the server end")

    def processes(self) -> list[int]:
        """All processes of the server, also those whose parent is gone."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._marker.encode() in (path / "environ").read_bytes().split(b"\0"):
                    found.append(int(path.name))
        return found

    def workers(self) -> list[int]:
        """The workers, by number."""
        found = self.server.workers()
        return sorted(found, key=found.__getitem__)

    def measure(self) -> list[Process]:
        """What each process holds."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                memory = re.search(r"VmRSS:\s+(\d+) kB", status)
                role = "supervisor" if pid == self.server.pid else "worker" if pid in self.workers() else "other"
                descriptors = len(os.listdir(f"/proc/{pid}/fd"))
                found.append(Process(role, descriptors, int(memory[1]) / 1024 if memory else 0.0))
        return sorted(found, key=lambda one: one.role)

    # What is done to it.

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """Leave no octet on the small disk."""
        assert self.small is not None
        filler = self.small / "filler"
        try:
            with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            yield
        finally:
            filler.unlink()

    # What is in it.

    def stored(self, box: Box) -> list[tuple[str, str]]:
        """Token and hash of every message of a mailbox."""
        if box.kind == "maildir":
            return stores.identified(stores.in_maildir(box.path))
        if box.kind == "mbox":
            return stores.identified(self.spools[box.name].stored())
        return stores.identified(stores.in_database(self.mariadb, "soak", box.name))

    def temporaries(self) -> list[Path]:
        """What lies in the directories tmp of Maildirs."""
        return [path for box in self.boxes.values() if box.kind == "maildir" for path in (box.path / "tmp").iterdir()]

    def locks(self) -> list[str]:
        """Locks that somebody holds when nobody should."""
        found = [f"dotlock {path}" for path in (self.directory / "spools").glob("*.lock")]
        inodes = {}
        for top in (self.directory, self.small):
            for path in top.rglob("*") if top is not None else ():
                with contextlib.suppress(OSError):
                    status = path.stat()
                    inodes[f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"] = path
        pids = set(self.processes())
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.replace("-> ", "").split()
            path = inodes.get(words[5])
            # SQLite holds one as long as a database is open.
            if (
                path is not None
                and not path.name.startswith("accounts.sqlite")
                and (int(words[4]) in pids or words[1] == "OFDLCK")
            ):
                found.append(f"{words[1]} {words[3]} on {path}")
        return found
