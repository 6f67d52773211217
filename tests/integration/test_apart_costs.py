"""What a session in a process of its own costs, and that nothing of it stays."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.integration.apart_case import ApartCase, broker_of, sessions_of, status
from tests.integration.server import RunningServer, wait_until

SESSIONS = 200

#: The promise of docs/separation.md on private memory; and much more than it says of the processor time of a poll.
MOST_PRIVATE_KIB = 4096
MOST_CPU_SECONDS = 0.060


def private_kib(pid: int) -> int:
    """Memory that a process shares with nobody."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(one) for one in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE))


def cpu_seconds(pid: int) -> float:
    """What a process and its children that have ended have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


class CostTests(ApartCase):
    """Many sessions, one after the other."""

    def poll(self, server: RunningServer) -> None:
        """One session, from the greeting to the end."""
        wire = self.session(server)
        wire.command(b"STAT")
        wire.command(b"QUIT")
        self.assertEqual(wire.rest(), b"")

    def test_nothing_is_left_and_it_costs_little(self) -> None:
        """Promise: over 200 sessions no descriptor and no process stays, and the figures of the documentation hold."""
        server = self.server().start()
        self.poll(server)
        sessions_of(server, 0)
        (worker,), broker = server.workers(), broker_of(server)
        # Each session would have it in its memory.
        loaded = Path(f"/proc/{broker}/maps").read_text()
        self.assertNotIn("pydantic_core", loaded)
        self.assertNotIn("cryptography", loaded)
        # It forks as only a process of one thread may.
        self.assertEqual(status(broker)["Threads"], "1")
        before = {pid: descriptors(pid) for pid in (worker, broker)}
        began = cpu_seconds(broker)
        for _ in range(SESSIONS):
            self.poll(server)
        sessions_of(server, 0)
        used = (cpu_seconds(broker) - began) / SESSIONS
        wait_until(lambda: {pid: descriptors(pid) for pid in before} == before, f"descriptors are {before} again")
        wire = self.session(server)
        wire.command(b"STAT")
        (pid,) = sessions_of(server)
        private = private_kib(pid)
        print(f"{used * 1000:.1f} ms of a processor and {private} KiB of private memory a session")
        self.assertLess(private, MOST_PRIVATE_KIB)
        self.assertLess(used, MOST_CPU_SECONDS)
