"""
What goes wrong: one fault after the other, in an order that the seed decides, each kind as often as the others.

Every fault ends with everything running again.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable

from tests.integration.server import PATIENCE_SECONDS, wait_until
from tests.soak.ledger import Ledger
from tests.soak.world import WORKERS, World

#: Seconds that clocks are wrong by.
_JUMPS = (3600, -3600, 86_400 * 40, -86_400 * 3)


class Faults:
    """See the module; one thread."""

    def __init__(self, world: World, ledger: Ledger, chance: random.Random) -> None:
        self.world = world
        self.ledger = ledger
        self.chance = chance
        self.stop = threading.Event()
        self.kills = 0

    def run(self, stop: threading.Event, pause_seconds: float) -> None:
        """Until it is told to stop."""
        self.stop = stop
        while not stop.is_set():
            kinds = [kind for kind in KINDS if kind not in self.world.left_out]
            self.chance.shuffle(kinds)
            for kind in kinds:
                if stop.wait(self.chance.uniform(0.5, 1.5) * pause_seconds):
                    return
                self.inject(kind)

    def inject(self, kind: str) -> None:
        """Let it happen, and everything run again."""
        self.ledger.write("fault", kind=kind)
        KINDS[kind](self)
        self.ledger.write("fault is over", kind=kind)
        self.ledger.count("faults", kind)

    def _hold(self, least: float, most: float) -> None:
        self.stop.wait(self.chance.uniform(least, most))

    # The kinds.

    def kill_worker(self) -> None:
        """kill -9 of a worker."""
        wait_until(lambda: len(self.world.workers()) == WORKERS, "all workers are there")
        victim = self.chance.choice(self.world.workers())
        self.kills += 1
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in self.world.workers() and len(self.world.workers()) == WORKERS, "a new worker")

    def reload(self) -> None:
        """HUP with another configuration."""
        server = self.world.server
        server.configuration["protocol"]["greeting"] = f"tpops soaks {self.chance.random()}"
        server.write_configuration()
        before = server.output().count("reloaded ")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: server.output().count("reloaded ") > before, "the new configuration is in force")

    def drain(self) -> None:
        """TERM, and a start."""
        self.world.server.stop()
        self._again()

    def kill_server(self) -> None:
        """kill -9 of the first process, and now and then of all; its workers end by themselves."""
        assert self.world.server.process is not None
        self.kills += WORKERS
        everybody = self.world.processes() if self.chance.random() < 0.5 else [self.world.server.pid]
        for pid in everybody:
            os.kill(pid, signal.SIGKILL)
        self.world.server.process.wait(PATIENCE_SECONDS)
        self._again()

    def _again(self) -> None:
        self.world.ended()
        self._hold(0, 1)
        self.world.start()

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
        """The server's clock is wrong for a while."""
        seconds = self.chance.choice(_JUMPS)
        self.ledger.write("clock", seconds=seconds)
        self.world.clock.jump(seconds)
        try:
            self._hold(2, 5)
        finally:
            self.world.clock.jump(0)


#: Every kind of fault.
KINDS: dict[str, Callable[[Faults], None]] = {
    "worker killed": Faults.kill_worker,
    "HUP": Faults.reload,
    "TERM and start": Faults.drain,
    "server killed": Faults.kill_server,
    "database killed": Faults.kill_database,
    "database hangs": Faults.hang_database,
    "full disk": Faults.full_disk,
    "clock jump": Faults.jump_clock,
}
