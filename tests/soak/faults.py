"""
What goes wrong: each server has faults of its own, one after the other, in an order that the seed decides, each kind as
often as the others; and so has what they share.  Faults of different servers come at the same time.

Every fault ends with everything running again.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from tests.integration.descriptors import few_descriptors
from tests.integration.server import PATIENCE_SECONDS
from tests.soak.boxes import CLASSIC, OWNERS, SINGLE, WORKERS
from tests.soak.ledger import Ledger
from tests.soak.sites import Site, until
from tests.soak.world import World

#: Seconds that clocks are wrong by.
_JUMPS = (3600, -3600, 86_400 * 40, -86_400 * 3)

#: The faults of what all servers share.
SHARED = "shared"

#: Descriptors that a process may still open.
_FEW = 3


def needed(world: World) -> set[str]:
    """All kinds that there are here."""
    places = (kinds for name, kinds in PLACES.items() if name not in world.left_out)
    return {kind for kinds in places for kind in kinds} - set(world.left_out)


class Faults:
    """
    Those of one server, or of what all share; one thread.

    @ivar name: whose
    @ivar over: whether it has come to its end
    @param seconds: how long; each kind happens once at one of the servers, however short that is
    @param needed: the kinds that have happened nowhere yet, which all share
    """

    def __init__(
        self, name: str, world: World, ledger: Ledger, chance: random.Random, seconds: float, needed: set[str]
    ) -> None:
        self.name = name
        self.world = world
        self.ledger = ledger
        self.chance = chance
        self.stop = threading.Event()
        self.over = threading.Event()
        self._needed = needed
        self._seconds = seconds

    @property
    def site(self) -> Site:
        """The server."""
        return self.world.sites[self.name]

    def run(self, stop: threading.Event, pause_seconds: float) -> None:
        """Until it is told to stop, or the time is over."""
        self.stop = stop
        try:
            self._run(time.monotonic() + self._seconds, pause_seconds)
        finally:
            self.over.set()

    def _run(self, end: float, pause_seconds: float) -> None:
        kinds = [kind for kind in PLACES[self.name] if kind not in self.world.left_out]
        while time.monotonic() < end or self._needed.intersection(kinds):
            self.chance.shuffle(kinds)
            if self._needed.intersection(kinds):
                # What happens nowhere else comes first.
                kinds.sort(key=lambda kind: sum(kind in place for place in PLACES.values()))
            for kind in kinds:
                if self.stop.wait(self.chance.uniform(0.5, 1.5) * pause_seconds):
                    return
                if time.monotonic() < end or kind in self._needed:
                    self.inject(kind)

    def inject(self, kind: str) -> None:
        """Let it happen, and everything run again."""
        self._needed.discard(kind)
        self.ledger.write("fault", kind=kind, where=self.name)
        KINDS[kind](self)
        self.ledger.write("fault is over", kind=kind, where=self.name)
        self.ledger.count(f"faults of {self.name}", kind)

    def _hold(self, least: float, most: float) -> None:
        self.stop.wait(self.chance.uniform(least, most))

    # What is killed.

    def _kill_one(self, role: str) -> int:
        """kill -9 of a process with this role; its number."""
        site = self.site
        while True:
            victim = self.chance.choice(until(lambda: site.processes(role), f"a {role} of {site.name}")).pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                return victim

    def _kill_and_wait(self, role: str) -> None:
        until(self.site.whole, f"all processes of {self.name} are there")
        victim = self._kill_one(role)
        until(lambda: self.site.whole(without=victim), f"another {role} of {self.name}")

    def kill_worker(self) -> None:
        """kill -9 of a worker."""
        self._kill_and_wait("worker")

    def kill_broker(self) -> None:
        """kill -9 of a broker: its worker can let nobody in any more."""
        self._kill_and_wait("broker")

    def kill_judge(self) -> None:
        """kill -9 of a judge."""
        self._kill_and_wait("judge")

    def kill_session(self) -> None:
        """kill -9 of a session's process; nobody else notices."""
        self._kill_one("session")

    def kill_server(self) -> None:
        """kill -9 of the first process, and now and then of all; its workers end by themselves."""
        server = self.site.server
        assert server.process is not None
        everybody = [one.pid for one in self.site.processes()] if self.chance.random() < 0.5 else [server.pid]
        for pid in everybody:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.process.wait(PATIENCE_SECONDS)
        self._again()

    def _again(self) -> None:
        self.site.ended()
        self._hold(0, 1)
        self.site.start()

    # Signals.

    def _send(self, number: int, *answers: str) -> None:
        """Send the first process a signal, and wait until it has said all of this once more."""
        site = self.site
        before = {answer: site.said(answer) for answer in (*answers, *_REFUSALS)}
        os.kill(site.server.pid, number)

        def told() -> bool:
            refused = [answer for answer in _REFUSALS if site.said(answer) > before[answer]]
            if refused:
                self.ledger.violated("signals do what they are for", f"{self.name}: {site.server.output()[-2000:]}")
            return bool(refused) or all(site.said(answer) > before[answer] for answer in answers)

        until(told, f"{self.name} has done what signal {number} asks for")

    def reload(self) -> None:
        """HUP with another configuration."""
        server = self.site.server
        server.configuration["protocol"]["greeting"] = f"tpops soaks {self.chance.random()}"
        server.write_configuration()
        self._send(signal.SIGHUP, "reloaded ")

    def upgrade(self) -> None:
        """USR2: the program takes its own place."""
        self._send(signal.SIGUSR2, "upgraded: ", "reloaded ")

    def rotate(self) -> None:
        """The logs are moved away, and USR1."""
        server = self.site.server
        logs = (server.access_log, server.json_log)
        for log in logs:
            if log.exists():
                log.rename(log.with_name(f"{log.name}.{self.chance.randrange(1 << 32):08x}"))
        os.kill(server.pid, signal.SIGUSR1)
        until(lambda: all(log.exists() for log in logs), f"{self.name} writes new logs")

    def drain(self) -> None:
        """TERM, and a start."""
        self.site.server.stop()
        self._again()

    # What is lacking.

    def no_descriptors(self) -> None:
        """A process that talks to clients can open a few descriptors and no more."""
        site = self.site
        pid = self.chance.choice(until(site.serving, f"a process of {site.name} answers"))
        with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError), few_descriptors(pid, _FEW):
            self._hold(1, 4)

    def kill_database(self) -> None:
        """kill -9 of MariaDB, and a start."""
        self.world.mariadb.kill()
        self._hold(0.5, 3)
        self.world.mariadb.start()

    def hang_database(self) -> None:
        """MariaDB does nothing for some seconds."""
        self.world.mariadb.hang()
        try:
            self._hold(1, 4)
        finally:
            self.world.mariadb.go_on()

    def full_disk(self) -> None:
        """The small disk has no octet left."""
        with self.world.full_disk():
            self._hold(2, 5)

    def jump_clock(self) -> None:
        """The servers' clock is wrong for a while."""
        seconds = self.chance.choice(_JUMPS)
        self.ledger.write("clock", seconds=seconds)
        self.world.clock.jump(seconds)
        try:
            self._hold(2, 5)
        finally:
            self.world.clock.jump(0)


