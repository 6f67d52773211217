"""All of the soak in order: warming up, the storm, and what is left when it is over."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from tests.integration.server import wait_until
from tests.soak import report, stores
from tests.soak.clients import Client, kinds
from tests.soak.deliverers import Deliverer
from tests.soak.faults import Faults
from tests.soak.ledger import UNKNOWN, Ledger
from tests.soak.session import Refused
from tests.soak.world import WORKERS, Process, World

#: How many more descriptors a process may have at the end: connections to the database that wait for work.
_MORE_DESCRIPTORS = 14

#: How much more memory it may take.
_MORE_MIB = 48

#: Seconds in which what was begun has to end.
_END_SECONDS = 150.0


@attrs.frozen
class Plan:
    """What was asked for."""

    seconds: float
    clients: int
    seed: int
    keep: bool


class Soak:
    """See the module."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.say = say
        self.world = World(max(9, plan.clients // 2))
        self.interrupted = False
        self.before: Sequence[Process] = ()
        self.after: Sequence[Process] = ()

    def run(self) -> int:
        """The exit status."""
        try:
            self.world.make()
            self.ledger = Ledger(self.world.directory / "ledger", list(self.world.boxes))
            self.faults = Faults(self.world, self.ledger, random.Random(f"{self.plan.seed} faults"))
            self._work()
        except KeyboardInterrupt:
            self.say("interrupted, ending what was started")
            self.interrupted = True
        finally:
            # A second Ctrl-C must not leave anything behind.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            self.world.close()
        return self._told()

    def _work(self) -> None:
        """What may go wrong."""
        world = self.world
        self.say(f"seed {self.plan.seed}, {self.plan.clients} clients, everything is in {world.directory}")
        try:
            world.start()
            self._warm_up()
            self._storm()
            self._calm()
            self._stop()
        except Exception:
            self.ledger.violated("the soak comes to its end", traceback.format_exc())

    def _told(self) -> int:
        """The report, and the exit status."""
        world = self.world
        if self.interrupted and not self.plan.keep:
            shutil.rmtree(world.directory)
            return 130
        for line in report.lines(world, self.ledger, self.before, self.after, self.plan.seed):
            self.say(line)
        self.ledger.close()
        if self.ledger.violations or self.plan.keep:
            self.say(f"the ledger is {world.directory / 'ledger'}")
        else:
            shutil.rmtree(world.directory)
        return 1 if self.ledger.violations else 0

    # The parts.

    def _warm_up(self) -> None:
        """Mail for everybody and a session in every mailbox; then the beginning is measured."""
        deliverer = Deliverer(self.world, self.ledger, random.Random(f"{self.plan.seed} first"))
        for box in self.world.boxes.values():
            for _ in range(2):
                deliverer.deliver(box)
        self._visit()
        self.before = self._measured()

    def _storm(self) -> None:
        """Clients, deliveries and faults, all at once."""
        stop = threading.Event()
        seed, boxes = self.plan.seed, list(self.world.boxes.values())
        pause = max(0.2, self.plan.clients / 60)
        works: list[tuple[Callable[[threading.Event, float], None], float]] = []
        for number, kind in enumerate(kinds(self.plan.clients)):
            box = boxes[number % len(boxes)]
            client = Client(kind, box, self.world, self.ledger, random.Random(f"{seed} client {number}"))
            works.append((client.run, pause))
        for number in range(max(2, self.plan.clients // 6)):
            deliverer = Deliverer(self.world, self.ledger, random.Random(f"{seed} deliverer {number}"))
            works.append((deliverer.run, pause / 4))
        works.append((self.faults.run, max(1.0, min(12.0, self.plan.seconds / 40))))
        threads = [threading.Thread(target=self._guard, args=(*work, stop), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        try:
            self._watch(time.monotonic() + self.plan.seconds)
        finally:
            stop.set()
            self.say("the storm is over, waiting for what was begun")
            self._join(threads)

    def _watch(self, end: float) -> None:
        """Wait, and tell now and then how it goes."""
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(30.0, left))
            sessions = sum(n for (kind, _), n in list(self.ledger.counts.items()) if kind.startswith("sessions"))
            faults = sum(n for (kind, _), n in list(self.ledger.counts.items()) if kind == "faults")
            letters, broken = len(self.ledger.letters), len(self.ledger.violations)
            self.say(f"{letters} letters, {sessions} sessions, {faults} faults, {broken} promises broken")

    def _guard(self, work: Callable[[threading.Event, float], None], pause: float, stop: threading.Event) -> None:
        """A thread that ends because of an error is a broken promise too."""
        try:
            work(stop, pause)
        except Exception:
            self.ledger.violated("the soak itself works", traceback.format_exc())

    def _join(self, threads: Sequence[threading.Thread]) -> None:
        end = time.monotonic() + _END_SECONDS
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        left = sum(thread.is_alive() for thread in threads)
        if left:
            self.ledger.violated("everything comes to its end", f"{left} threads still wait for something")

    def _calm(self) -> None:
        """Nothing is broken any more: a session in every mailbox, and nothing is held when they are over."""
        self._visit()
        self.after = self._measured()
        self._compare()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.world.locks(), "no locks", 20)
        for lock in self.world.locks():
            self.ledger.violated("no lock is left", lock)
        for pid in self.world.processes():
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z":
                self.ledger.violated("no process is left", f"{pid} is a zombie")

    def _visit(self) -> None:
        """Read all mail that there is, by a session in every mailbox."""
        chance = random.Random(f"{self.plan.seed} visits")
        for box in self.world.boxes.values():
            client = Client("visit", box, self.world, self.ledger, chance)
            wait_until(lambda: self._visited(client), f"a session in {box.name}")  # noqa: B023

    def _visited(self, client: Client) -> bool:
        """Whether it came to a session."""
        try:
            client.keep()
        except (Refused, OSError, EOFError) as error:
            self.ledger.count("visits tried again", str(error)[:40])
            time.sleep(0.2)
            return False
        return True

    def _measured(self) -> Sequence[Process]:
        """What the processes hold when nobody is connected any more."""
        expected = ["supervisor", *["worker"] * WORKERS]
        wait_until(lambda: [one.role for one in self.world.measure()] == expected, f"there are {expected}")
        return self.world.measure()

    def _compare(self) -> None:
        for role in ("supervisor", "worker"):
            first, last = ([one for one in many if one.role == role] for many in (self.before, self.after))
            descriptors = max(one.descriptors for one in first) + _MORE_DESCRIPTORS
            memory = max(one.memory_mib for one in first) + _MORE_MIB
            for one in last:
                if one.descriptors > descriptors:
                    self.ledger.violated("no descriptor is left", f"{one}, at most {descriptors}")
                if one.memory_mib > memory:
                    self.ledger.violated("memory does not grow", f"{one}, at most {memory:.0f} MiB")

    def _stop(self) -> None:
        """The server ends; then the stores are read without it."""
        world, ledger = self.world, self.ledger
        status = world.server.stop()
        world.ended()
        if status != -signal.SIGTERM:
            ledger.violated("TERM ends the server", f"exit status {status}")
        for what, count in stores.left_in_database(world.mariadb, "soak").items():
            if count:
                ledger.violated(f"no {what}", str(count))
        ledger.settle({name: world.stored(box) for name, box in world.boxes.items()})
        unsure = sum(UNKNOWN in letter.outcomes for letter in ledger.letters.values())
        left = world.temporaries()
        ledger.count("files in tmp of Maildirs", str(len(left)))
        if len(left) > unsure:
            ledger.violated("tmp is empty but for deliveries that were killed", f"{len(left)} files, {unsure} letters")
        for output in world.output:
            for found in output.split("Traceback (most recent call last)")[1:]:
                ledger.violated("no traceback in the log", found[:2000])
