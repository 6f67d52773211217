"""
What the limits remember, for several processes together.

Purpose: the same as L{tpops.policy.memory}, in memory that all workers have mapped, so that limits are exact across
them.  Each worker has a row of its own in which its connections stand; when it dies, however it dies, the supervisor
clears the row.  Logins and failures stand in tables of buckets.

    header       for each row: how many connections it has; then how many rows are in use
                 for each row: how many sessions of users it has
    rows         for each row: L{PLACES} keys of clients, of users, and of users at clients
    logins       buckets of entries: key, when
    failures     buckets of entries: key, when, how many, the wrong passwords that are known

Keys are keyed hashes (with a secret that is made at the start), so that nobody can choose where he stands, and no
password is there.  All access is under one lock, on the memory's file, which the kernel releases when its holder dies.
Limits: L{PLACES} connections in a worker, L{ROWS} workers, old and new ones together.  Where a bucket is full, its
oldest entry is forgotten.  Counting costs a search through the keys of all open connections.
A lock that cannot be had for L{PATIENCE_SECONDS} (its holder is stopped) is not waited for: the connection is let in.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from tpops.errors import LimitReached
from tpops.interfaces import ITicket
from tpops.policy.memory import FORGET_SECONDS, KNOWN, Penalty, all_taken, mark_of, taken_by, taken_by_user, text_of

_log = Logger()

ROWS = 160
PLACES = 16384

#: Entries of a bucket, and buckets of the two tables.
WAYS = 8
LOGIN_BUCKETS = 16384
FAILURE_BUCKETS = 16384

PATIENCE_SECONDS = 0.25

#: Who has failed here, by name, so that he can be shown.
_MOST_NAMED = 10_000

#: Keys that are remembered, so that a client who comes often is hashed once.
_MOST_HASHES = 8192

_KEY = 8
_MARK = 8
_LOGIN = struct.Struct("=8sd")
_FAILURE = struct.Struct(f"=8sdI4x{KNOWN * _MARK}s")

#: Keys of a row: clients; and, with a count of their own, users, and users at clients.
_CLIENTS, _USERS, _USERS_AT_CLIENTS = range(3)
_KINDS = 3

_ROWS_AT = 4096
_ROW = PLACES * _KEY * _KINDS
_LOGINS_AT = _ROWS_AT + ROWS * _ROW
_FAILURES_AT = _LOGINS_AT + LOGIN_BUCKETS * WAYS * _LOGIN.size
_OCTETS = _FAILURES_AT + FAILURE_BUCKETS * WAYS * _FAILURE.size

_NOBODY = bytes(_KEY)


class Stopped(Exception):
    """Whoever holds the lock does not go on."""


def make() -> int:
    """New memory, which only those have who are given its descriptor."""
    descriptor = os.memfd_create("tpops-limits", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _OCTETS)
    return descriptor


class Table:
    """
    The memory, mapped.

    @param descriptor: of L{make}; it belongs to this object, since closing any other of the same file in this process
        would release the lock
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.memory = mmap.mmap(descriptor, _OCTETS)
        self.counts = memoryview(self.memory)[: (ROWS + 1) * 4].cast("I")
        self.user_counts = memoryview(self.memory)[(ROWS + 1) * 4 : (ROWS * 2 + 1) * 4].cast("I")

    def lock(self) -> None:
        """
        From now on nobody else counts.

        @raise Stopped: when somebody else has the lock, and keeps it
        """
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            until = time.monotonic() + PATIENCE_SECONDS
        while True:
            time.sleep(0.0001)
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > until:
                    raise Stopped from None
            else:
                return

    def unlock(self) -> None:
        """Others may count."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def clear(self, row: int) -> None:
        """Nobody has this row any more, or not yet."""
        # Writes that cannot be torn; who counts meanwhile may be wrong by the connections of a dead worker.
        self.counts[row] = self.user_counts[row] = 0
        self.counts[ROWS] = max(self.counts[ROWS], row + 1)

    def count(self, kind: int, key: bytes) -> int:
        """How many connections stand under a key; locked."""
        found = 0
        counts = self.counts if kind == _CLIENTS else self.user_counts
        for row in range(self.counts[ROWS]):
            count = counts[row]
            if count:
                start = self.start(row, kind)
                found += self.memory[start : start + count * _KEY].count(key)
        return found

    def start(self, row: int, kind: int) -> int:
        """Where the keys of a row begin."""
        return _ROWS_AT + row * _ROW + kind * PLACES * _KEY

    def connections(self) -> int:
        """All together."""
        return sum(self.counts[: self.counts[ROWS]])

    def close(self) -> None:
        """Let go of it."""
        self.counts.release()
        self.user_counts.release()
        self.memory.close()
        os.close(self.descriptor)


@implementer(ITicket)
class _Place:
    """
    A place in a worker's row.

    @ivar at: where in its row it stands, -1 for nowhere
    """

    __slots__ = ("_seats", "at")

    def __init__(self, seats: _Seats, at: int) -> None:
        self._seats: _Seats | None = seats
        self.at = at

    def release(self) -> None:
        seats, self._seats = self._seats, None
        if seats is not None and self.at >= 0:
            seats.leave(self.at)


class _Seats:
    """
    The places of a worker's row that have a count of their own: of clients, or of users.

    @param kinds: which keys belong to a place
    @param counts: where its count is
    """

    def __init__(self, table: Table, row: int, kinds: tuple[int, ...], counts: memoryview[int]) -> None:
        self._table = table
        self._row = row
        self._counts = counts
        self._starts = tuple(table.start(row, kind) for kind in kinds)
        self._places: list[_Place] = []

    def take(self, *keys: bytes) -> _Place:
        """
        A place, with these keys; locked.

        @raise LimitReached: when the row is full
        """
        at = self._counts[self._row]
        if at >= PLACES:
            raise LimitReached("connections", f"{at} connections in one worker, which is what it can count")
        memory = self._table.memory
        for start, key in zip(self._starts, keys, strict=True):
            memory[start + at * _KEY : start + (at + 1) * _KEY] = key
        self._counts[self._row] = at + 1
        place = _Place(self, at)
        self._places.append(place)
        return place

    def leave(self, at: int) -> None:
        """
        A place is given back: the last one of the row moves there.

        Only this process writes into its row, so no lock is needed; for a moment the last one is there twice, and never
        one too few.
        """
        last = self._counts[self._row] - 1
        memory = self._table.memory
        for start in self._starts:
            moved = start + last * _KEY
            memory[start + at * _KEY : start + (at + 1) * _KEY] = memory[moved : moved + _KEY]
        self._counts[self._row] = last
        place = self._places.pop()
        if place.at != at:
            place.at = at
            self._places[at] = place


class SharedMemory:
    """
    A worker's view; see L{tpops.policy.memory.AnyMemory}.

    @param table: the memory
    @param row: which row is this worker's
    @param secret: of all workers
    """

    def __init__(self, table: Table, row: int, secret: bytes, seconds: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._clients = _Seats(table, row, (_CLIENTS,), table.counts)
        self._users = _Seats(table, row, (_USERS, _USERS_AT_CLIENTS), table.user_counts)
        self._secret = secret
        self._seconds = seconds
        self._told_at = float("-inf")
        self._hash = lru_cache(_MOST_HASHES)(partial(_hash, secret))
        self._failing: OrderedDict[tuple[str, str], None] = OrderedDict()

    @property
    def open_connections(self) -> int:
        """Of all workers."""
        return self._table.connections()

    def enter(self, key: str | None, most: int, most_of_key: int) -> ITicket:
        hashed = _NOBODY if key is None else self._hash("c", key)
        table = self._table
        try:
            table.lock()
        except Stopped:
            self._tell()
            return _Place(self._clients, -1)
        try:
            if most > 0:
                count = table.connections()
                if count >= most:
                    raise all_taken(count, most)
            if key is not None:
                count = table.count(_CLIENTS, hashed)
                if count >= most_of_key:
                    raise taken_by(key, count, most_of_key)
            return self._clients.take(hashed)
        finally:
            table.unlock()

    def enter_user(self, user: str, client: str | None, most: int, most_of_client: int) -> ITicket:
        key = self._hash("u", user)
        both = _NOBODY if client is None else self._hash("a", f"{client}\n{user}")
        table = self._table
        try:
            table.lock()
        except Stopped:
            self._tell()
            return _Place(self._users, -1)
        try:
            if most > 0:
                count = table.count(_USERS, key)
                if count >= most:
                    raise taken_by_user(user, "", count, most)
            if client is not None and most_of_client > 0:
                count = table.count(_USERS_AT_CLIENTS, both)
                if count >= most_of_client:
                    raise taken_by_user(user, client, count, most_of_client)
            return self._users.take(key, both)
        finally:
            table.unlock()

    def login(self, name: str, now: float, delay: float) -> float | None:
        key = self._hash("l", name)
        table = self._table
        try:
            table.lock()
        except Stopped:
            self._tell()
            return None
        try:
            at, entry = self._find(_LOGIN, _LOGINS_AT, LOGIN_BUCKETS, key)
            if entry is not None and 0 <= now - entry[1] < delay:
                return float(now - entry[1])
            _LOGIN.pack_into(table.memory, at, key, now)
        finally:
            table.unlock()
        return None

    def failed(self, client: str, name: bytes, proof: bytes, now: float) -> int:
        mark = mark_of(self._secret, name, proof)[:_MARK]
        keys = (self._hash("f", client), self._hash("n", text_of(name)))
        for one in (("f", client), ("n", text_of(name))):
            self._failing[one] = None
            self._failing.move_to_end(one)
        while len(self._failing) > _MOST_NAMED:
            self._failing.popitem(last=False)
        try:
            self._table.lock()
        except Stopped:
            self._tell()
            return 1
        try:
            return max([self._failure(key, mark, now) for key in keys])
        finally:
            self._table.unlock()

    def penalties(self, now: float) -> list[Penalty]:
        found = []
        for what, text in list(self._failing):
            _, entry = self._find(_FAILURE, _FAILURES_AT, FAILURE_BUCKETS, self._hash(what, text))
            if entry is None or entry[2] == 0 or now - entry[1] > FORGET_SECONDS:
                del self._failing[what, text]
            else:
                found.append(Penalty("client" if what == "f" else "name", text, entry[2], now - entry[1]))
        return found

    def forgive(self, key: str) -> bool:
        try:
            self._table.lock()
        except Stopped:
            self._tell()
            return False
        try:
            client, name = (self._forget(self._hash(what, key)) for what in "fn")
            return client or name
        finally:
            self._table.unlock()

    def _forget(self, key: bytes) -> bool:
        at, entry = self._find(_FAILURE, _FAILURES_AT, FAILURE_BUCKETS, key)
        if entry is None:
            return False
        self._table.memory[at : at + _FAILURE.size] = bytes(_FAILURE.size)
        return True

    def _failure(self, key: bytes, mark: bytes, now: float) -> int:
        at, entry = self._find(_FAILURE, _FAILURES_AT, FAILURE_BUCKETS, key)
        count, known = 0, b""
        if entry is not None and now - entry[1] <= FORGET_SECONDS:
            count, known = entry[2], entry[3]
        if all(known[place : place + _MARK] != mark for place in range(0, len(known), _MARK)):
            count += 1
            known = (known + mark)[-KNOWN * _MARK :].rjust(KNOWN * _MARK, b"\0")
        _FAILURE.pack_into(self._table.memory, at, key, now, count, known)
        return count

    def _find(self, form: struct.Struct, start: int, buckets: int, key: bytes) -> tuple[int, tuple[Any, ...] | None]:
        """Where an entry is, with its fields; or where a new one may be: in the place of the oldest."""
        first = start + int.from_bytes(key) % buckets * WAYS * form.size
        oldest, oldest_at = float("inf"), first
        for at in range(first, first + WAYS * form.size, form.size):
            entry = form.unpack_from(self._table.memory, at)
            if entry[0] == key:
                return at, entry
            if entry[1] < oldest:
                oldest, oldest_at = entry[1], at
        return oldest_at, None

    def _tell(self) -> None:
        """Say that nothing was counted, once a minute."""
        now = self._seconds()
        if now - self._told_at >= 60:
            self._told_at = now
            _log.error("limits cannot be counted: a worker that holds their lock does not go on", event="limits-stuck")


def _hash(secret: bytes, what: str, text: str) -> bytes:
    """The key of a text."""
    octets = text.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(octets, key=secret, digest_size=_KEY, person=what.encode()).digest()
