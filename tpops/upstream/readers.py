"""
What the text of multi-line replies is read with: listings line by line, messages chunk by chunk.

Purpose: a L{Message} is an open message of the other server: it holds at most L{MOST_OCTETS} and what had come
meanwhile, whatever the message's size and however slowly it is read; the connection is paused then.
Limits: messages of one connection come one after the other; who has opened two reads or closes the first one first,
unless it is a small one.
A message that is closed before its end has to come to its end all the same, as POP3 cannot interrupt it; what comes is
thrown away, up to a limit, at which the connection is cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from tpops.coroutines import run
from tpops.errors import StorageUnavailable
from tpops.interfaces import IStoredMessage
from tpops.upstream.connection import Connection
from tpops.upstream.replies import Lines, Malformed, Status

_T = TypeVar("_T")

#: Octets that are kept before the server has to wait.
MOST_OCTETS = 262144

#: Octets that a read waits for, so that a chunk is worth its work and has all of most headers.
_CHUNK_OCTETS = 65536


class _Taking:
    """
    A text that is taken to its end.

    @ivar whole: fires at its end; fails with StorageUnavailable
    @param take: gets the pieces
    """

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self.whole: Deferred[None] = Deferred()
        self.feed = take

    def end(self) -> None:
        """See L{tpops.upstream.connection.Reader}."""
        self.whole.callback(None)

    def failed(self, problem: StorageUnavailable) -> None:
        """See L{tpops.upstream.connection.Reader}."""
        if not self.whole.called:
            self.whole.errback(problem)


async def take(connection: Connection, command: bytes, piece: Callable[[bytes], None]) -> Status:
    """
    Send a command, and take the text of its answer, where there is one, to its end.

    @param piece: gets the text in pieces
    @raise StorageUnavailable: when it did not come to its end
    """
    taking = _Taking(piece)
    try:
        status = await connection.send(command, taking)
        if status.positive:
            await taking.whole
        return status
    except BaseException:
        # Nobody waits for it any more.
        taking.whole.addErrback(lambda _: None)
        raise


async def take_lines(connection: Connection, command: bytes, line: Callable[[bytes], None]) -> Status:
    """The same line by line."""
    lines = Lines()

    def piece(text: bytes) -> None:
        for one in lines.feed(text):
            line(one)

    return await take(connection, command, piece)


async def take_text(connection: Connection, command: bytes, most: int) -> tuple[Status, bytes]:
    """The same as a whole; b"" when the answer is negative."""
    whole = bytearray()

    def piece(text: bytes) -> None:
        whole.extend(text)
        if len(whole) > most:
            raise Malformed(f"an answer of more than {most} octets")

    status = await take(connection, command, piece)
    return status, bytes(whole)


async def together(questions: Sequence[Coroutine[Deferred[Any], Any, _T]]) -> list[_T]:
    """
    Ask them all at once, and wait for all answers.

    @raise StorageUnavailable: the first problem, when one has failed
    """
    answers = [run(question) for question in questions]
    results: list[_T] = []
    problem: StorageUnavailable | None = None
    try:
        for answer in answers:
            try:
                results.append(await answer)
            except StorageUnavailable as failed:
                problem = problem or failed
    except BaseException:
        for answer in answers:
            answer.addErrback(lambda _: None)
        raise
    if problem is not None:
        raise problem
    return results


@implementer(IStoredMessage)
class Message:
    """
    See the module.

    @param most_unwanted: octets that may still come after it was closed before its end
    """

    def __init__(self, connection: Connection, most_unwanted: int) -> None:
        self._connection = connection
        self._unwanted_left = most_unwanted
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._wanted = 0
        self._waiting: Deferred[bytes] | None = None
        self._ended = False
        self._problem: StorageUnavailable | None = None
        self._closed = False

    # As a reader of the connection.

    def feed(self, text: bytes) -> None:
        """See L{tpops.upstream.connection.Reader}."""
        if self._closed:
            self._unwanted_left -= len(text)
            if self._unwanted_left < 0:
                raise Malformed("a message that nobody wants does not come to its end")
            return
        self._chunks.append(text)
        self._buffered += len(text)
        self._wake()
        if self._buffered > MOST_OCTETS:
            self._connection.pause()

    def end(self) -> None:
        """See L{tpops.upstream.connection.Reader}."""
        self._ended = True
        self._connection.resume()
        self._wake()

    def failed(self, problem: StorageUnavailable) -> None:
        """See L{tpops.upstream.connection.Reader}."""
        self._problem = problem
        self._wake()

    # As an open message.

    def read(self, octets: int) -> bytes | Awaitable[bytes]:
        """See L{IStoredMessage.read}."""
        if self._ready(octets):
            return self._next(octets)
        self._wanted = octets
        self._waiting = Deferred(self._forget)
        return self._waiting

    def close(self) -> None:
        """See L{IStoredMessage.close}."""
        if not self._closed:
            self._closed = True
            self._chunks.clear()
            self._buffered = 0
            if not self._ended:
                self._connection.resume()

    def _ready(self, octets: int) -> bool:
        return self._buffered >= min(octets, _CHUNK_OCTETS) or self._ended or self._problem is not None

    def _next(self, octets: int) -> bytes:
        if not self._buffered:
            if self._problem is not None and not self._ended:
                raise self._problem
            return b""
        chunk = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if len(chunk) > octets:
            self._chunks.append(chunk[octets:])
            chunk = chunk[:octets]
        self._buffered -= len(chunk)
        if self._buffered <= MOST_OCTETS and not self._ended:
            self._connection.resume()
        return chunk

    def _wake(self) -> None:
        waiting = self._waiting
        if waiting is None or not self._ready(self._wanted):
            return
        self._waiting = None
        try:
            chunk = self._next(self._wanted)
        except StorageUnavailable as problem:
            waiting.errback(problem)
        else:
            waiting.callback(chunk)

    def _forget(self, cancelled: Deferred[bytes]) -> None:
        self._waiting = None
