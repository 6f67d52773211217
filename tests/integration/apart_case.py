"""Servers whose sessions run as the owners of the mail, and accounts of this machine for them."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import RunningServer, wait_until
from tests.integration.test_twistd import reachable_directory
from tests.integration.test_unix_accounts import PROGRAMS, UnixAccount
from tests.integration.wire import Wire
from tests.support import need, need_root

#: Whom the processes run as that talk to clients.
FRONT = "nobody"


class ApartCase(SynchronousTestCase):
    """
    Starts such servers.

    @ivar account: an account of this machine, with a message in ~/Maildir
    """

    timeout = 240

    def setUp(self) -> None:
        need_root(self, "to become the owner of mail")
        need(self, *PROGRAMS)
        self.account = self.make_account()

    def make_account(self) -> UnixAccount:
        """Another one, whose home nobody else can enter."""
        account = UnixAccount(self)
        account.home.chmod(0o700)
        return account

    def server(self, **tables: Any) -> RunningServer:
        """One that is not started."""
        directory = reachable_directory(self)
        tables["server"] = {"user": FRONT, "workers": 1, **tables.get("server", {})}
        tables["protocol"] = {"auth_delay_seconds": 0.05, "auth_tries": 100, **tables.get("protocol", {})}
        tables["sessions"] = {"run_as": "owner", **tables.get("sessions", {})}
        server = RunningServer(self, directory, users={}, **tables)
        server.configuration["accounts"] = [{"driver": "shadow"}]
        entry = pwd.getpwnam(FRONT)
        os.chown(directory, entry.pw_uid, entry.pw_gid)
        return server

    def session(self, server: RunningServer, account: UnixAccount | None = None) -> Wire:
        """One that has logged in."""
        account = account or self.account
        return server.session(account.name, account.password)

    def answer(self, server: RunningServer, name: str, password: str) -> bytes:
        """What the client gets for PASS, on a connection of its own."""
        wire = server.connect()
        wire.line()
        wire.command(f"USER {name}".encode())
        answer = wire.command(f"PASS {password}".encode())
        wire.command(b"QUIT")
        return answer


def processes(module: str, parent: int) -> list[int]:
    """The processes of a module of ours that a process has started."""
    found = []
    for pid in children(parent):
        with contextlib.suppress(OSError):
            if f"tpops.process.{module}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def children(parent: int) -> list[int]:
    """The processes that a process has started and that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, above = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(above) == parent and state != "Z":
                found.append(int(path.name))
    return found


def broker_of(server: RunningServer) -> int:
    """The broker of the first worker."""
    (worker,) = server.workers()
    (broker,) = processes("broker", worker)
    return broker


def sessions_of(server: RunningServer, count: int = 1) -> list[int]:
    """The processes of the sessions that run, when there are so many."""

    def found() -> list[int]:
        broker = broker_of(server)
        judges = processes("judge", broker)
        return [pid for pid in children(broker) if pid not in judges]

    result: list[int] = wait_until(lambda: len(found()) == count and (found() or [0]), f"{count} sessions")
    return [pid for pid in result if pid]


def status(pid: int) -> dict[str, str]:
    """What /proc/PID/status says."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
