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

import attrs

from tests.integration.server import wait_until
from tests.soak import report, tables
from tests.soak.boxes import Box
from tests.soak.clients import Client, kinds
from tests.soak.deliverers import COMMAND, MTA, Deliverer
from tests.soak.faults import SHARED, Faults, needed
from tests.soak.gauges import Gauges
from tests.soak.ledger import UNKNOWN, Ledger
from tests.soak.session import Refused
from tests.soak.sites import Process, Site, until
from tests.soak.world import World

#: Seconds in which what was begun has to end.
_END_SECONDS = 150.0

#: Seconds in which every fault has to happen once, however short the soak is.
_ROUND_SECONDS = 300.0

#: Seconds between two lines on how it goes.
_TELL_SECONDS = 30.0

#: Seconds between two looks at what the processes hold.
_LOOK_SECONDS = 5.0

#: Seconds between two starts of tpops-store: each needs half a second of a processor, which is the others' then.
_COMMAND_SECONDS = 3.0

#: Mailboxes that are enough for every kind of mail and accounts.
_LEAST_BOXES = 20

#: Mailboxes that a client looks after.
_BOXES_EACH = 3


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
        self.world = World(max(_LEAST_BOXES, plan.clients // 2))
        self.interrupted = False
        self.gauges = Gauges(self.world.measured)
        self.faults: list[Faults] = []
        self.storm_seconds = 0.0

    def run(self) -> int:
        """The exit status."""
        try:
            self.world.make()
            self.ledger = Ledger(self.world.directory / "ledger", list(self.world.boxes))
            all_kinds = needed(self.world)
            for name in (*self.world.sites, SHARED):
                chance = random.Random(f"{self.plan.seed} faults of {name}")
                self.faults.append(Faults(name, self.world, self.ledger, chance, self.plan.seconds, all_kinds))
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
        for line in report.lines(world, self.ledger, self.gauges, self.storm_seconds, self.plan.seed):
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
        deliverer = Deliverer(self.world, self.ledger, random.Random(f"{self.plan.seed} first"), MTA)
        for box in self.world.boxes.values():
            for _ in range(2):
                deliverer.deliver(box)
        self._visit()
        self.gauges.first = self._measured()

    def _storm(self) -> None:
        """Clients, deliveries and faults, all at once."""
        stop = threading.Event()
        threads = [threading.Thread(target=self._guard, args=(*work, stop), daemon=True) for work in self._works()]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        try:
            self._watch(began)
        finally:
            stop.set()
            self.storm_seconds = time.monotonic() - began
            self.say("the storm is over, waiting for what was begun")
            self._join(threads)

    def _works(self) -> list[tuple[Callable[[threading.Event, float], None], float]]:
        """What goes on at the same time, each with the seconds between two of what it does."""
        seed, clients = self.plan.seed, self.plan.clients
        pause = max(0.5, clients / 60)
        works: list[tuple[Callable[[threading.Event, float], None], float]] = []
        for number, (kind, boxes) in enumerate(zip(kinds(clients), self._shares(clients), strict=True)):
            chance = random.Random(f"{seed} client {number}")
            works.append((Client(kind, boxes, self.world, self.ledger, chance).run, pause))
        deliverers = [MTA] * max(2, clients // 6) + [COMMAND]
        for number, ways in enumerate(deliverers):
            deliverer = Deliverer(self.world, self.ledger, random.Random(f"{seed} deliverer {number}"), ways)
            works.append((deliverer.run, _COMMAND_SECONDS if ways == COMMAND else pause / 4))
        for one in self.faults:
            # What all servers share is broken for everybody: without it hardly any work is done.
            works.append((one.run, max(3.0 if one.name == SHARED else 0.5, min(12.0, self.plan.seconds / 60))))
        works.append((self.gauges.run, _LOOK_SECONDS))
        return works

    def _shares(self, clients: int) -> list[list[Box]]:
        """Some mailboxes for each client, all of them as often as the others."""
        chance, shares = random.Random(f"{self.plan.seed} shares"), list[list[Box]]()
        pile: list[Box] = []
        for _ in range(clients):
            share: list[Box] = []
            while len(share) < _BOXES_EACH:
                if not pile:
                    pile = list(self.world.boxes.values())
                    chance.shuffle(pile)
                share.append(pile.pop())
            shares.append(share)
        return shares

    def _watch(self, began: float) -> None:
        """Wait, and tell now and then how it goes."""
        before, told = report.Totals(), began
        end, last = began + self.plan.seconds, began + self.plan.seconds + _ROUND_SECONDS
        while (now := time.monotonic()) < end or not all(one.over.is_set() for one in self.faults):
            if now > last:
                self.ledger.violated("every fault comes to its end", f"not all within {now - began:.0f} seconds")
                break
            time.sleep(max(0.1, min(1.0, end - now)))
            if now >= told + _TELL_SECONDS:
                totals = report.Totals.of(self.ledger)
                self.say(totals.line(now - began, before, now - told))
                before, told = totals, now

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
        self.gauges.last = self._measured()
        for rule, text in self.gauges.broken():
            self.ledger.violated(rule, text)
        with contextlib.suppress(AssertionError):
            until(lambda: not self.world.locks(), "no locks", 20)
        for lock in self.world.locks():
            self.ledger.violated("no lock is left", lock)
        for path in self.world.foreign():
            self.ledger.violated("mail is its owner's", f"{path} belongs to {path.stat().st_uid}")
        with contextlib.suppress(AssertionError):
            until(lambda: not self.world.zombies(), "no zombies", 20)
        for zombie in self.world.zombies():
            self.ledger.violated("no process is left", f"{zombie}, is a zombie")

    def _visit(self) -> None:
        """Read all mail that there is, by a session in every mailbox."""
        chance = random.Random(f"{self.plan.seed} visits")
        for box in self.world.boxes.values():
            client = Client("visit", [box], self.world, self.ledger, chance)
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
        for site in self.world.sites.values():
            until(lambda: self._calm_at(site), f"{site.name} has {site.crew} and no more")  # noqa: B023
        return self.gauges.look()

    def _calm_at(self, site: Site) -> bool:
        return sorted(one.role for one in site.processes()) == site.crew

    def _stop(self) -> None:
        """The servers end; then the stores are read without them."""
        world, ledger = self.world, self.ledger
        for site in world.sites.values():
            status = site.server.stop()
            site.ended()
            if status != -signal.SIGTERM:
                ledger.violated("TERM ends the server", f"{site.name}: exit status {status}")
        for what, count in tables.left(world.mariadb).items():
            if count:
                ledger.violated(f"no {what}", str(count))
        ledger.settle({name: world.stored(box) for name, box in world.boxes.items()})
        unsure = sum(UNKNOWN in letter.outcomes for letter in ledger.letters.values())
        left = world.temporaries()
        ledger.count("files in tmp of Maildirs", str(len(left)))
        if len(left) > unsure:
            ledger.violated("tmp is empty but for deliveries that were killed", f"{len(left)} files, {unsure} letters")
        for site in world.sites.values():
            for output in site.output:
                for found in output.split("Traceback (most recent call last)")[1:]:
                    ledger.violated("no traceback in the log", f"{site.name}: {found[:2000]}")
        for site in world.sites:
            work = report.work(world, ledger, site)
            if not all(work):
                ledger.violated("there is work for everybody", f"{site}: delivered, retrieved, deleted: {work}")
