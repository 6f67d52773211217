"""
What the servers of the soak share: a database, mailboxes, a disk that can become full, and a clock that can jump.

Everything lies in one directory below /tmp and listens on 127.0.0.1 or UNIX sockets there.  The full disk is a small
tmpfs, which needs a mount namespace of our own (L{namespace}); the clock is that of Python in the processes of
tpops alone.  What cannot be had is in L{World.left_out}, with the reason.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.clock import Clock
from tests.integration.mariadb import MariaDB
from tests.soak import boxes, sites, stores, tables
from tests.soak.boxes import CLASSIC, OWNERS, SITES, Box
from tests.soak.sites import Process, Site
from tests.soak.stores import Spool

_INSIDE = "TPOPS_SOAK_NAMESPACE"

#: Room on the small disk: for each mailbox there, and at least.
_MIB_EACH, _LEAST_MIB = 1, 8


def namespace() -> None:
    """Start this program again in a mount namespace of its own, where that is allowed; once."""
    if os.geteuid() or _INSIDE in os.environ or shutil.which("unshare") is None:
        return
    command = ("unshare", "--mount", "--propagation", "private")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
        os.environ[_INSIDE] = "1"
        os.execvp(command[0], [*command, sys.executable, "-m", "tests.soak", *sys.argv[1:]])


class World:
    """
    See the module.

    @ivar boxes: the mailboxes, by name
    @ivar sites: the servers, by name
    @ivar clock: that of the servers
    @ivar left_out: what cannot be had here, and why: names of faults and servers
    """

    def __init__(self, mailboxes: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tpops-soak-", dir="/tmp"))
        # Owners of mail have to come through.
        self.directory.chmod(0o711)
        self.left_out: dict[str, str] = {}
        self.sites: dict[str, Site] = {}
        self._cleanups: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.small: Path | None = None
        self.clock = Clock(self.directory / "clock")
        self._mailboxes = mailboxes

    def make(self) -> None:
        """The disk, the database, the mailboxes and accounts; call C{close} whatever comes of it."""
        if why_not := _no_owners():
            self.left_out[OWNERS] = why_not
        self.small = self._small_disk()
        made = boxes.boxes(self._mailboxes, self.directory, self.small, self.left_out)
        self.boxes = {box.name: box for box in made}
        self.spools = {box.name: Spool(box.path) for box in made if box.kind == "mbox"}
        self.mariadb = MariaDB()
        self.addCleanup(self._remove_database)
        self.mariadb.start()
        tables.create(self.mariadb)
        for name in SITES:
            if name not in self.left_out:
                self._make_site(name)

    def _make_site(self, name: str) -> None:
        site = self.sites[name] = sites.make(self, name, self.mariadb)
        owners = [box for box in self.boxes.values() if box.site == name]
        group = grp.getgrnam(sites.GROUP).gr_gid if site.apart else 0
        for box in owners:
            box.make(group)
        by_source: dict[str, list[Box]] = {}
        for box in owners:
            by_source.setdefault(box.source, []).append(box)
        if name != CLASSIC:
            boxes.in_file(site.server.directory / "users", by_source.get("passwd_file", ()))
            boxes.in_sqlite(site.server.directory / "accounts.sqlite", by_source.get("sqlite", ()))
        boxes.in_database(self.mariadb, tables.V2, by_source.get("mysql", ()))
        boxes.in_database(self.mariadb, tables.CLASSIC, by_source.get("classic", ()))

    def addCleanup(self, function: Callable[..., object], *arguments: object) -> None:  # as a test case has it
        """Call this at the end; the last one comes first."""
        self._cleanups.append((function, arguments))

    def close(self) -> None:
        """End everything that was started; the directory stays."""
        while self._cleanups:
            function, arguments = self._cleanups.pop()
            function(*arguments)
        for one in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)

    def _remove_database(self) -> None:
        if not self.mariadb.ended():
            self.mariadb.go_on()
        self.mariadb.remove()

    def _small_disk(self) -> Path | None:
        path = self.directory / "small"
        path.mkdir()
        if _INSIDE not in os.environ:
            self.left_out["full disk"] = "needs root and unshare(1) for a tmpfs of its own"
            return None
        size = max(_LEAST_MIB, self._mailboxes // 4 * _MIB_EACH)
        options = f"size={size}m,mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", str(path)])
        # Servers and clients must not think that they are in it, too.
        del os.environ[_INSIDE]
        return path

    # The processes.

    def start(self) -> None:
        """Start all servers."""
        for site in self.sites.values():
            site.start()

    def processes(self) -> list[Process]:
        """Those of all servers."""
        return [one for site in self.sites.values() for one in site.processes()]

    def measured(self) -> list[Process]:
        """The same, with what they hold."""
        return [one for site in self.sites.values() for one in site.measured()]

    def zombies(self) -> list[str]:
        """Processes that have ended, and whose parent, one of the servers' processes, does not care."""
        ours = {one.pid: one for one in self.processes()}
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, above = path.read_text().rpartition(")")[2].split()[:2]
                if state == "Z" and int(above) in ours:
                    found.append(f"{path.parent.name}, of {ours[int(above)]}")
        return found

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
        return stores.identified(tables.stored(self.mariadb, box.kind, box.name))

    def temporaries(self) -> list[Path]:
        """What lies in the directories tmp of Maildirs."""
        return [path for box in self.boxes.values() if box.kind == "maildir" for path in (box.path / "tmp").iterdir()]

    def foreign(self) -> list[Path]:
        """What lies where the owner of the mail has everything, and belongs to somebody else."""
        found = []
        for box in self.boxes.values():
            if box.uid is not None:
                below = [*box.path.rglob("*"), *box.home.rglob("*"), box.path, box.home]
                found += [path for path in below if path.stat().st_uid != box.uid]
        return found

    def locks(self) -> list[str]:
        """Locks that somebody holds when nobody should."""
        found = [f"dotlock {path}" for path in self.directory.glob("*/spools/*.lock")]
        inodes = {}
        for top in (self.directory, self.small):
            for path in top.rglob("*") if top is not None else ():
                with contextlib.suppress(OSError):
                    status = path.stat()
                    inodes[f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"] = path
        pids = {one.pid for one in self.processes()}
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


def _no_owners() -> str:
    """Why there are no sessions that run as the owners of the mail."""
    if os.geteuid():
        return "needs root: only root can become the owner of mail"
    try:
        pwd.getpwnam(sites.FRONT)
        grp.getgrnam(sites.GROUP)
    except KeyError as error:
        return f"this machine has no such user or group: {error}"
    return ""
