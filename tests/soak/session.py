"""
One session of a client: it tells the ledger what it was shown, what it got and what it asked to delete.

What the server may answer while something is broken ends the session with L{Refused}; what it may never answer is a
broken promise.
"""

from __future__ import annotations

import random
import ssl
import time

import attrs

from tests.integration.wire import Wire
from tests.soak.boxes import PASSWORD, Box
from tests.soak.ledger import Ledger
from tests.soak.letters import known

#: What a client hears while something is broken, and what it hears when another session has the mailbox.
_EXPECTED = (b"-ERR [SYS/TEMP]", b"-ERR [IN-USE]")

#: How a connection breaks off.
BROKEN = (OSError, EOFError, ssl.SSLError)


class Refused(Exception):
    """The server has said no, and may do so."""


@attrs.define
class Session:
    """
    One connection.

    @ivar unique_ids: of the messages that are there, by number
    @ivar octets: what LIST says, by number
    """

    name: str
    box: Box
    ledger: Ledger
    chance: random.Random
    wire: Wire
    logged_in_at: float = 0.0
    unique_ids: dict[int, bytes] = attrs.Factory(dict)
    octets: dict[int, int] = attrs.Factory(dict)
    asked: list[bytes] = attrs.Factory(list)

    def log_in(self, password: str = PASSWORD) -> None:
        """USER and PASS."""
        self.wire.command(f"USER {self.box.name}".encode())
        self.logged_in_at = time.monotonic()
        self.entered(self.wire.command(f"PASS {password}".encode()))

    def entered(self, answer: bytes) -> None:
        """The answer to PASS."""
        if answer.startswith(b"+OK"):
            return
        if not answer.startswith(_EXPECTED):
            self.ledger.violated("the right password opens", f"{self.name} {self.box}: {answer!r}")
        raise Refused(answer.partition(b"]")[0].decode() + "]")

    def list(self) -> None:
        """UIDL and LIST."""
        self.unique_ids = dict(self._listing(b"UIDL"))
        self.octets = {number: int(rest) for number, rest in self._listing(b"LIST")}
        self.ledger.listed(self.name, self.box.name, list(self.unique_ids.values()), self.logged_in_at)

    def _listing(self, verb: bytes) -> list[tuple[int, bytes]]:
        status, body = self.wire.multi_line(verb)
        if not status.startswith(b"+OK"):
            raise Refused(f"{verb.decode()}: {status.decode(errors='replace')}")
        return [(int(one.split()[0]), one.split()[1]) for one in body.splitlines()]

    def retrieve(self, number: int) -> bool:
        """RETR; whether the message came."""
        self.wire.send(b"RETR %d\r\n" % number)
        return self.receive(number)

    def receive(self, number: int) -> bool:
        """The answer to RETR."""
        status = self.wire.line()
        if not status.startswith(b"+OK"):
            self.ledger.count("RETR refused", status.partition(b"]")[0].decode(errors="replace"))
            return False
        self.got(number, self.wire.body())
        return True

    def got(self, number: int, body: bytes) -> None:
        """A whole message, as on the wire."""
        octets = body.removeprefix(b".").replace(b"\r\n.", b"\r\n")
        token, sha256 = known(octets)
        if len(octets) != self.octets[number]:
            text = f"{self.name} {self.box.name}: {token}: {len(octets)}, LIST says {self.octets[number]}"
            self.ledger.violated("LIST says how many octets come", text)
        self.ledger.retrieved(self.name, self.box.name, self.unique_ids[number], token, sha256)

    def delete(self, number: int) -> None:
        """DELE."""
        if self.wire.command(b"DELE %d" % number).startswith(b"+OK"):
            self.asked.append(self.unique_ids[number])

    def quit(self) -> None:
        """QUIT, and what comes of it."""
        self.quitting()
        self.wire.send(b"QUIT\r\n")
        self.ending()

    def quitting(self) -> None:
        """QUIT is about to be sent."""
        self.ledger.asked(self.name, self.box.name, self.asked)

    def ending(self) -> None:
        """The answer to QUIT."""
        try:
            answer = self.wire.line()
        except BROKEN:
            self.unsure("the connection broke before QUIT was answered")
            raise
        if answer.startswith(b"+OK"):
            self.ledger.done(self.name, self.box.name, self.asked)
            return
        text = answer.partition(b"]")[0].decode(errors="replace") + "]"
        self.unsure(f"QUIT was answered {text}")
        raise Refused(f"QUIT: {text}")

    def unsure(self, reason: str) -> None:
        """Nobody knows whether they are gone."""
        self.ledger.done(self.name, self.box.name, self.asked, reason)
