"""
When users logged in last: the sink that keeps it.

Purpose: a login is a note in memory; notes are written together, in a thread, every few seconds.  Several of one user
from one address are one note.
Limits: so many notes at most; while the file cannot be written, further ones are failures.  Nobody waits for it.  A
kill loses the notes of the last seconds, a stop writes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tpops.db.addresses import canonical
from tpops.db.last_logins import LastLogin, LastLogins, NotKept
from tpops.events.deliveries import NotTold
from tpops.interfaces import IEventSink
from tpops.model import Event

#: Notes that are kept in memory.
MOST_NOTES = 20_000

#: By user and address.
_Notes = dict[tuple[str, str], LastLogin]


@implementer(IEventSink)
class LastLoginSink:
    """
    See the module.

    @param run_in_thread: runs a blocking function in a thread
    @param epoch: seconds since the epoch
    @param every_seconds: between a login and its writing
    """

    name = "last_login"
    wants = frozenset(("login",))
    before_ok = False

    _log = Logger()

    def __init__(
        self,
        store: LastLogins,
        clock: IReactorTime,
        run_in_thread: Callable[..., Deferred[object]],
        epoch: Callable[[], float],
        every_seconds: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._run_in_thread = run_in_thread
        self._epoch = epoch
        self._every_seconds = every_seconds
        self._notes: _Notes = {}
        self._timer: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None
        self._failing = False

    def notify(self, event: Event) -> Awaitable[None] | None:
        """Make a note."""
        session = event.session
        if session.user is None or session.master is not None:
            return None
        key = (session.user, canonical(session.peer.host) or "")
        before = self._notes.get(key)
        if before is None and len(self._notes) >= MOST_NOTES:
            raise NotTold(f"{len(self._notes)} others wait to be written")
        count = 1 if before is None else before.count + 1
        self._notes[key] = LastLogin(*key, int(event.at), count, session.mechanism)
        if self._timer is None and self._writing is None:
            self._timer = self._clock.callLater(self._every_seconds, self._write)
        return None

    async def stop(self) -> None:
        """Write what there is, once, and close the file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await self._after()
        if self._notes:
            self._write(again=False)
            await self._after()
        self._store.close()

    async def _after(self) -> None:
        over: Deferred[None] = Deferred()
        if self._writing is not None:
            self._writing.addCallback(over.callback)
            await over

    def _write(self, again: bool = True) -> None:
        self._timer = None
        notes, self._notes = self._notes, {}
        writing = self._run_in_thread(self._store.note, tuple(notes.values()), int(self._epoch()))
        done: Deferred[None] = Deferred()
        self._writing = done
        writing.addBoth(self._written, notes, done, again)

    def _written(
        self, result: object, notes: dict[tuple[str, str], LastLogin], done: Deferred[None], again: bool
    ) -> None:
        self._writing = None
        if isinstance(result, Failure):
            self._not_written(result, notes)
        elif self._failing:
            self._failing = False
            self._log.info("{path} is written again", path=self._store.path)
        if self._notes and again:
            self._timer = self._clock.callLater(self._every_seconds, self._write)
        done.callback(None)

    def _not_written(self, failure: Failure, notes: _Notes) -> None:
        """Tell it once, and keep the notes for the next time."""
        if not failure.check(NotKept):
            self._log.failure("the last logins are not kept", failure)
        elif not self._failing:
            self._log.error("the last logins are not kept: {why}", event="last-login", why=failure.getErrorMessage())
        self._failing = True
        for key, older in notes.items():
            newer = self._notes.get(key)
            if newer is not None:
                self._notes[key] = attrs.evolve(newer, count=newer.count + older.count)
            elif len(self._notes) < MOST_NOTES:
                self._notes[key] = older
