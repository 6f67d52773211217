"""
Notices on their way to one receiver.

Purpose: notices of the same line (most often: of one session) are sent one after the other in the order in which they
came, those of different lines beside each other, so many at the same time.  Each has a time limit.
Limits: so many wait at most; a further one is dropped, which is an error for whoever brings it.  A failure holds up
nothing that follows.  Nothing is sent a second time here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tpops.model import Notice


class NotTold(Exception):
    """The receiver was not told; the text says why, for the log."""


@attrs.define
class Figures:
    """
    How often a receiver was told.

    @ivar sent: told
    @ivar failed: not told, or he said no
    @ivar dropped: not even tried: too many were waiting, or the server stopped
    """

    sent: int = 0
    failed: int = 0
    dropped: int = 0


@attrs.frozen(eq=False)
class _Job:
    notice: Notice
    done: Deferred[None]


#: How a notice is sent.
Send = Callable[[Notice], Coroutine[Deferred[Any], Any, None]]


class Deliveries:
    """
    See the module.

    @param send: tells the receiver
    @param timeout_seconds: how long that may take
    @param at_once: how many are sent at the same time
    @param most_waiting: how many may wait, beside those
    @ivar figures: how often the receiver was told
    """

    def __init__(
        self, send: Send, clock: IReactorTime, timeout_seconds: float, at_once: int = 8, most_waiting: int = 1000
    ) -> None:
        self.figures = Figures()
        self._send = send
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._lines: dict[str, deque[_Job]] = {}
        self._ready: deque[str] = deque()
        self._running: dict[str, Deferred[None]] = {}
        self._waiting = 0
        self._idle: list[Deferred[None]] = []
        self._beginning = False

    def add(self, line: str, notice: Notice) -> Deferred[None]:
        """
        Send a notice when it is its turn.

        @return: fires when it is sent, and fails when that failed
        @raise NotTold: when too many wait
        """
        if self._waiting >= self._most_waiting:
            self.figures.dropped += 1
            raise NotTold(f"{self._waiting} others are waiting; this one is dropped")
        job = _Job(notice, Deferred())
        self._waiting += 1
        jobs = self._lines.get(line)
        if jobs is None:
            self._lines[line] = deque((job,))
            self._ready.append(line)
            self._next()
        else:
            jobs.append(job)
        return job.done

    @property
    def waiting(self) -> int:
        """How many wait, or are under way."""
        return self._waiting + len(self._running)

    async def stop(self, patience_seconds: float) -> None:
        """Send what waits, for so long; then drop the rest."""
        if self._lines:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            timer = self._clock.callLater(patience_seconds, self._give_up)
            await idle
            if timer.active():
                timer.cancel()

    def _next(self) -> None:
        """Begin with what is ready, as far as there is room."""
        if self._beginning:
            return
        self._beginning = True
        while self._ready and len(self._running) < self._at_once:
            line = self._ready.popleft()
            job = self._lines[line][0]
            self._waiting -= 1
            sending = Deferred.fromCoroutine(self._send(job.notice))
            sending.addTimeout(self._timeout_seconds, self._clock, self._timed_out)
            self._running[line] = sending
            sending.addBoth(self._ended, line, job)
        self._beginning = False

    def _timed_out(self, result: object, seconds: float) -> NoReturn:
        raise NotTold(f"not done within {seconds:g} seconds")

    def _ended(self, result: object, line: str, job: _Job) -> None:
        del self._running[line]
        jobs = self._lines[line]
        jobs.popleft()
        if jobs:
            self._ready.append(line)
        else:
            del self._lines[line]
        if isinstance(result, Failure):
            self.figures.failed += 1
            _settle(job, _plain(result))
        else:
            self.figures.sent += 1
            _settle(job, None)
        self._next()
        self._tell_idle()

    def _give_up(self) -> None:
        """Drop what waits, and end what is under way."""
        self._ready.clear()
        for line, jobs in list(self._lines.items()):
            begun = 1 if line in self._running else 0
            while len(jobs) > begun:
                self._waiting -= 1
                self.figures.dropped += 1
                _settle(jobs.pop(), Failure(NotTold("the server stops")))
            if not jobs:
                del self._lines[line]
        for sending in list(self._running.values()):
            sending.cancel()
        self._tell_idle()

    def _tell_idle(self) -> None:
        if not self._lines:
            idle, self._idle = self._idle, []
            for one in idle:
                one.callback(None)


def _settle(job: _Job, result: Failure | None) -> None:
    """Tell whoever waits for it, if he still does."""
    if not job.done.called:
        job.done.callback(result)


def _plain(failure: Failure) -> Failure:
    """What went wrong, without where in our program it was noticed when that is the receiver's affair."""
    if failure.check(CancelledError):
        return Failure(NotTold("the server stops"))
    if failure.check(ConnectionRefusedError):
        return Failure(NotTold("connection refused"))
    return failure
