"""
Clients of mixed kinds, each a thread that holds one session after the other in a mailbox.

A session tells the ledger what it was shown, what it got and what it asked to delete; what the server may answer while
something is broken is counted, and what it may never answer is a broken promise.
"""

from __future__ import annotations

import contextlib
import itertools
import poplib
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.integration.server import RunningServer
from tests.integration.wire import Wire
from tests.soak.boxes import PASSWORD, Box
from tests.soak.ledger import Ledger
from tests.soak.letters import known
from tests.soak.session import BROKEN, Refused, Session
from tests.soak.world import World

#: Longest wait for an answer.
_ANSWER_SECONDS = 45.0

#: Most messages that a session fetches.
_MOST = 12

_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS.check_hostname = False
_TLS.verify_mode = ssl.CERT_NONE


def _broken(error: Exception) -> str:
    """How a session broke off, in a word."""
    if isinstance(error, ConnectionRefusedError):
        return "nobody there"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error)[3:18] if isinstance(error, poplib.error_proto) else "broken"


class Client:
    """
    See the module.

    @ivar kind: a key of L{KINDS}
    @ivar boxes: the mailboxes that it looks after, one of them in each session
    """

    _numbers = itertools.count(1)

    def __init__(self, kind: str, boxes: Sequence[Box], world: World, ledger: Ledger, chance: random.Random) -> None:
        self.kind = kind
        self.boxes = boxes
        self.box = boxes[0]
        self.world = world
        self.ledger = ledger
        self.chance = chance
        self.seen: set[tuple[str, bytes]] = set()
        self._open: list[Wire] = []

    def run(self, stop: threading.Event, pause_seconds: float) -> None:
        """One session after the other."""
        while not stop.wait(self.chance.uniform(0, 2 * pause_seconds)):
            outcome = "completed"
            self.box = self.chance.choice(self.boxes)
            try:
                KINDS[self.kind](self)
            except Refused as error:
                outcome = str(error)
            except (*BROKEN, poplib.error_proto) as error:
                outcome = _broken(error)
                if isinstance(error, ConnectionRefusedError):
                    stop.wait(0.5)
            finally:
                for wire in self._open:
                    wire.close()
                self._open.clear()
            self.ledger.count(f"sessions, {self.kind}", outcome)
            self.ledger.count(f"sessions of {self.box.site}", outcome)

    def connect(self, receive_octets: int = 0, greeted: bool = True) -> Session:
        """A new connection, by TLS or not."""
        listen = self._server.configuration["listen"]
        way = self.chance.choice(("plain", "plain", "stls", "implicit")) if greeted else "plain"
        connected = socket.socket()
        if receive_octets:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_octets)
        connected.settimeout(_ANSWER_SECONDS)
        wire = Wire(connected)
        self._open.append(wire)
        connected.connect(("127.0.0.1", listen[way == "implicit"]["port"]))
        name = f"{self.kind}-{next(self._numbers)}"
        if way == "implicit":
            self._secure(wire)
        if greeted:
            greeting = wire.line()
            if not greeting.startswith(b"+OK"):
                raise Refused(f"greeting: {greeting.decode(errors='replace')}")
        if way == "stls" and wire.command(b"STLS").startswith(b"+OK"):
            self._secure(wire)
        self.ledger.count("connections", way)
        wire.socket.settimeout(_ANSWER_SECONDS)
        return Session(name, self.box, self.ledger, self.chance, wire)

    @property
    def _server(self) -> RunningServer:
        return self.world.sites[self.box.site].server

    def _secure(self, wire: Wire) -> None:
        wire.socket = _TLS.wrap_socket(wire.socket)

    def opened(self, receive_octets: int = 0) -> Session:
        """A session that is logged in and has its listing."""
        session = self.connect(receive_octets)
        session.log_in()
        session.list()
        return session

    # The kinds.

    def poll(self) -> None:
        """Look whether there is mail."""
        session = self.connect()
        session.log_in()
        session.wire.command(b"STAT")
        session.quit()

    def keep(self) -> None:
        """Fetch what was not fetched before, and leave it there."""
        session = self.opened()
        for number, unique_id in list(session.unique_ids.items()):
            if (self.box.name, unique_id) not in self.seen and session.retrieve(number):
                self.seen.add((self.box.name, unique_id))
        session.quit()

    def take(self) -> None:
        """Fetch and delete."""
        self._take(self.opened())

    def _take(self, session: Session) -> None:
        for number in self._some(session):
            if session.retrieve(number):
                session.delete(number)
        session.quit()

    def _some(self, session: Session) -> Sequence[int]:
        numbers = list(session.unique_ids)
        return sorted(self.chance.sample(numbers, min(len(numbers), _MOST)))

    def pipeline(self) -> None:
        """Everything at once: the login and the listing, then RETR, DELE and QUIT."""
        session = self.connect()
        session.logged_in_at = time.monotonic()
        session.wire.send(f"USER {self.box.name}\r\nPASS {PASSWORD}\r\n".encode())
        session.wire.line()
        session.entered(session.wire.line())
        session.list()
        numbers = self._some(session)
        lines = [b"RETR %d\r\n" % number for number in numbers]
        session.wire.send(b"".join(lines))
        came = [number for number in numbers if session.receive(number)]
        session.asked += [session.unique_ids[number] for number in came]
        session.quitting()
        answers = []
        try:
            session.wire.send(b"".join(b"DELE %d\r\n" % number for number in came) + b"QUIT\r\n")
            answers = session.wire.lines(len(came))
        except BROKEN:
            session.unsure("the connection broke before QUIT was answered")
            raise
        if not all(answer.startswith(b"+OK") for answer in answers):
            self.ledger.violated("DELE marks what is there", f"{session.name}: {answers!r}")
        session.ending()

    def slow(self) -> None:
        """Read a few octets at a time."""
        session = self.opened(receive_octets=4096)
        for number in self._some(session)[:3]:
            session.wire.send(b"RETR %d\r\n" % number)
            for _ in range(20):
                if session.wire.complete():
                    break
                time.sleep(0.02)
                session.wire.more(512)
            if session.receive(number):
                session.delete(number)
        session.quit()

    def vanish(self) -> None:
        """Go in the middle of something."""
        moment = self.chance.choice(("greeting", "user", "pass", "listing", "retr", "dele", "quit"))
        self.ledger.count("vanished at", moment)
        session = self.connect(greeted=moment != "greeting")
        if moment == "user":
            session.wire.command(f"USER {self.box.name}".encode())
        elif moment == "pass":
            session.wire.send(f"USER {self.box.name}\r\nPASS {PASSWORD}\r\n".encode())
        elif moment not in ("greeting", "user"):
            session.log_in()
            session.list()
            self._vanish(session, moment)
        if self.chance.random() < 0.5:
            session.wire.reset()
        else:
            session.wire.close()

    def _vanish(self, session: Session, moment: str) -> None:
        for number in self._some(session):
            if moment == "retr":
                session.wire.send(b"RETR %d\r\n" % number)
                session.wire.more(1024)
                return
            if session.retrieve(number):
                session.delete(number)
        if moment == "quit":
            session.quitting()
            try:
                session.wire.send(b"QUIT\r\n")
            finally:
                session.unsure("the client went without hearing QUIT's answer")

    def wrong(self) -> None:
        """Try wrong passwords."""
        session = self.connect()
        for _ in range(2):
            session.wire.command(f"USER {self.box.name}".encode())
            answer = session.wire.command(b"PASS wrong")
            if not answer.startswith((b"-ERR [AUTH]", b"-ERR [SYS/TEMP]")):
                self.ledger.violated("a wrong password does not open", f"{session.name}: {answer!r}")
        session.wire.command(b"QUIT")

    def twins(self) -> None:
        """Log in twice: one of both at a time."""
        first = self.opened()
        second = self.connect()
        refused = ""
        try:
            second.log_in()
        except Refused as error:
            refused = str(error)
        alive = first.wire.command(b"NOOP")
        if not refused and alive.startswith(b"+OK"):
            self.ledger.violated("one session at a time", f"{first.name} and {second.name} in {self.box.name}")
        self.ledger.count("second session", refused or "entered, the first one was dead")
        self._take(first)

    def by_poplib(self) -> None:
        """Python's client."""
        poplib._MAXLINE = 1 << 20  # type: ignore[attr-defined]
        client = poplib.POP3("127.0.0.1", self._server.port, timeout=_ANSWER_SECONDS)
        try:
            client.user(self.box.name)
            client.pass_(PASSWORD)
            for number in range(1, min(3, client.stat()[0]) + 1):
                lines = client.retr(number)[1]
                self._got("poplib", b"".join(line + b"\r\n" for line in lines))
            client.quit()
        finally:
            client.close()

    def by_curl(self) -> None:
        """curl fetches one message."""
        where = f"pop3://127.0.0.1:{self._server.port}/1"
        done = self._program("curl", "-sS", "-m", "30", "-u", f"{self.box.name}:{PASSWORD}", where)
        if done.returncode:
            raise Refused(f"exit status {done.returncode}")
        self._got("curl", done.stdout)

    def by_fetchmail(self) -> None:
        """fetchmail fetches everything and keeps it."""
        with contextlib.ExitStack() as stack:
            home = Path(self.world.directory / f"fetchmail-{next(self._numbers)}")
            home.mkdir(mode=0o700)
            stack.callback(shutil.rmtree, home)
            (home / "rc").touch(0o600)
            (home / "rc").write_text(
                f"poll 127.0.0.1 service {self._server.port} protocol pop3 timeout 30 uidl no dns\n"
                f'user "{self.box.name}" password "{PASSWORD}" keep fetchlimit 5 sslproto "" '
                f'mda "cat >> {home}/mail"\n'
            )
            given = ("-f", str(home / "rc"), "-i", str(home / "ids"), "--pidfile", str(home / "pid"), "--nosyslog")
            self._program("fetchmail", *given)

    def _program(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=90, check=False)
        self.ledger.count(f"exit status of {command[0]}", str(done.returncode))
        return done

    def _got(self, name: str, octets: bytes) -> None:
        token, sha256 = known(octets)
        self.ledger.retrieved(name, self.box.name, b"", token, sha256)


#: Every kind of client: how often, and what it does.
KINDS: dict[str, Callable[[Client], None]] = {
    "take": Client.take,
    "keep": Client.keep,
    "vanish": Client.vanish,
    "poll": Client.poll,
    "pipeline": Client.pipeline,
    "slow": Client.slow,
    "twins": Client.twins,
    "wrong": Client.wrong,
    "poplib": Client.by_poplib,
    "curl": Client.by_curl,
    "fetchmail": Client.by_fetchmail,
}

#: How many of 20 clients are of which kind; of fewer clients the first ones.
_MIX = (
    *("take", "keep", "vanish", "pipeline", "slow", "twins", "poll", "poplib", "wrong", "curl"),
    *("take", "vanish", "keep", "take", "fetchmail", "pipeline", "vanish", "poll", "take", "keep"),
)


def kinds(count: int) -> list[str]:
    """The kinds of so many clients, without those whose program is missing."""
    there = [one for one in _MIX if one not in ("curl", "fetchmail") or shutil.which(one)]
    return list(itertools.islice(itertools.cycle(there), count))
