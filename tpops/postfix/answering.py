"""
A protocol of questions and answers on one connection: any number of them, answered in order.

Purpose: what the policy service, socketmap and tcp_table have in common.  All that came in one piece is answered in one
write; when an answer has to be waited for, or the peer does not read, nothing more is read from it.
Limits: a peer that sends nothing stays connected, as Postfix' processes do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as Connection
from twisted.python.failure import Failure
from zope.interface import implementer

_Q = TypeVar("_Q")


class Broken(Exception):
    """What the peer sends cannot be followed any more: the connection is closed."""


class Questions(Protocol[_Q]):
    """Cuts the octets of one connection into questions, and answers them."""

    def feed(self, octets: bytes) -> list[_Q]:
        """The questions that end here.  @raise Broken: when nothing can follow"""

    def answer(self, question: _Q) -> bytes | Awaitable[bytes]:
        """The answer, which is always there in the end."""


@implementer(IPushProducer)
class Answering(Connection, Generic[_Q]):
    """See the module."""

    transport: Any

    def __init__(self, questions: Questions[_Q], connections: set[Answering[_Q]]) -> None:
        self._questions = questions
        self._connections = connections
        self._waiting: deque[_Q] = deque()
        self._busy = self._full = self._over = False

    def connectionMade(self) -> None:
        """The transport says when the peer does not read."""
        self._connections.add(self)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Some questions."""
        if self._over:
            return
        try:
            self._waiting.extend(self._questions.feed(data))
        except Broken:
            self._over = True
        if not self._busy:
            self._go_on()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody is there to be answered."""
        self._connections.discard(self)
        self._waiting.clear()
        self._over = True

    def close(self) -> None:
        """Close the connection; what has come is answered first."""
        if self._over:
            return
        self._over = True
        if not self._busy:
            self._go_on()

    def _go_on(self) -> None:
        answers = []
        while self._waiting:
            answer = self._questions.answer(self._waiting.popleft())
            if not isinstance(answer, bytes):
                self._busy = True
                self._flow()
                Deferred.fromCoroutine(_awaited(answer)).addCallback(self._answered)
                break
            answers.append(answer)
        if answers:
            self.transport.write(b"".join(answers))
        if self._over and not self._busy:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _answered(self, answer: bytes) -> None:
        self._busy = False
        if self.connected:
            self.transport.write(answer)
            self._go_on()
            self._flow()

    # Flow control.

    def _flow(self) -> None:
        if not self.connected or self._over:
            return
        if self._busy or self._full:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def pauseProducing(self) -> None:
        """The peer does not read."""
        self._full = True
        self._flow()

    def resumeProducing(self) -> None:
        """It has read."""
        self._full = False
        self._flow()

    def stopProducing(self) -> None:
        """The connection is gone."""


async def _awaited(answer: Awaitable[bytes]) -> bytes:
    return await answer


class AnsweringFactory(Factory, Generic[_Q]):
    """Makes one for each connection."""

    noisy = False

    def __init__(self, questions: Callable[[], Questions[_Q]]) -> None:
        self._questions = questions
        self._connections: set[Answering[_Q]] = set()

    def buildProtocol(self, addr: object) -> Answering[_Q]:
        """A connection."""
        return Answering(self._questions(), self._connections)

    def close(self) -> None:
        """Close every connection; Postfix opens another one when it needs it."""
        for one in list(self._connections):
            one.close()
