"""Other servers for tests, in memory: a scripted one, and a real one of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.server.harness import Harness
from tpops.upstream.connection import Connection
from tpops.upstream.servers import OFF, Settings, Upstream

GREETING = b"+OK ready\r\n"
CAPA = b"+OK\r\nTOP\r\nUIDL\r\nUSER\r\nPIPELINING\r\n.\r\n"

#: What comes back for a line, None for nothing; an exception ends the connection.
Answer = Callable[[bytes], bytes | None]


def split(name: str) -> tuple[str, str]:
    """Local part and domain."""
    local_part, _, domain = name.partition("@")
    return local_part, domain


class Gone(Exception):
    """Raised by an L{Answer} to end the connection, with what is sent before."""

    def __init__(self, last: bytes = b"") -> None:
        super().__init__(last)
        self.last = last


class Pipe(StringTransport):
    """
    Our end of a connection to a server that is a function.

    @ivar lines: what was sent, line by line
    @ivar ended: how it ended: "", "closed", "aborted", or "lost"
    @ivar feed: takes what we send, and gives octets, or raises Gone
    @ivar gone: is called when we end it
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[bytes] = []
        self.ended = ""
        self.feed: Callable[[bytes], bytes] = lambda data: b""
        self.gone: Callable[[], None] = lambda: None
        self._coming: list[bytes | Gone] = []
        self._busy = False
        self.client: Any = None
        self.pieces: Callable[[bytes], list[bytes]] = lambda data: [data]

    def write(self, data: bytes) -> None:
        """The server answers at once."""
        self.lines += data.split(b"\r\n")[:-1]
        try:
            answer = self.feed(data)
        except Gone as gone:
            self._coming += [*self.pieces(gone.last), gone]
        else:
            self._coming += self.pieces(answer)
        self.pump()

    def come(self, data: bytes) -> None:
        """The server says something by itself."""
        self._coming += self.pieces(data)
        self.pump()

    def pump(self) -> None:
        """Deliver what may be delivered."""
        if self._busy:
            return
        self._busy = True
        while self._coming and self.producerState == "producing" and not self.ended:
            piece = self._coming.pop(0)
            if isinstance(piece, Gone):
                self.lose()
            elif piece:
                self.client.dataReceived(piece)
        self._busy = False

    def resumeProducing(self) -> None:
        """Go on."""
        super().resumeProducing()
        self.pump()

    def startTLS(self, context: Any) -> None:
        """ITLSTransport: TLS is on at once."""
        self.lines.append(b"TLS")
        self.client.handshakeCompleted()

    def lose(self) -> None:
        """The server closes the connection."""
        if not self.ended:
            self.ended = "lost"
            self.client.connectionLost(Failure(ConnectionDone()))

    def loseConnection(self) -> None:
        """We close it."""
        if not self.ended:
            self.ended = "closed"
            self.gone()
            self.client.connectionLost(Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        """We cut it."""
        if not self.ended:
            self.ended = "aborted"
            self.gone()
            self.client.connectionLost(Failure(ConnectionDone()))


class Script:
    """
    A server that answers as it is told.

    @ivar answers: what comes back for a line; the longest beginning of the line that is in there counts
    @ivar pipes: the connections so far
    """

    def __init__(self, greeting: bytes = GREETING, **answers: Any) -> None:
        self.greeting = greeting
        self.pipes: list[Pipe] = []
        self.pieces: Callable[[bytes], list[bytes]] = lambda data: [data]
        self.answers: dict[str, Any] = {
            "CAPA": CAPA,
            "USER": b"+OK\r\n",
            "PASS": b"+OK\r\n",
            "STAT": b"+OK 2 30\r\n",
            "LIST": b"+OK\r\n1 10\r\n2 20\r\n.\r\n",
            "UIDL": b"+OK\r\n1 a\r\n2 b\r\n.\r\n",
            "RETR": b"+OK\r\nSubject: x\r\n\r\nbody\r\n.\r\n",
            "TOP": b"+OK\r\nSubject: x\r\n\r\n.\r\n",
            "DELE": b"+OK\r\n",
            "NOOP": b"+OK\r\n",
            "QUIT": Gone(b"+OK bye\r\n"),
            **answers,
        }

    def start(self) -> Pipe:
        """A new connection."""
        pipe = Pipe()
        pipe.pieces = self.pieces
        self.pipes.append(pipe)
        self.serve(pipe)
        return pipe

    def serve(self, pipe: Pipe) -> None:
        """The server's side of a connection."""
        pipe.feed = lambda data: b"".join(map(self.answer, data.split(b"\r\n")[:-1]))

    def answer(self, line: bytes) -> bytes:
        """What comes back for a line."""
        text = line.decode("latin-1")
        keys = [key for key in self.answers if text.startswith(key)]
        answer = self.answers[max(keys, key=len)] if keys else b"-ERR what?\r\n"
        if isinstance(answer, Gone):
            raise answer
        return answer(line) if callable(answer) else answer

    @property
    def pipe(self) -> Pipe:
        """The last connection."""
        return self.pipes[-1]

    @property
    def said(self) -> list[bytes]:
        """What was sent on the last connection."""
        return self.pipe.lines


class OurServer(Script):
    """A tpops in memory, whose user is joe with the password "secret"."""

    def __init__(self, harness: Harness) -> None:
        super().__init__(b"")
        self.harness = harness

    def serve(self, pipe: Pipe) -> None:
        """See Script."""
        client = self.harness.connect(greeted=False)
        self.greeting = client.heard()

        def feed(data: bytes) -> bytes:
            octets = client.say(data)
            if client.closed:
                client.vanish()
                raise Gone(octets)
            return octets

        pipe.feed, pipe.gone = feed, client.vanish


class Network:
    """Stands for HostnameEndpoint: connects to a script."""

    def __init__(self, script: Script | None, clock: Clock) -> None:
        self.script = script
        self.clock = clock
        self.asked: list[tuple[str, int]] = []

    def __call__(self, reactor: Any, host: str, port: int, timeout: float) -> Network:
        self.asked.append((host, port))
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect; without a script nobody listens."""
        script = self.script
        if script is None:
            return fail(ConnectionRefusedError())
        pipe = script.start()
        client = pipe.client = factory.buildProtocol(None)
        client.makeConnection(pipe)
        # The greeting comes once somebody has the connection.
        self.clock.callLater(0, pipe.come, script.greeting)
        return succeed(client)


def settings(**given: Any) -> Settings:
    """Settings without TLS."""
    return Settings(**{"server": "pop.example", "tls": OFF, "tls_context": lambda host: None, **given})


def upstream(script: Script | None, clock: Clock, **given: Any) -> Upstream:
    """Servers that are all this one."""
    return Upstream(settings(**given), split, clock, Network(script, clock))


def connection(script: Script, clock: Clock, timeout_seconds: float = 60.0, keepalive: float = 120.0) -> Connection:
    """A connection to a script, greeted."""
    made = Connection("pop.example:110", clock, timeout_seconds, keepalive, lambda _: None)
    pipe = script.start()
    pipe.client = made
    made.makeConnection(pipe)
    pipe.come(script.greeting)
    return made
