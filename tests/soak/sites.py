"""
The servers of the soak: each has a configuration, a directory, processes, and a number of workers.

    workers   several workers; mail in Maildirs, spools and our own tables
    owners    one worker with a broker and a judge, and sessions that run as the owners of the mail
    classic   several workers; mail and accounts in TPOPS' tables; its first process is never ended
    single    one process, which is never ended; mail as in C{workers}, in the same tables
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tests.integration.clock import Clock
from tests.integration.mariadb import MariaDB
from tests.integration.server import PATIENCE_SECONDS, RunningServer, program
from tests.pki import self_signed
from tests.soak import tables
from tests.soak.boxes import CLASSIC, OWNERS, SINGLE, WORKERS

if TYPE_CHECKING:
    from tests.soak.world import World

#: How many workers each has; 0 is one process without any.
CREWS: Mapping[str, int] = {WORKERS: 2, OWNERS: 1, CLASSIC: 2, SINGLE: 0}

#: Whom those processes run as that talk to clients, where sessions run as the owners of the mail.
FRONT = "nobody"

#: The group that may make files where spools are.
GROUP = "mail"

_MARK = "TPOPS_SOAK"

_LOCAL = {"address": "127.0.0.1", "port": 0}
_LOCKS = {"lock_wait_seconds": 1, "cache_mib": 8}


def until(condition: Callable[[], Any], what: str, seconds: float = 3 * PATIENCE_SECONDS) -> Any:
    """As wait_until, but many threads may wait so at the same time without the machine having nothing else to do."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} seconds: {what}")
        time.sleep(0.1)
    return found


@attrs.frozen
class Process:
    """
    What a process of a server holds.

    @ivar role: "server", "supervisor", "worker", "broker", "judge", "session" or "other"
    @ivar started: when, in ticks: tells it from another with the same number
    """

    site: str
    role: str
    pid: int
    started: int
    descriptors: int = 0
    memory_mib: float = 0.0


class Site:
    """
    See the module.

    @ivar workers: how many there are
    @ivar output: what former runs have said
    """

    def __init__(self, name: str, server: RunningServer, clock: Clock) -> None:
        self.name = name
        self.server = server
        self.workers = CREWS[name]
        self.output: list[str] = []
        self._clock = clock
        self._mark = f"{secrets.token_hex(8)}-{name}"
        self._marker = f"{_MARK}={self._mark}".encode()

    @property
    def apart(self) -> bool:
        """Whether sessions are processes of their owners."""
        return self.name == OWNERS

    @property
    def lmtp(self) -> str:
        """The path of the socket for deliveries, where there is one."""
        return "" if self.apart else str(self.server.directory / "lmtp")

    @property
    def crew(self) -> list[str]:
        """The roles of the processes that there are when nobody is connected."""
        if not self.workers:
            return ["server"]
        each = ["broker", "judge", "worker"] if self.apart else ["worker"]
        return sorted([*each * self.workers, "supervisor"])

    # The process.

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.server.start(env={**self._clock.environment, _MARK: self._mark})

    def ended(self) -> None:
        """Keep what the server has said, and wait until its last process is gone."""
        self.output.append(self.server.output())
        until(lambda: not self.processes(), f"all processes of {self.name} end")

    def said(self, text: str) -> int:
        """How often this run of the server has said something."""
        return self.server.output().count(text)

    def processes(self, *roles: str) -> list[Process]:
        """All of its processes, also those whose parent is gone; or those with these roles."""
        words: dict[int, list[bytes]] = {}
        stats: dict[int, list[str]] = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._marker in (path / "environ").read_bytes().split(b"\0"):
                    pid = int(path.name)
                    stats[pid] = (path / "stat").read_text().rpartition(")")[2].split()
                    words[pid] = (path / "cmdline").read_bytes().split(b"\0")
        found = [Process(self.name, self._role(pid, stats, words), pid, int(stats[pid][19])) for pid in words]
        return [one for one in found if not roles or one.role in roles]

    def serving(self) -> list[int]:
        """The processes that clients talk to; those that only begin do not answer yet."""
        command = [program("tpops"), "-c", str(self.server.configuration_file), "stats", "--json"]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        return [one["pid"] for one in json.loads(done.stdout)["processes"]] if done.returncode == 0 else []

    def _role(self, pid: int, stats: Mapping[int, list[str]], words: Mapping[int, list[bytes]]) -> str:
        if self.server.process is not None and pid == self.server.pid:
            return "supervisor" if self.workers else "server"
        for role in ("worker", "judge", "broker"):
            module = f"tpops.process.{role}".encode()
            if module in words[pid]:
                # A session is a broker that was forked.
                above = words.get(int(stats[pid][1]), ())
                return "session" if role == "broker" and module in above else role
        return "other"

    def measured(self) -> list[Process]:
        """All of its processes, with what they hold."""
        found = []
        for one in self.processes():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{one.pid}/status").read_text()
                memory = re.search(r"RssAnon:\s+(\d+) kB", status)
                descriptors = len(os.listdir(f"/proc/{one.pid}/fd"))
                mib = int(memory[1]) / 1024 if memory else 0.0
                found.append(attrs.evolve(one, descriptors=descriptors, memory_mib=mib))
        return sorted(found, key=lambda one: one.role)

    def whole(self, without: int = 0) -> bool:
        """Whether there are as many processes of every role as there should be, that one not among them."""
        there = [one for one in self.processes() if one.role != "session" and one.pid != without]
        return sorted(one.role for one in there) == self.crew


