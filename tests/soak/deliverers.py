"""
Who brings mail: an MTA that speaks LMTP, the command tpops-store, and programs that write to Maildirs, spools and
TPOPS' tables themselves.

A letter is in the ledger before it is handed over.  The MTA hands a letter over again when it did not hear what became
of it, as MTAs do; then it may be there twice.
"""

from __future__ import annotations

import itertools
import os
import random
import smtplib
import subprocess
import threading
from collections.abc import Mapping

from tests.integration.server import program
from tests.soak import stores, tables
from tests.soak.boxes import Box
from tests.soak.ledger import ACCEPTED, REFUSED, UNKNOWN, Ledger, Letter
from tests.soak.letters import known, make
from tests.soak.world import World

#: Most messages in a mailbox.
_MOST = 40

#: Longest wait for an answer.
_ANSWER_SECONDS = 60.0

#: Ways of bringing mail, with how often each is gone: to a server and to files, or by the command.
MTA: Mapping[str, int] = {"lmtp": 2, "file": 1}
COMMAND: Mapping[str, int] = {"store": 1}


class Deliverer:
    """
    One of them, a thread.

    @param ways: L{MTA} or L{COMMAND}
    """

    _numbers = itertools.count(1)

    def __init__(self, world: World, ledger: Ledger, chance: random.Random, ways: Mapping[str, int]) -> None:
        self.world = world
        self.ledger = ledger
        self.chance = chance
        self._ways = ways
        self._boxes = list(world.boxes.values())

    def run(self, stop: threading.Event, pause_seconds: float) -> None:
        """One letter after the other."""
        while not stop.wait(self.chance.uniform(0, 2 * pause_seconds)):
            box = self.chance.choice(self._boxes)
            if self.ledger.room(box.name, _MOST):
                outcome = self.deliver(box)
                if outcome == REFUSED:
                    stop.wait(0.5)

    def deliver(self, box: Box) -> str:
        """Bring somebody a letter in one of the ways that there are for him; what came of it."""
        token = f"{next(self._numbers)}-{self.chance.randrange(1 << 32):08x}"
        octets = make(token, self.chance)
        letter = Letter(token, box.name, known(octets)[1], len(octets))
        way = self._way(box)
        self.ledger.offered(letter, way)
        if way == "lmtp":
            self._by_lmtp(letter, box, octets)
            # Unique-ids of spools are made from the message: two that are the same are told apart by their order.
            if letter.outcomes == [UNKNOWN] and box.kind != "mbox":
                self.ledger.offered(letter, "lmtp again")
                self._by_lmtp(letter, box, octets)
        elif way == "store":
            self._by_command(letter, box, octets)
        else:
            self._by_file(letter, box, octets)
            way = f"file, {box.kind}"
        self.ledger.count(f"deliveries, {way}", letter.outcomes[-1])
        return letter.outcomes[-1]

    def _way(self, box: Box) -> str:
        """One of those that there are for him."""
        possible = dict(self._ways)
        if not self.world.sites[box.site].lmtp:
            possible.pop("lmtp", None)
        if box.kind == "mysql":
            possible.pop("file", None)
        return self.chance.choices(list(possible), list(possible.values()))[0]

    def _by_lmtp(self, letter: Letter, box: Box, octets: bytes) -> None:
        sent = False
        client = smtplib.LMTP(timeout=_ANSWER_SECONDS)
        try:
            client.connect(self.world.sites[box.site].lmtp)
            client.ehlo("soak")
            for verb, answer in (("MAIL", client.mail("soak@example.org")), ("RCPT", client.rcpt(letter.mailbox))):
                if answer[0] != 250:
                    self._refused(letter, answer[0], f"{verb}: {answer[1]!r}")
                    return
            sent = True
            code, text = client.data(octets.replace(b"\n", b"\r\n"))
        except (OSError, smtplib.SMTPException) as error:
            outcome = UNKNOWN if sent else REFUSED
            self.ledger.answered(letter, outcome, f"the connection broke: {type(error).__name__}")
        else:
            if code == 250:
                self.ledger.answered(letter, ACCEPTED)
            else:
                self._refused(letter, code, f"DATA: {text!r}")
        finally:
            client.close()

    def _refused(self, letter: Letter, code: int, text: str) -> None:
        if code >= 500:
            self.ledger.violated("mail is refused for now only", f"{letter.mailbox}: {letter.token}: {code} {text}")
        self.ledger.count("LMTP said", f"{code} {text[:60]}")
        self.ledger.answered(letter, REFUSED, f"{code} {text}")

    def _by_command(self, letter: Letter, box: Box, octets: bytes) -> None:
        environment = {**os.environ, "TPOPS_CONFIG": str(self.world.sites[box.site].server.configuration_file)}
        command = (program("tpops"), "store", letter.mailbox)
        done = subprocess.run(command, input=octets, capture_output=True, timeout=120, check=False, env=environment)
        self.ledger.count("exit status of tpops-store", str(done.returncode))
        if done.returncode == 0:
            self.ledger.answered(letter, ACCEPTED)
            return
        if done.returncode not in (73, 75):
            text = f"{letter.mailbox}: {letter.token}: {done.returncode} {done.stderr.decode(errors='replace')[-300:]}"
            self.ledger.violated("mail is refused for now only", text)
        self.ledger.answered(letter, REFUSED, done.stderr.decode(errors="replace")[-200:])

    def _by_file(self, letter: Letter, box: Box, octets: bytes) -> None:
        try:
            if box.kind == "mbox":
                self.world.spools[box.name].deliver(octets)
            elif box.kind == "classic":
                tables.deliver(self.world.mariadb, box.name, octets)
            else:
                stores.deliver_to_maildir(box.path, f"{letter.token}.soak", octets, box.own)
        except tables.NotToldApart as error:
            self.ledger.answered(letter, UNKNOWN, str(error))
        except (OSError, stores.Busy) as error:
            self.ledger.answered(letter, REFUSED, str(error))
        else:
            self.ledger.answered(letter, ACCEPTED)
