"""
Programs that stay and answer one question after the other.

Purpose: hand each question to a program that has nothing to do, wait for the answer no longer than allowed, and keep
the number of programs.  A program that answers too late, wrongly or not at all is ended, so that a late answer can
never be taken for that to another question; the next question gets a new one.
Limits: one question at a time for each program.  A program that ends by itself again and again is started after longer
and longer pauses.
Errors: LookupUnavailable for whatever is not an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tpops.cred.programs import Program, Programs
from tpops.cred.turns import Turns
from tpops.errors import LookupUnavailable

_log = Logger()

Answer = dict[str, bytes]

#: Pauses before a start when the program has ended without an answer: the first and the longest.
_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


class Reply(Protocol):
    """An answer that comes in pieces; see L{tpops.cred.pairs.Unpacking}."""

    def feed(self, octets: bytes) -> Answer | None:
        """The next piece."""


class Worker:
    """
    One program.

    @ivar answers: how many it has given
    """

    def __init__(self, workers: Workers, programs: Programs) -> None:
        self.answers = 0
        self._workers = workers
        self._reply: Reply | None = None
        self._waits: Deferred[Answer] | None = None
        self._over = False
        self._wrong = False
        self._secrets: Collection[bytes] = ()
        self._program: Program = programs.run(self)

    @property
    def usable(self) -> bool:
        """Whether it can be asked."""
        return not self._over

    def look(self) -> bool:
        """Whether it can be asked, and has written nothing since its last answer."""
        if not self._over:
            self._program.look()
        return not self._over

    def ask(self, question: bytes, reply: Reply, secrets: Collection[bytes]) -> Deferred[Answer]:
        """Write the question."""
        self._reply, self._waits = reply, Deferred(lambda _: self.end("no answer in time"))
        # Messages may come later than the answer that they belong to.
        self._program.secrets, self._secrets = (*secrets, *self._secrets), secrets
        answer = self._waits
        try:
            self._program.write(question)
        except LookupUnavailable:
            self.end("the program does not read")
        return answer

    def end(self, why: str, wrong: bool = False) -> None:
        """
        End the program; who waits for an answer is told why.

        @param wrong: whether it has written what it must not
        """
        self._over = True
        self._wrong = wrong
        self._program.kill()
        self._fail(why)

    def received(self, octets: bytes) -> None:
        """See L{tpops.cred.programs.Receiver}."""
        if self._over:
            return
        if self._waits is None or self._reply is None:
            self.end("the program has written something that nobody asked for", wrong=True)
            _log.error("{source}: the program writes without being asked", source=self._workers.name)
            return
        try:
            answer = self._reply.feed(octets)
        except ValueError as error:
            self.end(f"the answer cannot be used: {error}", wrong=True)
            return
        if answer is not None:
            self.answers += 1
            waits, self._waits = self._waits, None
            waits.callback(answer)

    def ended(self, status: int | None) -> None:
        """See L{tpops.cred.programs.Receiver}."""
        by_itself, self._over = not self._over, True
        if by_itself and status is not None:
            _log.error("{source}: the program has ended, status {status}", source=self._workers.name, status=status)
        self._workers.has_ended(self, by_itself or self._wrong)
        self._fail("the program has ended" if status is None else f"the program has ended with status {status}")

    def _fail(self, why: str) -> None:
        waits, self._waits = self._waits, None
        if waits is not None:
            waits.errback(LookupUnavailable(f"{self._workers.name}: {why}"))


class Workers:
    """
    See the module.

    @ivar name: the accounts source, for the log
    @param make_reply: starts the reading of an answer
    @param most: programs at the same time
    @param timeout_seconds: how long an answer may take
    @param answers: after so many a program is replaced by a new one, 0 for never
    """

    def __init__(
        self,
        programs: Programs,
        make_reply: Callable[[], Reply],
        most: int,
        timeout_seconds: float,
        answers: int = 0,
    ) -> None:
        self.name = programs.name
        self._programs = programs
        self._make_reply = make_reply
        self._timeout_seconds = timeout_seconds
        self._answers = answers
        self._reactor = programs.reactor
        self._turns = Turns(self.name, most, self._reactor)
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._pause_seconds = 0.0
        self._not_before = 0.0
        self._again: Any = None
        self._stopping = False

    def start(self) -> None:
        """Start the keeper and one program, so that the first client need not wait for it."""
        self._programs.start()
        self._idle.append(Worker(self, self._programs))

    async def stop(self) -> None:
        """End all programs."""
        self._stopping = True
        if self._again is not None and self._again.active():
            self._again.cancel()
        await self._programs.stop()

    async def ask(self, question: bytes, secrets: Collection[bytes] = ()) -> Answer:
        """
        The answer of a program.

        @param secrets: what must not be logged if a program repeats it
        @raise LookupUnavailable: when there is none
        """
        await self._turns.take()
        try:
            worker = self._next()
        except LookupUnavailable:
            self._turns.give()
            raise
        self._busy.add(worker)
        waits = worker.ask(question, self._make_reply(), secrets)
        late = self._reactor.callLater(self._timeout_seconds, self._late, worker)
        try:
            answer = await waits
        finally:
            if late.active():
                late.cancel()
            self._give_back(worker)
        self._pause_seconds = 0.0
        return answer

    def has_ended(self, worker: Worker, wrong: bool) -> None:
        """
        A program has ended; its place is free from now on, and not before.

        @param wrong: whether that was its own fault
        """
        if worker in self._idle:
            self._idle.remove(worker)
        if worker in self._busy:
            self._busy.discard(worker)
            self._turns.give()
        if self._stopping:
            return
        if wrong:
            self._pause(worker)
        if not self._idle and not self._busy and self._again is None:
            wait = max(0.0, self._not_before - self._reactor.seconds())
            self._again = self._reactor.callLater(wait, self._start_again)

    def _next(self) -> Worker:
        """A program that has nothing to do."""
        while self._idle:
            worker = self._idle.pop()
            if worker.look():
                return worker
        return self._started()

    def _started(self) -> Worker:
        if self._stopping or self._reactor.seconds() < self._not_before:
            raise LookupUnavailable(f"{self.name}: the program is not running, it is started again soon")
        return Worker(self, self._programs)

    def _start_again(self) -> None:
        self._again = None
        if self._idle or self._busy:
            return
        try:
            self._idle.append(self._started())
        except LookupUnavailable:
            self._again = self._reactor.callLater(_PAUSE_SECONDS, self._start_again)

    def _pause(self, worker: Worker) -> None:
        """No start for a while, unless it had been of use."""
        if worker.answers:
            return
        self._pause_seconds = min(max(_PAUSE_SECONDS, self._pause_seconds * 2), _LONGEST_PAUSE_SECONDS)
        self._not_before = self._reactor.seconds() + self._pause_seconds

    def _late(self, worker: Worker) -> None:
        _log.error(
            "{source}: no answer in {seconds:g} s, ending the program", source=self.name, seconds=self._timeout_seconds
        )
        worker.end(f"no answer in {self._timeout_seconds:g} seconds")

    def _give_back(self, worker: Worker) -> None:
        """A program that can be asked again waits for a question; the place of another is free once it has ended."""
        if not worker.usable:
            return
        if self._answers and worker.answers >= self._answers:
            worker.end("replaced")
            return
        self._busy.discard(worker)
        self._idle.append(worker)
        self._turns.give()