def make(world: World, name: str, mariadb: MariaDB) -> Site:
    """One of them, not started; its accounts are to be made."""
    directory = world.directory / name
    directory.mkdir(exist_ok=True)
    certificate, key = self_signed("127.0.0.1")
    pem = directory / "certificate.pem"
    pem.touch(0o600)
    pem.write_bytes(certificate + key)
    listen = [{**_LOCAL, "tls": "optional"}, {**_LOCAL, "tls": "implicit"}]
    server = RunningServer(world, directory, users={}, listen=listen, **_settings(name, directory, mariadb))
    database = _database(name, mariadb)
    accounts: list[dict[str, Any]] = [{"driver": "passwd_file", "path": "users"}]
    accounts += [{"driver": "sqlite", "path": "accounts.sqlite"}]
    if name == CLASSIC:
        accounts = [{"driver": "mysql", "preset": "tpops-classic", **database}]
    elif name != OWNERS:
        accounts.append({"driver": "mysql", "preset": "tpops-v2", **database})
    server.configuration["accounts"] = accounts
    server.write_configuration()
    return Site(name, server, world.clock)


def _database(name: str, mariadb: MariaDB) -> dict[str, Any]:
    schema = tables.CLASSIC if name == CLASSIC else tables.V2
    return {"servers": [mariadb.unix], "user": "admin", "password": "admin's word", "database": schema}


def _settings(name: str, directory: Path, mariadb: MariaDB) -> dict[str, Any]:
    """The tables of its configuration, without accounts."""
    settings: dict[str, Any] = {
        "server": {"workers": CREWS[name] or 1, "drain_seconds": 3},
        "tls": {"certificate": "certificate.pem"},
        "protocol": {"auth_delay_seconds": 0.1, "auth_delay_max_seconds": 0.1},
        "limits": {"connections_per_address": 0},
        "maildir": _LOCKS,
        "mbox": {**_LOCKS, "quoting": "mboxrd"},
    }
    if name == OWNERS:
        settings["server"]["user"] = FRONT
        settings["sessions"] = {"run_as": "owner", "groups": [GROUP], "minimum_uid": 60_000}
        entry = pwd.getpwnam(FRONT)
        os.chown(directory, entry.pw_uid, entry.pw_gid)
        return settings
    settings["lmtp"] = {"listen": [f"unix:{directory / 'lmtp'}"]}
    settings["mysql"] = {**_database(name, mariadb), **_LOCKS, "lease_seconds": 5}
    if name == CLASSIC:
        settings["mail"] = {"location": "mysql:"}
        settings["mysql"] |= {"schema": "classic", "keep_seconds": 15}
    return settings
