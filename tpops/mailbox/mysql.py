"""
Mail in MySQL or MariaDB.

Purpose: opens mailboxes in the tables of TPOPS or of schema v2 (L{tpops.mailbox.mysql_schema}), and stores new mail in
them.  A location C{mysql:NAME} says whose mail it is in the database.  What sessions hold is renewed while they last.
Limits: a session waits for another one of the same mailbox by looking again and again.  Two connections of one process
never ask the database for the same mailbox.
Errors: a database that does not answer is StorageUnavailable, tables that are missing are MaildropBroken.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops.db.mysql import Client, DatabaseFailed
from tpops.errors import MaildropBroken, MaildropBusy, StorageUnavailable
from tpops.interfaces import IIncomingMessage, IMaildrop
from tpops.mailbox.index import Stamp
from tpops.mailbox.listings import SnapshotCache
from tpops.mailbox.mysql_ahead import Budget
from tpops.mailbox.mysql_schema import Held, Schema, State, storage_error
from tpops.mailbox.mysql_session import MySQLSession
from tpops.mailbox.snapshot import Snapshot
from tpops.model import Account, Envelope

_T = TypeVar("_T")

_log = Logger()

#: Seconds between two tries for a mailbox that another session has.
_RETRY_SECONDS = 0.25

_NOTHING = (0, 0, 0)

#: Memory for what all sessions have read ahead.
_AHEAD_OCTETS = 16 << 20


#: What a schema does that keeps unique-ids; arguments are client, name, message, unique-id and time of arrival.
Restore = Callable[[Client, str, IIncomingMessage, bytes, float], None]


class RunsWork(Protocol):
    """A pool of connections, as L{tpops.db.mysql_pool.Pool} is."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def run(self, work: Callable[[Client, float], _T], to_the_end: bool = False) -> Deferred[_T]: ...


@attrs.frozen(kw_only=True)
class MySQLOptions:
    """
    How mail in a database is served.

    @ivar lock_wait_seconds: how long to wait for another session to end
    @ivar cache_octets: memory for listings
    @ivar stop_seconds: how long a stop waits until what sessions held is released
    """

    lock_wait_seconds: float = 10.0
    cache_octets: int = 64 << 20
    stop_seconds: float = 5.0


