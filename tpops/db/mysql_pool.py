"""
Connections to MySQL for the reactor: a few, in threads of their own, with a time limit over everything.

Purpose: a SELECT is run on the connection that was used last, in one of this pool's threads, and its answer comes to
the reactor's thread.  When all connections are in use, it waits in line; when the time is up, wherever the question is
by then, it fails.  A server that hangs therefore holds up this pool only, and nobody longer than the limit: threads
of others are not used.
Limits: a thread that is stuck, in the machine's resolver for instance, is given up for as long as that lasts; the
others go on.  Connections that are idle stay open.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from tpops.db.mysql import Client, DatabaseFailed
from tpops.db.mysql_servers import Access, Line

_T = TypeVar("_T")

#: What is done with a connection: it gets the time, in C{seconds}, when nobody waits for it any more.
Work = Callable[[Client, float], _T]


@attrs.define(eq=False)
class _Job:
    """
    A question.

    @ivar until: when nobody waits for it any more
    @ivar answer: fires once
    @ivar to_the_end: once it has begun, its end is waited for
    """

    work: Work[Any]
    until: float
    answer: Deferred[Any]
    to_the_end: bool = False
    timer: Any = None

    def begin(self) -> None:
        """It is done now."""
        if self.to_the_end:
            self.timer.cancel()

    def expire(self, limit: float) -> None:
        """The time is up."""
        self.settle(_failure(f"no answer within {limit:g} seconds"))

    def settle(self, result: object) -> None:
        """Give the answer, if somebody still waits."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if not self.answer.called:
            self.answer.callback(result)


class Pool:
    """
    See the module.

    A server that stops answering, and one that answers again, is told in the log once.

    @param connections: how many there are at most
    @param reactor: for threads and timers
    @param seconds: the time, as it goes on in every thread
    @param writable: whether the connections may change anything
    """

    log = Logger()

    def __init__(
        self,
        access: Access,
        connections: int,
        reactor: Any,
        seconds: Callable[[], float] = time.monotonic,
        writable: bool = False,
    ) -> None:
        self._access = access
        self._line = Line(access.servers, seconds)
        self._most = connections
        self._reactor = reactor
        self._seconds = seconds
        self._writable = writable
        self._threads: ThreadPool | None = None
        self._idle: list[Client] = []
        self._busy = 0
        self._waiting: deque[_Job] = deque()

    def start(self) -> None:
        """Be ready; nothing is opened yet."""
        threads = ThreadPool(0, self._most, "mysql")
        # A thread that is stuck must not keep the process from ending.
        threads.threadFactory = functools.partial(threading.Thread, daemon=True)  # type: ignore[assignment]  # a class
        threads.start()
        self._threads = threads

    def stop(self) -> None:
        """Fail what waits, close what is idle, and wait for nobody."""
        threads, self._threads = self._threads, None
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.settle(_failure("the server is shutting down"))
        while self._idle:
            self._idle.pop().close()
        if threads is not None:
            threading.Thread(target=threads.stop, daemon=True).start()

    def run(self, work: Work[_T], to_the_end: bool = False) -> Deferred[_T]:
        """
        Call C{work} in a thread.

        The Deferred fails with L{DatabaseFailed} when the time is up, and with whatever C{work} raises.

        @param to_the_end: the time is for waiting in line only: whoever changes something has to know how it ended.
            Each step of the work has its own limit all the same
        """
        limit = self._access.timeout_seconds
        answer: Deferred[_T] = Deferred()
        if self._threads is None:
            answer.errback(_failure("not started"))
            return answer
        job = _Job(work, self._seconds() + limit, answer, to_the_end)
        job.timer = self._reactor.callLater(limit, job.expire, limit)
        self._waiting.append(job)
        self._next()
        return answer

    def _next(self) -> None:
        """Begin with what waits, as far as there are connections."""
        while self._waiting and self._busy < self._most and self._threads is not None:
            job = self._waiting.popleft()
            if job.answer.called:
                continue
            client = self._idle.pop() if self._idle else self._new()
            self._busy += 1
            job.begin()
            done = deferToThreadPool(self._reactor, self._threads, job.work, client, job.until)
            done.addBoth(self._finished, job, client)

    def _new(self) -> Client:
        return Client(self._access, self._line, self._writable, self._seconds)

    def _finished(self, result: object, job: _Job, client: Client) -> None:
        self._busy -= 1
        if self._threads is None:
            client.close()
        else:
            self._idle.append(client)
        for server, why in self._line.news():
            if why:
                self.log.warn("database-failed: {why}", event="database-failed", server=str(server), why=why)
            else:
                self.log.info("database-back: {server} answers", event="database-back", server=str(server))
        job.settle(result)
        self._next()


def _failure(why: str) -> Failure:
    return Failure(DatabaseFailed(why))