#: What a server says that does not do what a signal asks for.
_REFUSALS = ("reload-failed", "upgrade-refused")

#: Every kind of fault.
KINDS: Mapping[str, Callable[[Faults], None]] = {
    "worker killed": Faults.kill_worker,
    "broker killed": Faults.kill_broker,
    "judge killed": Faults.kill_judge,
    "session killed": Faults.kill_session,
    "server killed": Faults.kill_server,
    "TERM and start": Faults.drain,
    "HUP": Faults.reload,
    "USR1": Faults.rotate,
    "USR2": Faults.upgrade,
    "descriptors run out": Faults.no_descriptors,
    "database killed": Faults.kill_database,
    "database hangs": Faults.hang_database,
    "full disk": Faults.full_disk,
    "clock jump": Faults.jump_clock,
}

_ALL = ("worker killed", "server killed", "TERM and start", "HUP", "USR1", "USR2", "descriptors run out")

#: Which of them happen where: what lives long must not be killed.
PLACES: Mapping[str, Sequence[str]] = {
    WORKERS: _ALL,
    OWNERS: (*_ALL, "broker killed", "judge killed", "session killed"),
    CLASSIC: ("worker killed", "HUP", "USR1", "USR2", "descriptors run out"),
    SINGLE: ("HUP", "USR1", "descriptors run out"),
    SHARED: ("database killed", "database hangs", "full disk", "clock jump"),
}