class MySQLDriver:
    """
    See the module.

    @ivar schema: the tables
    @ivar ahead: for what sessions read ahead
    @param make_pool: makes the pool, at the start
    @param clock: the time and timers, as a reactor has them
    """

    def __init__(self, options: MySQLOptions, schema: Schema, make_pool: Callable[[], RunsWork], clock: Any) -> None:
        self.options = options
        self.schema = schema
        self.ahead = Budget(_AHEAD_OCTETS)
        self._make_pool = make_pool
        self._clock = clock
        self._pool: RunsWork | None = None
        self._cache: SnapshotCache[Stamp, Snapshot] = SnapshotCache(options.cache_octets)
        #: Mailboxes of sessions that begin, last or end, by key.
        self._taken: set[bytes] = set()
        self._held: dict[bytes, Held] = {}
        self._renewal: Any = None

    # The store.

    def start(self) -> None:
        """
        Be ready.

        @raise ConfigError: when the password for the database cannot be read
        """
        self._pool = self._make_pool()
        self._pool.start()

    async def stop(self) -> None:
        """Wait a moment for what is being released, and let go of the connections."""
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        until = self._clock.seconds() + self.options.stop_seconds
        while self._taken and self._clock.seconds() < until:
            await self._sleep(0.02)
        if self._pool is not None:
            self._pool.stop()

    async def open_at(self, account: Account, place: bytes) -> IMaildrop:
        """The maildrop of an owner; raises as L{IMaildropDriver.open_maildrop} does."""
        name = os.fsdecode(place)
        key = self.schema.key(name)
        deadline = self._clock.seconds() + self.options.lock_wait_seconds
        while True:
            if key not in self._taken:
                opened = await self._try(name, key)
                if opened is not None:
                    return opened
            now = self._clock.seconds()
            if now >= deadline:
                raise MaildropBusy(f"the mail of {name} in the database is open in another session")
            await self._sleep(min(_RETRY_SECONDS, deadline - now))

    async def append_at(self, account: Account, place: bytes, message: IIncomingMessage, envelope: Envelope) -> bytes:
        """See L{IAppendable.append}."""
        name = os.fsdecode(place)

        def work(client: Client, until: float) -> bytes:
            return self.schema.add(client, name, message, envelope.at, account)

        try:
            return await self.run(work, to_the_end=True)
        except OSError as problem:
            raise StorageUnavailable(f"the message cannot be read: {problem}") from problem

    async def restore_at(
        self, account: Account, place: bytes, message: IIncomingMessage, unique_id: bytes, at: float
    ) -> None:
        """See L{IRestorable.restore}."""
        name = os.fsdecode(place)
        restore: Restore | None = getattr(self.schema, "restore", None)
        if restore is None:
            raise MaildropBroken("TPOPS' tables make unique-ids of their own; only those of schema v2 keep others")

        def work(client: Client, until: float) -> None:
            restore(client, name, message, unique_id, at)

        try:
            await self.run(work, to_the_end=True)
        except OSError as problem:
            raise StorageUnavailable(f"the message cannot be read: {problem}") from problem

    # For sessions.

    async def run(self, work: Callable[[Client, float], _T], to_the_end: bool = False) -> _T:
        """
        Do some work in a thread; see L{tpops.db.mysql_pool.Pool.run}.

        @raise StorageUnavailable: when the database does not answer
        @raise MaildropBroken: when it has not what it should have
        """
        try:
            return await self._begin(work, to_the_end)
        except DatabaseFailed as failed:
            raise storage_error(failed) from None

    def release(self, key: bytes, held: Held) -> Awaitable[None]:
        """Let go of a mailbox; never fails."""
        self._held.pop(key, None)
        if not self._held and self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

        def work(client: Client, until: float) -> None:
            self.schema.release(client, until, held)

        def over(result: object) -> None:
            self._taken.discard(key)
            if isinstance(result, Failure):
                _log.warn("a mailbox could not be released; it is when its lock expires: {why}", why=result.value)

        return _not_cancelled(self._begin(work, to_the_end=True).addBoth(over), lambda _: None)

    # Opening.

    async def _try(self, name: str, key: bytes) -> IMaildrop | None:
        """The maildrop, None when another session has it."""
        self._taken.add(key)
        kept = self._cache.get(key)
        job = self._begin(partial(self._open, name, _unpacked(kept)), to_the_end=True)
        opened: tuple[Held, State, Snapshot] | None = None
        try:
            opened = await _not_cancelled(job, partial(self._undo, key))
        except DatabaseFailed as failed:
            raise storage_error(failed) from None
        finally:
            # Whoever cancels us leaves it to _undo.
            if opened is None and job.called:
                self._taken.discard(key)
        if opened is None:
            return None
        held, state, snapshot = opened
        self._cache.put(key, _packed(state), snapshot)
        self._held[key] = held
        if self._renewal is None:
            self._renew_later()
        return MySQLSession(self, key, held, snapshot)

    def _open(
        self, name: str, kept: tuple[State, Snapshot] | None, client: Client, until: float
    ) -> tuple[Held, State, Snapshot] | None:
        """In a thread: lock and list."""
        held = self.schema.take(client, until, name)
        if held is None:
            return None
        try:
            return (held, *self.schema.listing(client, until, held, kept))
        except BaseException:
            self._let_go(client, held)
            raise

    def _let_go(self, client: Client, held: Held) -> None:
        """In a thread: release what is of no use."""
        try:
            self.schema.release(client, None, held)
        except DatabaseFailed as failed:
            _log.warn("a mailbox could not be released; it is when its lock expires: {why}", why=failed)

    def _undo(self, key: bytes, opened: object) -> None:
        """Nobody waits for it any more."""
        if isinstance(opened, tuple):
            self.release(key, opened[0])
        else:
            self._taken.discard(key)

    # Renewing.

    def _renew_later(self) -> None:
        self._renewal = self._clock.callLater(self.schema.lease_seconds / 3, self._renew)

    def _renew(self) -> None:
        held = list(self._held.values())

        def work(client: Client, until: float) -> None:
            self.schema.renew(client, until, held)

        def over(result: object) -> None:
            if isinstance(result, Failure):
                _log.warn("the locks of {count} sessions are not renewed: {why}", count=len(held), why=result.value)

        self._begin(work, to_the_end=True).addBoth(over)
        self._renew_later()

    def _begin(self, work: Callable[[Client, float], _T], to_the_end: bool) -> Deferred[_T]:
        if self._pool is None:
            return fail(DatabaseFailed("not started"))
        return self._pool.run(work, to_the_end)

    def _sleep(self, seconds: float) -> Deferred[None]:
        over: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(seconds, over.callback, None)
        return over


def _not_cancelled(job: Deferred[_T], undo: Callable[[object], None]) -> Deferred[_T]:
    """Fires as the job does; when it is cancelled, the job goes on and C{undo} gets its result."""
    outer: Deferred[_T] = Deferred()

    def over(result: Any) -> None:
        if outer.called:
            undo(result)
        else:
            outer.callback(result)

    job.addBoth(over)
    return outer


def _packed(state: State) -> Any:
    """A state as the cache of listings wants it: a stamp."""
    return (state, _NOTHING, _NOTHING)


def _unpacked(kept: Any) -> tuple[State, Snapshot] | None:
    return None if kept is None else (kept[0][0], kept[1])
