"""
The control socket: who is here, what has happened, end a session, read the configuration again, stop.

Format: a request is a JSON object on a line of at most L{MOST_REQUEST} octets, C{"do"} says what; the answer is one as
well, with C{"error"} where it could not be done.  Requests on a connection are answered one after the other.
Purpose: L{Control} answers, in whatever process; L{ask} asks; L{Socket} is where the commands find it.
Limits: whoever may connect has the authority: the socket's permissions decide.  A connection without a request is
closed after L{IDLE_SECONDS}, of which there may be L{MOST_CONNECTIONS}.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from tpops.server.transport import UNIXPort

_log = Logger()

MOST_REQUEST = 65536
MOST_ANSWER = 64 << 20
MOST_CONNECTIONS = 64
IDLE_SECONDS = 60.0
ASK_SECONDS = 10.0

Request = Mapping[str, Any]
Answer = dict[str, Any]

#: Answers a request; whoever asks is told by the second argument.
Answerer = Callable[[Request, str], Awaitable[Answer]]


class Refused(Exception):
    """A request that cannot be carried out; the text says why."""


class Control(Protocol, TimeoutMixin):
    """One connection."""

    def __init__(self, factory: ControlFactory) -> None:
        self._factory = factory
        self._input = b""
        self._busy = False
        self._who = ""

    def callLater(self, period: float, func: Callable[..., object]) -> Any:
        """TimeoutMixin's way to a clock."""
        return self._factory.reactor.callLater(period, func)

    def connectionMade(self) -> None:
        """Somebody may ask."""
        self._who = _asker(self.transport)
        self._factory.connections.add(self)
        if len(self._factory.connections) > MOST_CONNECTIONS:
            self._say({"error": f"{MOST_CONNECTIONS} others are connected"})
            self._transport.loseConnection()
        self.setTimeout(IDLE_SECONDS)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """He has gone."""
        self._factory.connections.discard(self)
        self.setTimeout(None)

    def dataReceived(self, data: bytes) -> None:
        """Part of a request."""
        self._input += data
        if not self._busy:
            self._next()
        if self._busy and len(self._input) > MOST_REQUEST:
            self._transport.pauseProducing()

    @property
    def _transport(self) -> Any:
        return self.transport

    def _next(self) -> None:
        line, end, rest = self._input.partition(b"\n")
        if len(line) > MOST_REQUEST:
            self._say({"error": f"a request has at most {MOST_REQUEST} octets"})
            self._transport.loseConnection()
            self._input = b""
        elif end:
            self._input = rest
            self._busy = True
            self.setTimeout(None)
            Deferred.fromCoroutine(self._answer(line)).addBoth(self._done)

    async def _answer(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or not isinstance(request.get("do"), str):
                raise ValueError
        except (ValueError, RecursionError):
            self._say({"error": 'a request is a JSON object on one line, such as {"do": "who"}'})
            return
        try:
            self._say(await self._factory.answer(request, self._who))
        except Refused as refused:
            self._say({"error": str(refused)})

    def _done(self, result: object) -> None:
        if isinstance(result, Failure):
            _log.failure("a request to the control socket failed", result, event="control-failed")
            self._say({"error": "internal error; the server's log has more"})
        self._busy = False
        self.setTimeout(IDLE_SECONDS)
        if self.connected:
            self._transport.resumeProducing()
            self._next()

    def _say(self, answer: Answer) -> None:
        if self.connected:
            self._transport.write(json.dumps(answer).encode("ascii") + b"\n")


class ControlFactory(Factory[Control]):
    """
    Makes connections that are answered by C{answer}.

    @ivar connections: those that are open
    """

    noisy = False

    def __init__(self, answer: Answerer, reactor: Any) -> None:
        self.answer = answer
        self.reactor = reactor
        self.connections: set[Control] = set()

    def buildProtocol(self, addr: IAddress | None) -> Control:
        """IProtocolFactory."""
        return Control(self)

    def adopt(self, connected: socket.socket) -> None:
        """Answer on a connected socket, which is closed here."""
        self.reactor.adoptStreamConnection(connected.fileno(), socket.AF_UNIX, self)
        connected.close()


class _Asking(Protocol):
    """Asks one thing."""

    def __init__(self, request: Request) -> None:
        self.answered: Deferred[Answer] = Deferred(lambda _: self._transport.abortConnection())
        self._request = request
        self._pieces: list[bytes] = []
        self._octets = 0

    @property
    def _transport(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        """Ask."""
        self._transport.write(json.dumps(self._request).encode("ascii") + b"\n")

    def dataReceived(self, data: bytes) -> None:
        """Part of the answer."""
        self._pieces.append(data)
        self._octets += len(data)
        if data.endswith(b"\n") or self._octets > MOST_ANSWER:
            self._transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """That is all."""
        if self.answered.called:
            return
        try:
            answer = json.loads(b"".join(self._pieces))
            if not isinstance(answer, dict):
                raise ValueError
        except ValueError:
            self.answered.errback(Refused("no answer"))
        else:
            self.answered.callback(answer)


class _AskingFactory(Factory[_Asking]):
    noisy = False

    def __init__(self, asking: _Asking) -> None:
        self._asking = asking

    def buildProtocol(self, addr: IAddress | None) -> _Asking:
        """IProtocolFactory."""
        return self._asking


def ask(reactor: Any, request: Request, hand_over: Callable[[socket.socket], None]) -> Deferred[Answer]:
    """
    Ask another process.

    @param hand_over: gives it a connected socket, on which it answers
    @return: fires with the answer, or fails with L{Refused} or CancelledError when there is none in L{ASK_SECONDS}
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    asking = _Asking(request)
    with ours, theirs:
        hand_over(theirs)
        reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, _AskingFactory(asking))
    return asking.answered.addTimeout(ASK_SECONDS, reactor)


def _asker(transport: Any) -> str:
    """Who is at the other end, for the log."""
    try:
        credentials = transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except (AttributeError, OSError):
        return "unknown"
    process, user, _ = struct.unpack("3i", credentials)
    return f"uid {user}, process {process}"


@contextlib.contextmanager
def short(path: str) -> Any:
    """A path that is short enough for a socket's address, which has room for 107 octets, while it is used."""
    directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


class Socket:
    """
    The control socket of a server.

    @ivar path: where it is, "" where there is none
    """

    def __init__(self, reactor: Any, answer: Answerer) -> None:
        self.path = ""
        self._reactor = reactor
        self._factory = ControlFactory(answer, reactor)
        self._port: UNIXPort | None = None

    def open(self, path: str, mode: int, uid: int, gid: int) -> None:
        """
        Be there from now on, and nowhere else.

        @param uid: to whom it belongs, -1 for whoever this process is
        @raise OSError: when it cannot be
        """
        if path != self.path:
            self._bind(path)
        if (uid, gid) != (-1, -1):
            os.chown(path, uid, gid, follow_symlinks=False)
        os.chmod(path, mode)

    def _bind(self, path: str) -> None:
        _remove_stale(path)
        with socket.socket(socket.AF_UNIX) as opened:
            opened.setblocking(False)
            before = os.umask(0o177)
            try:
                with short(path) as name:
                    opened.bind(name)
            finally:
                os.umask(before)
            opened.listen(MOST_CONNECTIONS)
            port = UNIXPort._fromListeningDescriptor(self._reactor, opened.fileno(), self._factory)
            port.startListening()
        self.close()
        self.path, self._port = path, port

    def close(self) -> None:
        """Be there no more."""
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()
            with contextlib.suppress(OSError):  # the directory may belong to root, whose rights are gone
                os.unlink(self.path)
            self.path = ""

    def hang_up(self) -> None:
        """Nobody is answered any more."""
        self.close()
        for connection in list(self._factory.connections):
            connection._transport.loseConnection()


def _remove_stale(path: str) -> None:
    """@raise OSError: when another server is there, or something that is no socket"""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(0, "a file that is no socket is there")
    with socket.socket(socket.AF_UNIX) as probe, short(path) as name:
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise OSError(0, "another server is there")
